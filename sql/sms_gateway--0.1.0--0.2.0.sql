\echo Use "ALTER EXTENSION sms_gateway UPDATE TO '0.2.0'" to load this file. \quit

-- First, and at once as strongly as it will be: whoever waits then waits for this, and it for nobody that waits.
LOCK TABLE sms_outbox IN ACCESS EXCLUSIVE MODE;

-- No two names differ by one letter.
ALTER TABLE sms_gateway_report RENAME TO sms_gateway_callback;
ALTER INDEX sms_gateway_report_pkey RENAME TO sms_gateway_callback_pkey;
ALTER INDEX sms_gateway_report_unknown RENAME TO sms_gateway_callback_unknown;

-- A gateway's trouble has more states than one.
ALTER TABLE sms_gateway_state
    ADD state text NOT NULL DEFAULT 'paused' CONSTRAINT state_is_known CHECK (state IN ('resting', 'unreachable', 'paused', 'resumed')),
    ADD next_probe_at timestamptz;
COMMENT ON TABLE sms_gateway_state IS 'gateways that are not active, and why; others have no row';
COMMENT ON COLUMN sms_gateway_state.reason IS 'why it is not active';
COMMENT ON COLUMN sms_gateway_state.by_user IS 'paused by sms_pause (until sms_resume), not by the gateway''s answers (until a probe passes)';
COMMENT ON COLUMN sms_gateway_state.since IS 'when the state began';
COMMENT ON COLUMN sms_gateway_state.state IS 'resting, unreachable or paused; resumed: by sms_resume, and its messages are being made due';
COMMENT ON COLUMN sms_gateway_state.next_probe_at IS 'when one message is tried; NULL: not by itself';

-- What a gateway says of a role's credentials is that role's trouble.
CREATE TABLE sms_gateway_refused (
    gateway name,
    role oid,
    credentials bigint NOT NULL,
    reason text NOT NULL,
    since timestamptz NOT NULL,
    next_probe_at timestamptz NOT NULL,
    PRIMARY KEY (gateway, role));
COMMENT ON TABLE sms_gateway_refused IS 'roles whose own credentials a gateway refuses: their messages wait';
COMMENT ON COLUMN sms_gateway_refused.gateway IS 'the foreign server';
COMMENT ON COLUMN sms_gateway_refused.role IS 'whose user mapping it is';
COMMENT ON COLUMN sms_gateway_refused.credentials IS 'tells whether the mapping is still the same';
COMMENT ON COLUMN sms_gateway_refused.reason IS 'what the gateway answered';
COMMENT ON COLUMN sms_gateway_refused.since IS 'when that began';
COMMENT ON COLUMN sms_gateway_refused.next_probe_at IS 'when one message of the role is tried';
REVOKE ALL ON sms_gateway_refused FROM PUBLIC;

-- Where the server of an outbox runs; unknown until its worker writes it down.
ALTER TABLE sms_gateway_identity
    ADD timeline bigint,
    ADD place text,
    ADD machine bigint,
    ADD filesystem bigint,
    ADD file bigint,
    ADD born timestamptz,
    ADD directory text,
    ADD citus_group integer,
    ADD held boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN sms_gateway_identity.timeline IS 'of the server, when it was last at home';
COMMENT ON COLUMN sms_gateway_identity.place IS 'sms_gateway.place, then';
COMMENT ON COLUMN sms_gateway_identity.machine IS 'hash of its machine''s id';
COMMENT ON COLUMN sms_gateway_identity.filesystem IS 'number of the file system of its data directory';
COMMENT ON COLUMN sms_gateway_identity.file IS 'inode number of PG_VERSION in its data directory';
COMMENT ON COLUMN sms_gateway_identity.born IS 'when that file was made';
COMMENT ON COLUMN sms_gateway_identity.directory IS 'path of its data directory';
COMMENT ON COLUMN sms_gateway_identity.citus_group IS 'its group in a Citus cluster';
COMMENT ON COLUMN sms_gateway_identity.held IS 'it was found to be a copy of the files, and is held';
-- Gateways are found by their wrapper's belonging to the extension, not by its name.
CREATE FUNCTION sms_gateway_checks(OUT name text, OUT problem text, OUT since timestamptz) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 6;
COMMENT ON FUNCTION sms_gateway_checks() IS
    'internal: what sending from this database needs of the server, what is wrong with each, and since when, if that is known';
-- Whose it is, who may read it and the views that others made of it stay.
ALTER VIEW sms_gateways RENAME COLUMN paused_since TO since;
CREATE OR REPLACE VIEW sms_gateways AS
WITH RECURSIVE waiting(name) AS (
    -- The gateways of queued messages, each by one look into the index of those.
    (SELECT o.gateway FROM @extschema@.sms_outbox o WHERE o.status OPERATOR(pg_catalog.=) 'queued'
      ORDER BY o.gateway LIMIT 1)
    UNION ALL
    SELECT (SELECT o.gateway FROM @extschema@.sms_outbox o
             WHERE o.status OPERATOR(pg_catalog.=) 'queued' AND o.gateway OPERATOR(pg_catalog.>) w.name
             ORDER BY o.gateway LIMIT 1)
      FROM waiting w WHERE w.name IS NOT NULL),
server AS (
    SELECT s.srvname AS name, w.fdwname AS provider, s.srvoptions AS options,
           EXISTS (SELECT FROM pg_catalog.pg_user_mappings m WHERE m.srvid OPERATOR(pg_catalog.=) s.oid) AS mapped
      FROM pg_catalog.pg_foreign_server s
      JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid OPERATOR(pg_catalog.=) s.srvfdw
     WHERE EXISTS (SELECT FROM pg_catalog.pg_depend d
                     JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
                    WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass
                      AND d.objid OPERATOR(pg_catalog.=) w.oid
                      AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
                      AND d.deptype OPERATOR(pg_catalog.=) 'e'
                      AND e.extname OPERATOR(pg_catalog.=) 'sms_gateway')),
gateway AS (
    SELECT s.name, s.provider, s.options, s.mapped FROM server s
    UNION ALL
    SELECT w.name, NULL, NULL, true FROM waiting w
     WHERE w.name IS NOT NULL AND NOT EXISTS (SELECT FROM server s WHERE s.name OPERATOR(pg_catalog.=) w.name)),
held AS (SELECT h.why, h.since FROM (SELECT) AS one
           LEFT JOIN LATERAL (SELECT k.problem AS why, k.since FROM @extschema@.sms_gateway_checks() k
                               WHERE k.problem IS NOT NULL AND k.name OPERATOR(pg_catalog.<>) 'launcher' LIMIT 1) h ON true)
SELECT g.name,
       g.provider,
       CASE WHEN g.provider IS NULL THEN 'missing'
            WHEN h.why IS NOT NULL OR (p.state IS NULL AND NOT g.mapped) THEN 'held'
            ELSE coalesce(p.state, 'active') END AS state,
       CASE WHEN g.provider IS NULL THEN 'there is no such server'
            WHEN h.why IS NOT NULL THEN h.why
            WHEN NOT g.mapped THEN pg_catalog.concat_ws('; ', p.reason, 'no role has a user mapping for it')
            WHEN p.reason IS NULL THEN c.refused
            ELSE pg_catalog.concat_ws('; ', p.reason, c.refused) END COLLATE pg_catalog."default" AS reason,
       CASE WHEN g.provider IS NULL THEN NULL
            WHEN h.why IS NOT NULL THEN h.since
            ELSE p.since END AS since,
       (SELECT pg_catalog.count(*) FROM @extschema@.sms_outbox o
         WHERE o.status OPERATOR(pg_catalog.=) 'queued'
           AND o.gateway OPERATOR(pg_catalog.=) g.name) AS queued,
       (SELECT pg_catalog.count(*) FROM @extschema@.sms_gateway_lease l,
               LATERAL pg_catalog.unnest(l.ids) AS leased(id)
          JOIN @extschema@.sms_outbox o ON o.id OPERATOR(pg_catalog.=) leased.id
         WHERE o.status OPERATOR(pg_catalog.=) 'queued'
           AND o.gateway OPERATOR(pg_catalog.=) g.name) AS in_flight,
       (SELECT x.option_value FROM pg_catalog.pg_options_to_table(g.options) x
         WHERE x.option_name OPERATOR(pg_catalog.=) 'rate_limit')::numeric AS rate_limit,
       CASE WHEN g.provider IS NOT NULL AND h.why IS NULL THEN p.next_probe_at END AS next_probe_at
  FROM gateway g
 CROSS JOIN held h
  LEFT JOIN @extschema@.sms_gateway_state p
    ON p.gateway OPERATOR(pg_catalog.=) g.name AND p.state OPERATOR(pg_catalog.<>) 'resumed'
 CROSS JOIN LATERAL (
    SELECT pg_catalog.string_agg(pg_catalog.format('the credentials of role "%s" are refused: %s', r.role, r.reason), '; ')
      FROM (SELECT pg_catalog.pg_get_userbyid(f.role) AS role, f.reason FROM @extschema@.sms_gateway_refused f
             WHERE f.gateway OPERATOR(pg_catalog.=) g.name ORDER BY f.since LIMIT 5) r) AS c(refused);
COMMENT ON VIEW sms_gateways IS 'each gateway, whether it sends, and how much waits for it';
COMMENT ON COLUMN sms_gateways.name IS 'the foreign server';
COMMENT ON COLUMN sms_gateways.provider IS 'its wrapper; NULL: messages wait for a server that is not there';
COMMENT ON COLUMN sms_gateways.state IS 'active, resting (as it asked for), unreachable, paused (by sms_pause or its answers), held (nothing is sent from this database, or nobody has a user mapping for it) or missing';
COMMENT ON COLUMN sms_gateways.reason IS 'why it is not active; and whose credentials it refuses, five roles at most';
COMMENT ON COLUMN sms_gateways.since IS 'when this state began, or, if it is held, was noticed last; NULL: active or missing, or nobody knows';
COMMENT ON COLUMN sms_gateways.next_probe_at IS 'when one message is tried; NULL: not by itself';
COMMENT ON COLUMN sms_gateways.queued IS 'messages that wait, or are on their way';
COMMENT ON COLUMN sms_gateways.in_flight IS 'messages on their way';
COMMENT ON COLUMN sms_gateways.rate_limit IS 'messages a second at most; NULL: no limit';

-- The engine gives its statements rows without them.
DROP FUNCTION sms_gateway_results();
DROP FUNCTION sms_gateway_reports();

-- A message is queued exactly while it has a next attempt.  0.1.0 wrote no other rows, but owners may have;
-- nothing happens to these messages, so nobody's trigger is called.
-- What ended before there was a time of it, ended when it was last heard of.
-- Names decide whose the messages were, once more: of a role that is no more, nobody's.
ALTER TABLE sms_outbox ADD COLUMN ended_at timestamptz, ADD COLUMN creator oid;
CREATE FUNCTION sms_gateway_update_rows() RETURNS void LANGUAGE sql
    SET session_replication_role = 'replica' SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
UPDATE sms_outbox SET next_attempt_at = NULL, ended_at = coalesce(delivered_at, sent_at, created_at),
       creator = coalesce(pg_catalog.to_regrole(pg_catalog.quote_ident(created_by))::pg_catalog.oid, 0)
 WHERE status OPERATOR(pg_catalog.<>) 'queued';
-- The worker never found those that are due at -infinity.
UPDATE sms_outbox SET creator = coalesce(pg_catalog.to_regrole(pg_catalog.quote_ident(created_by))::pg_catalog.oid, 0),
       next_attempt_at = CASE WHEN next_attempt_at OPERATOR(pg_catalog.=) '-infinity' THEN created_at
                              ELSE next_attempt_at END
 WHERE status OPERATOR(pg_catalog.=) 'queued';
-- What is in doubt is looked for in what eSMS says that it has sent.
UPDATE sms_outbox o SET poll_at = pg_catalog.now() FROM pg_catalog.pg_foreign_server s
  JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid OPERATOR(pg_catalog.=) s.srvfdw
 WHERE o.status OPERATOR(pg_catalog.=) 'uncertain' AND o.kind OPERATOR(pg_catalog.<>) 'otp'
   AND s.srvname OPERATOR(pg_catalog.=) o.gateway AND w.fdwname OPERATOR(pg_catalog.=) 'esms'
   AND o.unsure_since OPERATOR(pg_catalog.>) (pg_catalog.now() OPERATOR(pg_catalog.-) '7 days'::pg_catalog.interval);
END;
SELECT sms_gateway_update_rows();
DROP FUNCTION sms_gateway_update_rows();
ALTER TABLE sms_outbox DROP CONSTRAINT queued_has_a_time,
    ADD CONSTRAINT queued_has_a_time CHECK ((status OPERATOR(pg_catalog.=) 'queued') OPERATOR(pg_catalog.=) (next_attempt_at IS NOT NULL));
-- Two roles may call their messages the same.
DROP INDEX sms_outbox_request_id;
CREATE UNIQUE INDEX sms_outbox_request_id ON sms_outbox (gateway, request_id, creator)
    WHERE NOT request_id OPERATOR(pg_catalog.^@) 'sgw-' AND creator OPERATOR(pg_catalog.<>) 0;
CREATE INDEX sms_outbox_next ON sms_outbox (next_attempt_at, gateway, priority)
    WHERE status OPERATOR(pg_catalog.=) 'queued';
CREATE INDEX sms_outbox_ended ON sms_outbox (ended_at, id) WHERE ended_at IS NOT NULL;
COMMENT ON COLUMN sms_outbox.ended_at IS 'when its status became what it is: sent, failed, delivered ...; NULL while it is queued';
COMMENT ON COLUMN sms_outbox.creator IS 'oid of the role that inserted the row: whose it is, whatever it is called now; 0: nobody''s; NULL: not known, from a dump of 0.1.0';
COMMENT ON COLUMN sms_outbox.created_by IS 'role that inserted the row, as it was called then; its user mapping and privileges count';
COMMENT ON COLUMN sms_outbox.request_id IS 'de-duplication key, at most 50 characters, unique per gateway and role; made when left out';
COMMENT ON COLUMN sms_outbox.next_attempt_at IS 'queued: when it is due; else NULL';

-- One-time passwords are counted in sms_gateway_usage now, whoever made them.  What was counted and made goes on; the
-- tables are made anew, as counters stand in fixed columns.
ALTER TABLE sms_gateway_otp RENAME TO sms_gateway_otp_0_1;
ALTER INDEX sms_gateway_otp_phone RENAME TO sms_gateway_otp_0_1_phone;
ALTER SEQUENCE sms_gateway_otp_id_seq RENAME TO sms_gateway_otp_0_1_id_seq;
ALTER TABLE sms_gateway_usage RENAME TO sms_gateway_usage_0_1;
ALTER INDEX sms_gateway_usage_pkey RENAME TO sms_gateway_usage_0_1_pkey;
CREATE TABLE sms_gateway_otp (
    expires_at timestamptz NOT NULL,
    -- A table without a key could not be purged while it is published.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway name NOT NULL,
    sent_by name NOT NULL,
    phone text NOT NULL,
    salt bytea,
    hash bytea,
    CONSTRAINT hash_has_a_salt CHECK ((salt IS NULL) OPERATOR(pg_catalog.=) (hash IS NULL)));
CREATE INDEX sms_gateway_otp_phone ON sms_gateway_otp (phone, id);
ALTER TABLE sms_gateway_otp ALTER phone SET STATISTICS 0;
COMMENT ON TABLE sms_gateway_otp IS
    'one-time passwords that were sent, as salted hashes if they were made here; the last one of a phone through a gateway is the one that counts there';
COMMENT ON COLUMN sms_gateway_otp.expires_at IS 'good until';
COMMENT ON COLUMN sms_gateway_otp.id IS 'in the order in which they were made';
COMMENT ON COLUMN sms_gateway_otp.gateway IS 'the foreign server that was asked for it';
COMMENT ON COLUMN sms_gateway_otp.sent_by IS 'the foreign server it was sent through: that one, or a fallback; a check through either finds it';
COMMENT ON COLUMN sms_gateway_otp.phone IS 'receiver';
COMMENT ON COLUMN sms_gateway_otp.salt IS 'random; NULL: the provider made the code and checks it';
COMMENT ON COLUMN sms_gateway_otp.hash IS 'HMAC-SHA-256 of salt, gateway, phone and code, with this database''s secret as key';

-- Its first columns are changed in place, outside of transactions (counter.c): they have a fixed position and width.
-- A campaign finds one for each phone: their key is short, its first column tells most apart, byte by byte.
CREATE TABLE sms_gateway_usage (
    used bigint NOT NULL,
    window_end timestamptz NOT NULL,
    code bigint NOT NULL,
    tries bigint NOT NULL,
    gateway text COLLATE pg_catalog."C",
    subject text COLLATE pg_catalog."C",
    PRIMARY KEY (subject, gateway));
COMMENT ON TABLE sms_gateway_usage IS
    'messages counted towards the server options otp_per_phone, per_phone, per_role and daily_budget, and checks of one-time passwords; each is counted whatever becomes of its transaction';
COMMENT ON COLUMN sms_gateway_usage.used IS 'messages, or checks, in the window';
COMMENT ON COLUMN sms_gateway_usage.window_end IS 'then counting starts anew';
COMMENT ON COLUMN sms_gateway_usage.code IS 'of checks: the one-time password that tries are counted for';
COMMENT ON COLUMN sms_gateway_usage.tries IS 'of checks: how often that one was tried';
COMMENT ON COLUMN sms_gateway_usage.gateway IS 'the foreign server';
COMMENT ON COLUMN sms_gateway_usage.subject IS 'what is counted: otp, phone or check, with a keyed hash of the phone; role, with which; or day';

REVOKE ALL ON sms_gateway_otp, sms_gateway_usage FROM PUBLIC;
-- Phones are counted under a keyed hash of them.
CREATE FUNCTION sms_gateway_hidden(phone text) RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT;
CREATE FUNCTION sms_gateway_update_counters() RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
INSERT INTO sms_gateway_otp (expires_at, gateway, sent_by, phone, salt, hash)
SELECT o.expires_at, o.gateway, o.gateway, o.phone, o.salt, o.hash FROM sms_gateway_otp_0_1 o
 WHERE o.tries OPERATOR(pg_catalog.<) 5 ORDER BY o.id;
-- Roles are counted by their oids.
INSERT INTO sms_gateway_usage SELECT u.used, u.window_end, 0, 0, u.gateway,
       CASE WHEN u.subject OPERATOR(pg_catalog.~) '^(otp|phone) '
            THEN pg_catalog.split_part(u.subject, ' ', 1) OPERATOR(pg_catalog.||) ' '
                 OPERATOR(pg_catalog.||) sms_gateway_hidden(pg_catalog.split_part(u.subject, ' ', 2))
            WHEN u.subject OPERATOR(pg_catalog.^@) 'role '
            THEN coalesce('role ' OPERATOR(pg_catalog.||) pg_catalog.to_regrole(pg_catalog.quote_ident(
                 pg_catalog.substr(u.subject, 6)))::pg_catalog.oid::pg_catalog.text, u.subject)
            ELSE u.subject END
  FROM sms_gateway_usage_0_1 u;
END;
SELECT sms_gateway_update_counters();
DROP FUNCTION sms_gateway_update_counters();
DROP FUNCTION sms_gateway_hidden(text);
DROP TABLE sms_gateway_otp_0_1, sms_gateway_usage_0_1;

-- Who may read or write all data gets no row of what is internal: those are their owner's, as whom the engine runs.
ALTER TABLE sms_gateway_lease ENABLE ROW LEVEL SECURITY;
ALTER TABLE sms_gateway_state ENABLE ROW LEVEL SECURITY;
ALTER TABLE sms_gateway_refused ENABLE ROW LEVEL SECURITY;
ALTER TABLE sms_gateway_callback ENABLE ROW LEVEL SECURITY;
ALTER TABLE sms_gateway_otp ENABLE ROW LEVEL SECURITY;
ALTER TABLE sms_gateway_usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE sms_gateway_identity ENABLE ROW LEVEL SECURITY;

-- An operator who says that a gateway is well is believed at once.
COMMENT ON FUNCTION sms_retry(bigint) IS
    'queues a failed, expired, canceled or uncertain message of yours again, due now, whatever its send_after, with its request_id and without an expires_at that has passed; one that waits to be tried again is due now, and its attempts are counted on; false for any other.'
    ' An uncertain message may be sent a second time. Errors as sms_cancel; 55000 if its text was blanked, 53400 if a limit refuses it';
COMMENT ON FUNCTION sms_resume(name) IS
    'tries a gateway now, and its messages that wait to be tried again, whoever paused it; false if it was active. Error 42704 for an unknown gateway';

-- What was said too briefly.
COMMENT ON FUNCTION sms_check_status(bigint) IS
    'asks the provider now what became of a message of yours, updates its row and returns its status; a message that has ended, or that the provider cannot be asked about, keeps its status. Error 42704 if there is none of yours, 0A000 if the gateway has no such call';
COMMENT ON FUNCTION sms_cancel(bigint) IS
    'takes a queued message of yours back; false if it is on its way or no longer queued. Error 42704 if there is none of yours';
COMMENT ON COLUMN sms_outbox.gateway IS 'foreign server to send through; left out: sms_gateway.default_gateway, else the one server that can (of one-time passwords, the one whose provider makes them, if there is one)';
COMMENT ON COLUMN sms_outbox.attempts IS 'requests made since it was queued, or queued again by sms_retry, without those that the gateway refused for want of capacity';
COMMENT ON COLUMN sms_outbox.result_code IS 'code of the last answer; or resolve, connect, tls, timeout, broken, too_large (the network), proxy (a proxy refused), crash (the server stopped meanwhile), held (no user mapping, or its credentials are refused), refused (privilege or option gone), memory (it was out)';
COMMENT ON COLUMN sms_outbox.expires_at IS 'not after this time; later than now, and than send_after';
COMMENT ON FUNCTION sms_send(text, text, name, text, jsonb) IS
    'sends a text now and returns the gateway''s answer; errors, all before anything is sent: 22023 (phone, text, option), 42704 (gateway, user mapping), 42P08 (several gateways could send it), 42501 (no USAGE), 0A000 (gateway cannot), 23505 (a message of yours in the outbox has this request_id), 53400 (a limit is reached), 55000 (switched off, or this is a copy)';
COMMENT ON FUNCTION sms_omni_send(text, text, jsonb, text[], name, jsonb) IS
    'sends a template now, with list_param as its variables (an object; eSMS, Zalo and then SMS: an array in the template''s order), over the channels of routerule in turn (1 ZNS, 2 automatic call, 3 SMS); errors as sms_send';
COMMENT ON FUNCTION sms_adopt_outbox(sms_status[]) IS
    'for a copy (of the files, a restored backup or dump, CREATE DATABASE ... TEMPLATE, pg_upgrade) that takes the place of the original: from now on this database sends. The original''s messages in these states become its own: queued ones are sent, sent ones followed; others stay as they are. Returns how many. See first that the original sends no more. Error 42501 unless you own the outbox';


-- The planner's statistics keep samples of values, longer than their rows: none of whom messages are for, and what they say.
ALTER TABLE sms_outbox ALTER phone SET STATISTICS 0, ALTER content SET STATISTICS 0, ALTER list_param SET STATISTICS 0,
    ALTER options SET STATISTICS 0, ALTER result_message SET STATISTICS 0, ALTER details SET STATISTICS 0;
ALTER TABLE sms_gateway_callback ALTER report SET STATISTICS 0;
DELETE FROM pg_catalog.pg_statistic s USING pg_catalog.pg_attribute a
 WHERE s.starelid OPERATOR(pg_catalog.=) ANY (ARRAY['@extschema@.sms_outbox'::pg_catalog.regclass, '@extschema@.sms_gateway_callback'::pg_catalog.regclass]::pg_catalog.oid[])
   AND a.attrelid OPERATOR(pg_catalog.=) s.starelid AND a.attnum OPERATOR(pg_catalog.=) s.staattnum
   AND a.attstattarget OPERATOR(pg_catalog.=) 0;

-- Texts as the providers of Vietnam count them.
DROP FUNCTION sms_parts(text, bool);
CREATE FUNCTION sms_parts(content text, unicode bool = NULL, vietnamese bool = false,
                          OUT encoding text, OUT characters int, OUT parts int) RETURNS record
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION sms_parts(text, bool, bool) IS
    'how a text travels: encoding GSM-7 or UCS-2, its characters, and the messages that are billed for it (GSM 03.38: 160, or 153 each, with extension characters counting twice; 70, or 67 each). unicode: true forces UCS-2, false GSM-7, NULL goes by the text. vietnamese: with NULL, counts as the providers of Vietnam do, for whom all that is not ASCII goes as UCS-2. Letters count composed (NFC), as they are sent. All NULL for a NULL text; error 22021 if it is not valid UTF-8';
COMMENT ON FUNCTION sms_unaccent(text) IS
    'Vietnamese without diacritics, the letter d with stroke included, from any normalisation form, and with the quotation marks, dashes and spaces of ASCII; other characters stay. Error 22021 if it is not valid UTF-8';
COMMENT ON FUNCTION sms_delivery_report(name, jsonb) IS
    'takes a provider''s delivery callback, as a JSON object of its fields; returns the message''s id, NULL if the report is of none that is known (it is kept for 7 days, in case the message''s answer comes later). Errors: 42704 for an unknown gateway, 42501 if the gateway''s callback_url holds {token} and the report not the right one, 22023 for no JSON object, or one of more than 16 kB, 25006 in a read-only transaction';

-- What users change is bounded as what they insert.
CREATE FUNCTION sms_outbox_update() RETURNS trigger
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_outbox_update() IS
    'trigger: what somebody changes is no longer than what he may insert; 22023 if it is';
CREATE TRIGGER sms_outbox_update BEFORE UPDATE ON sms_outbox
    FOR EACH ROW EXECUTE FUNCTION sms_outbox_update();
COMMENT ON TRIGGER sms_outbox_update ON sms_outbox IS
    'bounds what users write; the extension''s own changes do not call it';
REVOKE ALL ON FUNCTION sms_outbox_update() FROM PUBLIC;

-- A report is looked at once; of reports that are larger than any provider's nothing is kept.
ALTER TABLE sms_gateway_callback ADD looked boolean NOT NULL DEFAULT false;
DROP INDEX sms_gateway_callback_unknown;
CREATE INDEX sms_gateway_callback_unknown ON sms_gateway_callback (received_at) WHERE NOT looked;
CREATE FUNCTION sms_gateway_update_reports() RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
DELETE FROM sms_gateway_callback WHERE octet_length(report::pg_catalog.text) OPERATOR(pg_catalog.>) 16384;
UPDATE sms_gateway_callback SET looked = true WHERE message IS NOT NULL;
END;
SELECT sms_gateway_update_reports();
DROP FUNCTION sms_gateway_update_reports();
COMMENT ON COLUMN sms_gateway_callback.report IS 'what was read of it';
COMMENT ON COLUMN sms_gateway_callback.looked IS 'its message was looked for; a message that gets its answer later looks for it';

-- By the oid: who is renamed keeps his messages, who is made anew under an old name gets none.  Elsewhere oids are others' (dumps,
-- subscribers), so of a row that was not made here the name has to agree; see src/db/creator.c.  The sub-SELECTs are evaluated once.
CREATE FUNCTION sms_gateway_origin() RETURNS bigint
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION sms_gateway_origin() IS
    'internal: origin of the messages that are made in this database; 0 in a copy';
DROP POLICY own_messages ON sms_outbox;
CREATE POLICY own_messages ON sms_outbox
    USING (creator OPERATOR(pg_catalog.=) (SELECT pg_catalog.quote_ident(CURRENT_USER)::pg_catalog.regrole::pg_catalog.oid)
           AND (created_by OPERATOR(pg_catalog.=) CURRENT_USER
                OR origin OPERATOR(pg_catalog.=) (SELECT @extschema@.sms_gateway_origin())))
    WITH CHECK (creator OPERATOR(pg_catalog.=) (SELECT pg_catalog.quote_ident(CURRENT_USER)::pg_catalog.regrole::pg_catalog.oid)
                AND created_by OPERATOR(pg_catalog.=) CURRENT_USER);
COMMENT ON POLICY own_messages ON sms_outbox IS 'a role sees the messages that it queued';

-- Erasure.
CREATE FUNCTION sms_forget(phone text) RETURNS jsonb
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_forget(text) IS
    'erases what is stored of a phone, in whatever spelling: messages (queued ones are not sent then), delivery reports, one-time passwords and counters are deleted, and the number is taken out of reasons of pauses. Returns how many of each. Reads the outbox once, or an index on its column phone. Error 42501 unless you own the outbox, 22023 if it is no number, or could be several, 55006 if a message to it is on its way';
REVOKE ALL ON FUNCTION sms_forget(text) FROM PUBLIC;
-- Does sending work, and if not, why?

CREATE VIEW sms_health WITH (security_barrier) AS
WITH caller AS MATERIALIZED (
    SELECT pg_catalog.pg_has_role('pg_monitor', 'USAGE') AS is_monitor),
server AS (
    -- Gateways of whom it concerns.
    SELECT s.oid, s.srvname AS name, s.srvoptions AS options
      FROM pg_catalog.pg_foreign_server s
      JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid OPERATOR(pg_catalog.=) s.srvfdw
     CROSS JOIN caller c
     WHERE (c.is_monitor OR pg_catalog.has_server_privilege(s.oid, 'USAGE'))
       AND EXISTS (SELECT FROM pg_catalog.pg_depend d
                     JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
                    WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass
                      AND d.objid OPERATOR(pg_catalog.=) w.oid
                      AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
                      AND d.deptype OPERATOR(pg_catalog.=) 'e'
                      AND e.extname OPERATOR(pg_catalog.=) 'sms_gateway')),
server_option AS (
    SELECT s.name AS gateway, o.option_name AS name, o.option_value AS value
      FROM server s CROSS JOIN LATERAL pg_catalog.pg_options_to_table(s.options) o),
found(component, name, level, problem, since, remedy) AS (
    SELECT 'server', k.name,
           CASE WHEN k.problem IS NULL THEN 'ok'
                WHEN k.name OPERATOR(pg_catalog.=) 'standby' THEN 'warning' ELSE 'critical' END,
           k.problem, k.since,
           CASE k.name
                WHEN 'version' THEN 'ALTER EXTENSION sms_gateway UPDATE, as its owner; if the library is the older one, install the newer and restart the server'
                WHEN 'standby' THEN 'look at the primary server, which sends; or promote this one'
                WHEN 'enabled' THEN 'ALTER SYSTEM SET sms_gateway.enabled = on; SELECT pg_reload_conf();'
                WHEN 'copy' THEN 'if it takes the place of the original: SELECT sms_adopt_outbox(), as the owner of sms_outbox'
                WHEN 'launcher' THEN 'it is started again within seconds; if not, the log tells why it ended'
                WHEN 'worker' THEN 'set what the problem names (shared_preload_libraries and max_worker_processes need a restart); until then CALL sms_drain() sends'
           END
      FROM @extschema@.sms_gateway_checks() k
    UNION ALL
    SELECT 'gateway', s.name,
           CASE WHEN p.gateway IS NULL THEN 'ok'
                WHEN p.by_user OR p.state OPERATOR(pg_catalog.=) 'resting' THEN 'warning' ELSE 'critical' END,
           pg_catalog.concat_ws(': ', p.state, p.reason), p.since,
           CASE WHEN p.by_user THEN pg_catalog.format('SELECT sms_resume(%L)', s.name)
                WHEN p.state OPERATOR(pg_catalog.=) 'resting' THEN 'none: it is sent what it takes; a rate_limit of the server keeps it from saying so'
                WHEN p.state OPERATOR(pg_catalog.=) 'paused' THEN pg_catalog.format('correct what it refuses (ALTER USER MAPPING, the account); it is tried again by itself, and at once by SELECT sms_resume(%L)', s.name)
                ELSE pg_catalog.format('see to its address and the network; it is tried again by itself, and at once by SELECT sms_resume(%L)', s.name)
           END
      FROM server s
      LEFT JOIN @extschema@.sms_gateway_state p
        ON p.gateway OPERATOR(pg_catalog.=) s.name AND p.state OPERATOR(pg_catalog.<>) 'resumed'
    UNION ALL
    SELECT 'gateway', 'none', 'critical', 'there is no gateway that you may use', NULL,
           CASE WHEN c.is_monitor THEN 'CREATE SERVER ... FOREIGN DATA WRAPPER esms, etelecom or interits' ELSE 'GRANT USAGE ON FOREIGN SERVER ... to you, by its owner' END
      FROM caller c WHERE NOT EXISTS (SELECT FROM server)
    UNION ALL
    SELECT 'credentials', pg_catalog.format('%s of %s', s.name, pg_catalog.pg_get_userbyid(f.role)), 'critical',
           'refused: ' OPERATOR(pg_catalog.||) f.reason, f.since,
           pg_catalog.format('ALTER USER MAPPING FOR %I SERVER %I', pg_catalog.pg_get_userbyid(f.role), s.name)
      FROM server s
      JOIN @extschema@.sms_gateway_refused f ON f.gateway OPERATOR(pg_catalog.=) s.name
     CROSS JOIN caller c
     WHERE c.is_monitor OR pg_catalog.pg_has_role(f.role, 'USAGE')
    UNION ALL
    SELECT 'credentials', s.name, 'critical', 'there is no user mapping for PUBLIC or any role', NULL,
           pg_catalog.format('CREATE USER MAPPING FOR PUBLIC SERVER %I OPTIONS (...)', s.name)
      FROM server s
     WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_user_mappings m WHERE m.srvid OPERATOR(pg_catalog.=) s.oid)
    UNION ALL
    -- A budget and the limits of roles, of which nine parts in ten are used.
    SELECT 'limit', pg_catalog.format('%s of %s', l.name, CASE WHEN u.subject OPERATOR(pg_catalog.=) 'day' THEN l.gateway
               ELSE pg_catalog.format('%s for %s', l.gateway, CASE WHEN u.subject OPERATOR(pg_catalog.~) '^role [0-9]+$'
                   THEN pg_catalog.pg_get_userbyid(pg_catalog.substr(u.subject, 6)::oid)::text ELSE pg_catalog.substr(u.subject, 6) END) END),
           CASE WHEN u.used OPERATOR(pg_catalog.<) l.most THEN 'warning' ELSE 'critical' END,
           pg_catalog.format('%s of %s used', u.used, l.most), NULL,
           pg_catalog.format('ALTER SERVER %I OPTIONS (SET %s ...), or wait until %s', l.gateway, l.name, u.window_end)
      FROM (SELECT o.gateway, o.name, pg_catalog.split_part(o.value, '/', 1)::numeric AS most
              FROM server_option o
             WHERE o.name OPERATOR(pg_catalog.=) ANY (ARRAY['daily_budget', 'per_role'])
               AND o.value OPERATOR(pg_catalog.~) '^[0-9]+') l
      JOIN @extschema@.sms_gateway_usage u ON u.gateway OPERATOR(pg_catalog.=) l.gateway
       AND CASE l.name WHEN 'per_role' THEN u.subject OPERATOR(pg_catalog.^@) 'role ' ELSE u.subject OPERATOR(pg_catalog.=) 'day' END
     CROSS JOIN caller c
     WHERE u.window_end OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()
       AND u.used OPERATOR(pg_catalog.>=) (0.9 OPERATOR(pg_catalog.*) l.most)
       AND (c.is_monitor OR u.subject OPERATOR(pg_catalog.=) ('role ' OPERATOR(pg_catalog.||)
          pg_catalog.quote_ident(CURRENT_USER)::pg_catalog.regrole::pg_catalog.oid))
    UNION ALL
    SELECT m.component, m.name, m.level, m.problem, m.since, m.remedy
      FROM caller c CROSS JOIN LATERAL (
        (SELECT 'queue' AS component, q.gateway AS name,
               CASE WHEN q.late OPERATOR(pg_catalog.<) '30 seconds' THEN 'ok'
                    WHEN q.late OPERATOR(pg_catalog.<) '10 minutes' THEN 'warning' ELSE 'critical' END AS level,
               pg_catalog.format('a message is due for %s', pg_catalog.date_trunc('second', q.late)) AS problem,
               q.next_attempt_at AS since,
               'see the other problems, and the log: the worker may wait for a lock, or for a synchronous standby that is gone; else the gateway gets more than it takes (rate_limit, max_in_flight)' AS remedy
          FROM (SELECT o.gateway, o.next_attempt_at, pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) o.next_attempt_at AS late
                  FROM @extschema@.sms_outbox o WHERE o.status OPERATOR(pg_catalog.=) 'queued'
                 ORDER BY o.next_attempt_at LIMIT 1) q)
        UNION ALL
        SELECT 'gateway', w.name, 'critical', 'messages wait for it, and there is no such server', NULL,
               pg_catalog.format('CREATE SERVER %I FOREIGN DATA WRAPPER ..., or cancel them', w.name)
          FROM @extschema@.sms_gateways w WHERE w.state OPERATOR(pg_catalog.=) 'missing'
        UNION ALL
        -- These are looked at again and again, and never late.  Of many that wait, some are looked at.
        SELECT 'messages', 'held', CASE h.n WHEN 0 THEN 'ok' ELSE 'critical' END,
               pg_catalog.format('%s of the queued messages that were looked at are held, one of them as %s', h.n, h.why), NULL,
               'result_message tells why; correct that (a user mapping, a privilege), or SELECT sms_cancel(id)'
          FROM (SELECT pg_catalog.count(*) AS n, pg_catalog.max(u.result_message) AS why
                  FROM (SELECT o.result_code, o.result_message FROM @extschema@.sms_outbox o
                         WHERE o.status OPERATOR(pg_catalog.=) 'queued' LIMIT 20000) u
                 WHERE u.result_code OPERATOR(pg_catalog.=) 'held') h
        UNION ALL
        SELECT 'messages', 'in doubt', CASE d.n WHEN 0 THEN 'ok' ELSE 'warning' END,
               pg_catalog.format('%s%s may or may not have gone', CASE d.n WHEN 1001 THEN 'more than ' ELSE '' END, least(d.n, 1000)),
               d.since, 'ask the provider, then sms_resolve or sms_retry'
          FROM (SELECT pg_catalog.count(*) AS n, pg_catalog.min(u.ended_at) AS since
                  FROM (SELECT o.ended_at FROM @extschema@.sms_outbox o
                         WHERE o.status OPERATOR(pg_catalog.=) 'uncertain' LIMIT 1001) u) d
        UNION ALL
        SELECT 'reports', 'unmatched', CASE WHEN r.n OPERATOR(pg_catalog.<) 1000 THEN 'ok' ELSE 'warning' END,
               '1000 or more delivery reports belong to no message', NULL,
               'see whether the provider reports to the database that sent, and whether others can reach that address'
          FROM (SELECT pg_catalog.count(*) AS n
                  FROM (SELECT FROM @extschema@.sms_gateway_callback b WHERE b.message IS NULL LIMIT 1000) k) r
        UNION ALL
        SELECT 'retention', 'sms_gateway.retention',
               CASE WHEN t.keep OPERATOR(pg_catalog.=) '0' THEN CASE WHEN t.rows OPERATOR(pg_catalog.<) 10000000 THEN 'ok' ELSE 'warning' END
                    WHEN t.since OPERATOR(pg_catalog.+) '1 hour' OPERATOR(pg_catalog.<) pg_catalog.clock_timestamp() THEN 'warning' ELSE 'ok' END,
               CASE WHEN t.keep OPERATOR(pg_catalog.=) '0' THEN pg_catalog.format('it is off, and the outbox has about %s rows', t.rows)
                    ELSE 'messages that are to be deleted are still there' END,
               CASE WHEN t.keep OPERATOR(pg_catalog.<>) '0' THEN t.since END,
               CASE WHEN t.keep OPERATOR(pg_catalog.=) '0' THEN 'set sms_gateway.retention'
                    ELSE 'the log tells what keeps the worker from deleting them: a lock, a trigger, a foreign key' END
          FROM (SELECT pg_catalog.current_setting('sms_gateway.retention') AS keep,
                       (SELECT greatest(k.reltuples, 0)::bigint FROM pg_catalog.pg_class k
                         WHERE k.oid OPERATOR(pg_catalog.=) '@extschema@.sms_outbox'::pg_catalog.regclass) AS rows,
                       (SELECT o.ended_at FROM @extschema@.sms_outbox o
                         WHERE o.ended_at IS NOT NULL AND o.status OPERATOR(pg_catalog.<>) 'uncertain' ORDER BY o.ended_at, o.id LIMIT 1)
                       OPERATOR(pg_catalog.+) pg_catalog.current_setting('sms_gateway.retention')::interval AS since) t
        UNION ALL
        SELECT 'server', 'notify', CASE WHEN n.used OPERATOR(pg_catalog.<) 0.5 THEN 'ok' WHEN n.used OPERATOR(pg_catalog.<) 0.9 THEN 'warning' ELSE 'critical' END,
               pg_catalog.format('the queue of NOTIFY is full to %s %%', pg_catalog.round((n.used OPERATOR(pg_catalog.*) 100)::numeric)), NULL,
               'end the transaction of the listener that the log names: events are held up'
          FROM (SELECT pg_catalog.pg_notification_queue_usage() AS used) n
        UNION ALL
        SELECT 'server', 'processes', CASE WHEN p.free OPERATOR(pg_catalog.>) 0 THEN 'ok' ELSE 'warning' END,
               'all of max_worker_processes are in use', NULL,
               'raise max_worker_processes, and restart the server: databases take turns'
          FROM (SELECT pg_catalog.current_setting('max_worker_processes')::bigint OPERATOR(pg_catalog.-) pg_catalog.count(*) AS free
                  FROM pg_catalog.pg_stat_get_activity(NULL) a
                 WHERE a.backend_type IS NOT NULL AND a.backend_type OPERATOR(pg_catalog.<>) ALL (ARRAY['client backend', 'autovacuum launcher',
                       'autovacuum worker', 'background writer', 'checkpointer', 'walwriter', 'archiver', 'startup', 'walreceiver',
                       'walsender', 'walsummarizer', 'slotsync worker', 'io worker', 'standalone backend', 'logger'])) p
      ) m WHERE c.is_monitor)
SELECT f.component, f.name::text AS name, f.level,
       CASE WHEN f.level OPERATOR(pg_catalog.<>) 'ok' THEN f.problem END AS problem,
       CASE WHEN f.level OPERATOR(pg_catalog.<>) 'ok' THEN f.since END AS since,
       CASE WHEN f.level OPERATOR(pg_catalog.<>) 'ok' THEN f.remedy END AS remedy
  FROM found f;
COMMENT ON VIEW sms_health IS
    'does sending work? A row a check; where no row has a problem, messages flow. pg_monitor sees all, others what concerns the gateways that they may use';
COMMENT ON COLUMN sms_health.component IS 'what was looked at: server, gateway, credentials, limit, queue, messages, reports, retention';
COMMENT ON COLUMN sms_health.name IS 'which of them';
COMMENT ON COLUMN sms_health.level IS 'ok; warning: somebody should look; critical: messages are held up';
COMMENT ON COLUMN sms_health.problem IS 'what is wrong; NULL: nothing';
COMMENT ON COLUMN sms_health.since IS 'since when, if that is known';
COMMENT ON COLUMN sms_health.remedy IS 'what to do about it';
GRANT SELECT ON sms_health TO PUBLIC;
-- Monitors read a view of fixed columns; a policy could be made to show rows to whom they are not for.
DROP POLICY monitors ON sms_outbox;
REVOKE SELECT ON sms_outbox FROM pg_monitor;
CREATE VIEW sms_outbox_monitor WITH (security_barrier) AS
-- By way of WITH, so that nobody (pg_write_all_data) can write through it.
WITH message AS (
    SELECT o.id, o.gateway, o.kind, o.template_code, o.routerule, o.priority, o.send_after, o.expires_at,
           CASE WHEN o.request_id OPERATOR(pg_catalog.^@) 'sgw-' THEN o.request_id END AS request_id,
           o.created_by, o.created_at, o.status, o.attempts, o.next_attempt_at, o.smsid, o.id_omni_mess, o.referent_id,
           o.result_code, o.http_status, o.sent_at, o.delivered_at, o.price, o.parts, o.unsure_since, o.origin,
           o.poll_at, o.ended_at, o.creator
      FROM @extschema@.sms_outbox o)
SELECT * FROM message;
COMMENT ON VIEW sms_outbox_monitor IS
    'all messages, for pg_monitor: columns of sms_outbox without phone, text, variables, options and the provider''s words';
COMMENT ON COLUMN sms_outbox_monitor.id IS 'as sms_outbox.id';
COMMENT ON COLUMN sms_outbox_monitor.gateway IS 'as sms_outbox.gateway';
COMMENT ON COLUMN sms_outbox_monitor.kind IS 'as sms_outbox.kind';
COMMENT ON COLUMN sms_outbox_monitor.template_code IS 'as sms_outbox.template_code';
COMMENT ON COLUMN sms_outbox_monitor.routerule IS 'as sms_outbox.routerule';
COMMENT ON COLUMN sms_outbox_monitor.priority IS 'as sms_outbox.priority';
COMMENT ON COLUMN sms_outbox_monitor.send_after IS 'as sms_outbox.send_after';
COMMENT ON COLUMN sms_outbox_monitor.expires_at IS 'as sms_outbox.expires_at';
COMMENT ON COLUMN sms_outbox_monitor.created_by IS 'as sms_outbox.created_by';
COMMENT ON COLUMN sms_outbox_monitor.created_at IS 'as sms_outbox.created_at';
COMMENT ON COLUMN sms_outbox_monitor.status IS 'as sms_outbox.status';
COMMENT ON COLUMN sms_outbox_monitor.attempts IS 'as sms_outbox.attempts';
COMMENT ON COLUMN sms_outbox_monitor.next_attempt_at IS 'as sms_outbox.next_attempt_at';
COMMENT ON COLUMN sms_outbox_monitor.smsid IS 'as sms_outbox.smsid';
COMMENT ON COLUMN sms_outbox_monitor.id_omni_mess IS 'as sms_outbox.id_omni_mess';
COMMENT ON COLUMN sms_outbox_monitor.referent_id IS 'as sms_outbox.referent_id';
COMMENT ON COLUMN sms_outbox_monitor.result_code IS 'as sms_outbox.result_code';
COMMENT ON COLUMN sms_outbox_monitor.http_status IS 'as sms_outbox.http_status';
COMMENT ON COLUMN sms_outbox_monitor.sent_at IS 'as sms_outbox.sent_at';
COMMENT ON COLUMN sms_outbox_monitor.delivered_at IS 'as sms_outbox.delivered_at';
COMMENT ON COLUMN sms_outbox_monitor.price IS 'as sms_outbox.price';
COMMENT ON COLUMN sms_outbox_monitor.parts IS 'as sms_outbox.parts';
COMMENT ON COLUMN sms_outbox_monitor.unsure_since IS 'as sms_outbox.unsure_since';
COMMENT ON COLUMN sms_outbox_monitor.origin IS 'as sms_outbox.origin';
COMMENT ON COLUMN sms_outbox_monitor.poll_at IS 'as sms_outbox.poll_at';
COMMENT ON COLUMN sms_outbox_monitor.ended_at IS 'as sms_outbox.ended_at';
COMMENT ON COLUMN sms_outbox_monitor.creator IS 'as sms_outbox.creator';
COMMENT ON COLUMN sms_outbox_monitor.request_id IS 'if it was made here; what a user gave may say anything';
REVOKE ALL ON sms_outbox_monitor FROM PUBLIC;
GRANT SELECT ON sms_outbox_monitor TO pg_monitor;
-- What is reported of one leg, or of the message by an id that names none, is merged into the legs of "details".  A leg's end
-- stays, like a message's.  A message is delivered when one of its legs is, and undelivered when all have failed.
CREATE FUNCTION sms_gateway_legs(details jsonb, report jsonb) RETURNS jsonb
    LANGUAGE sql VOLATILE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
WITH leg AS (
    SELECT n, l,
           CASE WHEN l ->> 'request_id' = report ->> 'request_id' THEN 1
                WHEN l ->> 'channel' = report ->> 'channel' THEN 2
                WHEN l ->> 'smsid' = report ->> 'smsid' THEN 3
                -- The same leg of an earlier attempt: see sms_request_id() in esms_build.c.
                WHEN (l ->> 'request_id' ~ '\.[a-j]$') = (report ->> 'request_id' ~ '\.[a-j]$') THEN 4
                -- An SMSID alone: presumably the first leg's of which none is known.
                WHEN NOT report ? 'request_id' AND NOT l ? 'smsid' THEN 5 END AS how
      FROM jsonb_array_elements(details -> 'legs') WITH ORDINALITY AS e(l, n)),
meant AS (
    SELECT n, how FROM leg WHERE how IS NOT NULL ORDER BY how, l ->> 'status' <> 'sent', n LIMIT 1),
merged AS (
    SELECT leg.n,
           CASE WHEN leg.n = meant.n THEN
                    (l - 'presumed') || jsonb_strip_nulls(jsonb_build_object(
                        'smsid', CASE WHEN meant.how < 3 THEN coalesce(report ->> 'smsid', l ->> 'smsid')
                                      ELSE coalesce(l ->> 'smsid', report ->> 'smsid') END,
                        'presumed', CASE WHEN meant.how = 5 OR (meant.how = 3 AND l ? 'presumed') THEN true END,
                        'price', coalesce(report ->> 'price', l ->> 'price')::numeric))
                    || CASE WHEN l ->> 'status' = 'sent' THEN jsonb_strip_nulls(jsonb_build_object(
                        'status', report -> 'status', 'code', report -> 'code', 'message', report -> 'message',
                        'at', clock_timestamp())) ELSE '{}' END
                -- That SMSID is another leg's, then.
                WHEN l ? 'presumed' AND l ->> 'smsid' = report ->> 'smsid' THEN
                    jsonb_build_object('channel', l -> 'channel', 'request_id', l -> 'request_id', 'status', 'sent')
                WHEN leg.n = meant.n + 1 AND NOT l ? 'smsid' AND report ->> 'next' <> coalesce(report ->> 'smsid', '') THEN
                    l || jsonb_build_object('smsid', report -> 'next', 'presumed', true)
                ELSE l END AS l
      FROM leg LEFT JOIN meant ON true)
SELECT jsonb_build_object('legs', jsonb_agg(l ORDER BY n), 'price', sum((l ->> 'price')::numeric),
           'status', CASE WHEN bool_or(l ->> 'status' = 'delivered') THEN 'delivered'
                          WHEN bool_or(l ->> 'status' = 'sent') THEN 'sent' ELSE 'undelivered' END)
  FROM merged HAVING count(*) > 0
$$;
COMMENT ON FUNCTION sms_gateway_legs(jsonb, jsonb) IS
    'internal: the legs of a message''s details after a report of one of them; and what the message is, and costs, by them';
REVOKE ALL ON FUNCTION sms_gateway_legs(jsonb, jsonb) FROM PUBLIC;
COMMENT ON COLUMN sms_outbox.details IS 'what else is known: token (Interits), failed_over (gateways tried before this one, with their answers), server_owner (oid and name of the owner of the server that it named, if that is neither a superuser nor the owner of sms_outbox nor its own role), telco (operator), delivery_code and delivery_message (the provider''s words for the delivery), legs (eSMS, Zalo and then SMS: of each channel, in its turn, channel, request_id, smsid (presumed: by its order alone), status, code, message, price, at)';
COMMENT ON FUNCTION sms_send_otp(text, text, name, interval, int, bool, jsonb) IS
    'sends a one-time password now, in the place of {OTP} in content (eTelecom: in the template''s variable that the server option otp_param names). ttl: how long it is good (eSMS: whole minutes, 2 to 10); length: characters, 4 to 10. The code itself is not returned; sms_check_otp knows it. Errors as sms_send';

CREATE TABLE sms_gateway_templates (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway name NOT NULL,
    credentials bigint NOT NULL,
    brandname text NOT NULL,
    role oid NOT NULL,
    templates jsonb NOT NULL,
    fetched_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX sms_gateway_templates_last ON sms_gateway_templates (gateway, credentials, brandname, id);
COMMENT ON TABLE sms_gateway_templates IS 'internal: templates that providers have registered, as last read; the newest row of a gateway, credentials and brandname counts';
COMMENT ON COLUMN sms_gateway_templates.id IS 'in the order of reading';
COMMENT ON COLUMN sms_gateway_templates.gateway IS 'the foreign server';
COMMENT ON COLUMN sms_gateway_templates.credentials IS 'a number of the user mapping with which they were read; 0: PUBLIC''s';
COMMENT ON COLUMN sms_gateway_templates.brandname IS 'the sender that they are registered for';
COMMENT ON COLUMN sms_gateway_templates.role IS 'who read them';
COMMENT ON COLUMN sms_gateway_templates.templates IS 'an array of objects: content, network, template_id';
COMMENT ON COLUMN sms_gateway_templates.fetched_at IS 'when';

CREATE FUNCTION sms_gateway_ask_brandnames(gateway name) RETURNS jsonb
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_gateway_ask_brandnames(name) IS 'internal: what sms_brandnames shows';
CREATE FUNCTION sms_gateway_ask_templates(gateway name, brandname text, refresh boolean) RETURNS jsonb
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_gateway_ask_templates(name, text, boolean) IS 'internal: what sms_templates shows';

CREATE FUNCTION sms_brandnames(gateway name = NULL) RETURNS TABLE (brandname text, type text)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT b.brandname, b.type FROM jsonb_to_recordset(sms_gateway_ask_brandnames(sms_brandnames.gateway))
        AS b (brandname text, type text);
END;
COMMENT ON FUNCTION sms_brandnames(name) IS
    'asks the provider (eSMS) now under which brandnames the account may send; type: 1 advertising, 2 customer care, 23 Viber. No rows, with a warning, if the gateway did not say. Errors as sms_send; 0A000 if the gateway has no such call';
CREATE FUNCTION sms_templates(gateway name = NULL, brandname text = NULL, refresh boolean = false)
    RETURNS TABLE (template_id text, network text, content text)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
BEGIN ATOMIC
    SELECT t.template_id, t.network, t.content FROM jsonb_to_recordset(
        sms_gateway_ask_templates(sms_templates.gateway, sms_templates.brandname, sms_templates.refresh))
        AS t (template_id text, network text, content text);
END;
COMMENT ON FUNCTION sms_templates(name, text, boolean) IS
    'the templates that are registered with the provider (eSMS) for a brandname, by default the gateway''s: as kept, or where what is kept is a day old, or with refresh, as the provider tells now. {P1,20} stands for at most 20 characters. They are what check_templates compares with. No rows, with a warning, if the gateway did not say. Errors as sms_brandnames; 25006 in a read-only transaction if the provider has to be asked';
CREATE FUNCTION sms_price(phone text, content text, gateway name = NULL) RETURNS numeric
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_price(text, text, name) IS
    'what a text to this phone would cost, as the provider (eSMS) says now, in its currency (VND); NULL, with a warning, if the gateway did not say. Errors as sms_send; 0A000 if the gateway has no such call';

ALTER TABLE sms_gateway_templates ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON sms_gateway_templates FROM PUBLIC;
-- Messages in doubt: those that are looked for in what their provider's account has sent, and for sms_health all.
CREATE INDEX sms_outbox_doubt ON sms_outbox (gateway, poll_at, id) WHERE status OPERATOR(pg_catalog.=) 'uncertain';
COMMENT ON COLUMN sms_outbox.poll_at IS 'when the worker asks the provider (again) whether it was delivered or, of an uncertain message, whether it has it; NULL: it does not';

-- The engine works as the owner of the outbox: what it works on is his, as the tables of 0.1.0 are.  What everybody may call
-- stays with who installs: it is run by others, and only a superuser is to say what it does.
DO $$
DECLARE
    heir pg_catalog.regrole;
    member record;
BEGIN
    SELECT c.relowner INTO heir FROM pg_catalog.pg_class c
     WHERE c.oid OPERATOR(pg_catalog.=) '@extschema@.sms_outbox'::pg_catalog.regclass;
    FOR member IN
        SELECT pg_catalog.format('%s %s', CASE c.relkind WHEN 'r' THEN 'TABLE' ELSE 'VIEW' END,
                                 c.oid::pg_catalog.regclass) AS object
          FROM pg_catalog.pg_depend d
          JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.objid
         WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
           AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
           AND d.refobjid OPERATOR(pg_catalog.=) (SELECT e.oid FROM pg_catalog.pg_extension e
                                                   WHERE e.extname OPERATOR(pg_catalog.=) 'sms_gateway')
           AND d.deptype OPERATOR(pg_catalog.=) 'e' AND c.relkind IN ('r', 'v')
           AND c.relowner OPERATOR(pg_catalog.<>) heir::pg_catalog.oid
        UNION ALL
        SELECT pg_catalog.format('FUNCTION %s', p.oid::pg_catalog.regprocedure)
          FROM pg_catalog.pg_proc p
         WHERE p.oid OPERATOR(pg_catalog.=) ANY (ARRAY['@extschema@.sms_forget(text)'::pg_catalog.regprocedure,
                   '@extschema@.sms_outbox_update()'::pg_catalog.regprocedure,
                   '@extschema@.sms_gateway_legs(jsonb, jsonb)'::pg_catalog.regprocedure]::pg_catalog.oid[])
           AND p.proowner OPERATOR(pg_catalog.<>) heir::pg_catalog.oid
    LOOP
        EXECUTE pg_catalog.format('ALTER %s OWNER TO %s', member.object, heir);
    END LOOP;
END $$;
