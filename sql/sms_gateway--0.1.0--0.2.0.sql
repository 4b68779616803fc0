\echo Use "ALTER EXTENSION sms_gateway UPDATE TO '0.2.0'" to load this file. \quit

-- First, and at once as strongly as it will be: whoever waits then waits for this, and it for nobody that waits.
LOCK TABLE sms_outbox IN ACCESS EXCLUSIVE MODE;

-- No two names differ by one letter.
ALTER TABLE sms_gateway_state RENAME TO sms_gateway_pause;
ALTER INDEX sms_gateway_state_pkey RENAME TO sms_gateway_pause_pkey;
ALTER TABLE sms_gateway_report RENAME TO sms_gateway_callback;
ALTER INDEX sms_gateway_report_pkey RENAME TO sms_gateway_callback_pkey;
ALTER INDEX sms_gateway_report_unknown RENAME TO sms_gateway_callback_unknown;

-- A gateway's trouble has more states than one.
ALTER TABLE sms_gateway_pause
    ADD state text NOT NULL DEFAULT 'paused' CONSTRAINT state_is_known CHECK (state IN ('resting', 'unreachable', 'paused', 'resumed')),
    ADD next_probe_at timestamptz;
COMMENT ON TABLE sms_gateway_pause IS 'gateways that are not active, and why; others have no row';
COMMENT ON COLUMN sms_gateway_pause.reason IS 'why it is not active';
COMMENT ON COLUMN sms_gateway_pause.by_user IS 'paused by sms_pause (until sms_resume), not by the gateway''s answers (until a probe passes)';
COMMENT ON COLUMN sms_gateway_pause.since IS 'when the state began';
COMMENT ON COLUMN sms_gateway_pause.state IS 'resting, unreachable or paused; resumed: by sms_resume, and its messages are being made due';
COMMENT ON COLUMN sms_gateway_pause.next_probe_at IS 'when one message is tried; NULL: not by itself';

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
CREATE FUNCTION sms_gateway_held(OUT why text, OUT since timestamptz)
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED;
COMMENT ON FUNCTION sms_gateway_held() IS
    'internal: why nothing is sent from this database, and since when, if that is known; NULL: it is';
REVOKE ALL ON FUNCTION sms_gateway_held() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sms_gateway_held() TO pg_monitor;
DROP VIEW sms_gateways;
CREATE VIEW sms_gateways AS
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
    SELECT s.srvname AS name, w.fdwname AS provider, s.srvoptions AS options
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
    SELECT s.name, s.provider, s.options FROM server s
    UNION ALL
    SELECT w.name, NULL, NULL FROM waiting w
     WHERE w.name IS NOT NULL AND NOT EXISTS (SELECT FROM server s WHERE s.name OPERATOR(pg_catalog.=) w.name)),
held AS (SELECT h.why, h.since FROM @extschema@.sms_gateway_held() h)
SELECT g.name,
       g.provider,
       CASE WHEN g.provider IS NULL THEN 'missing'
            WHEN h.why IS NOT NULL THEN 'held'
            ELSE coalesce(p.state, 'active') END AS state,
       CASE WHEN g.provider IS NULL THEN 'there is no such server'
            WHEN h.why IS NOT NULL THEN h.why
            WHEN p.reason IS NULL THEN c.refused
            ELSE pg_catalog.concat_ws('; ', p.reason, c.refused) END AS reason,
       CASE WHEN g.provider IS NULL THEN NULL
            WHEN h.why IS NOT NULL THEN h.since
            ELSE p.since END AS since,
       CASE WHEN g.provider IS NOT NULL AND h.why IS NULL THEN p.next_probe_at END AS next_probe_at,
       (SELECT pg_catalog.count(*) FROM @extschema@.sms_outbox o
         WHERE o.status OPERATOR(pg_catalog.=) 'queued'
           AND o.gateway OPERATOR(pg_catalog.=) g.name) AS queued,
       (SELECT pg_catalog.count(*) FROM @extschema@.sms_gateway_lease l,
               LATERAL pg_catalog.unnest(l.ids) AS leased(id)
          JOIN @extschema@.sms_outbox o ON o.id OPERATOR(pg_catalog.=) leased.id
         WHERE o.status OPERATOR(pg_catalog.=) 'queued'
           AND o.gateway OPERATOR(pg_catalog.=) g.name) AS in_flight,
       (SELECT x.option_value FROM pg_catalog.pg_options_to_table(g.options) x
         WHERE x.option_name OPERATOR(pg_catalog.=) 'rate_limit')::numeric AS rate_limit
  FROM gateway g
 CROSS JOIN held h
  LEFT JOIN @extschema@.sms_gateway_pause p
    ON p.gateway OPERATOR(pg_catalog.=) g.name AND p.state OPERATOR(pg_catalog.<>) 'resumed'
 CROSS JOIN LATERAL (
    SELECT pg_catalog.string_agg(pg_catalog.format('the credentials of role "%s" are refused: %s', r.role, r.reason), '; ')
      FROM (SELECT pg_catalog.pg_get_userbyid(f.role) AS role, f.reason FROM @extschema@.sms_gateway_refused f
             WHERE f.gateway OPERATOR(pg_catalog.=) g.name ORDER BY f.since LIMIT 5) r) AS c(refused);
COMMENT ON VIEW sms_gateways IS 'each gateway, whether it sends, and how much waits for it';
COMMENT ON COLUMN sms_gateways.name IS 'the foreign server';
COMMENT ON COLUMN sms_gateways.provider IS 'its wrapper; NULL: messages wait for a server that is not there';
COMMENT ON COLUMN sms_gateways.state IS 'active, resting (as it asked for), unreachable, paused (by sms_pause or its answers), held (nothing is sent from this database) or missing';
COMMENT ON COLUMN sms_gateways.reason IS 'why it is not active; and whose credentials it refuses, five roles at most';
COMMENT ON COLUMN sms_gateways.since IS 'when this state began, or, if it is held, was noticed last; NULL: active or missing, or nobody knows';
COMMENT ON COLUMN sms_gateways.next_probe_at IS 'when one message is tried; NULL: not by itself';
COMMENT ON COLUMN sms_gateways.queued IS 'messages that wait, or are on their way';
COMMENT ON COLUMN sms_gateways.in_flight IS 'messages on their way';
COMMENT ON COLUMN sms_gateways.rate_limit IS 'messages a second at most; NULL: no limit';

REVOKE ALL ON sms_gateways FROM PUBLIC;
GRANT SELECT ON sms_gateways TO pg_monitor;

-- The engine gives its statements rows without them.
DROP FUNCTION sms_gateway_results();
DROP FUNCTION sms_gateway_reports();

-- A message is queued exactly while it has a next attempt.  0.1.0 wrote no other rows, but owners may have;
-- nothing happens to these messages, so nobody's trigger is called.
-- What ended before there was a time of it, ended when it was last heard of.
ALTER TABLE sms_outbox ADD COLUMN ended_at timestamptz;
CREATE FUNCTION sms_gateway_update_rows() RETURNS void LANGUAGE sql
    SET session_replication_role = 'replica' SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
UPDATE sms_outbox SET next_attempt_at = NULL, ended_at = coalesce(delivered_at, sent_at, created_at)
 WHERE status OPERATOR(pg_catalog.<>) 'queued';
-- The worker never found these.
UPDATE sms_outbox SET next_attempt_at = created_at
 WHERE status OPERATOR(pg_catalog.=) 'queued' AND next_attempt_at OPERATOR(pg_catalog.=) '-infinity';
END;
SELECT sms_gateway_update_rows();
DROP FUNCTION sms_gateway_update_rows();
ALTER TABLE sms_outbox DROP CONSTRAINT queued_has_a_time,
    ADD CONSTRAINT queued_has_a_time CHECK ((status OPERATOR(pg_catalog.=) 'queued') OPERATOR(pg_catalog.=) (next_attempt_at IS NOT NULL));
CREATE INDEX sms_outbox_next ON sms_outbox (next_attempt_at, gateway, priority)
    WHERE status OPERATOR(pg_catalog.=) 'queued';
CREATE INDEX sms_outbox_ended ON sms_outbox (ended_at, id) WHERE ended_at IS NOT NULL;
COMMENT ON COLUMN sms_outbox.ended_at IS 'when its status became what it is: sent, failed, delivered ...; NULL while it is queued';
GRANT SELECT (ended_at) ON sms_outbox TO pg_monitor;
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
CREATE TABLE sms_gateway_usage (
    used bigint NOT NULL,
    window_end timestamptz NOT NULL,
    code bigint NOT NULL,
    tries bigint NOT NULL,
    gateway name,
    subject text,
    PRIMARY KEY (gateway, subject));
COMMENT ON TABLE sms_gateway_usage IS
    'messages counted towards the server options otp_per_phone, per_phone, per_role and daily_budget, and checks of one-time passwords; each is counted whatever becomes of its transaction';
COMMENT ON COLUMN sms_gateway_usage.used IS 'messages, or checks, in the window';
COMMENT ON COLUMN sms_gateway_usage.window_end IS 'then counting starts anew';
COMMENT ON COLUMN sms_gateway_usage.code IS 'of checks: the one-time password that tries are counted for';
COMMENT ON COLUMN sms_gateway_usage.tries IS 'of checks: how often that one was tried';
COMMENT ON COLUMN sms_gateway_usage.gateway IS 'the foreign server';
COMMENT ON COLUMN sms_gateway_usage.subject IS 'what is counted: otp, phone, role or check, with which; or day';

REVOKE ALL ON sms_gateway_otp, sms_gateway_usage FROM PUBLIC;
CREATE FUNCTION sms_gateway_update_counters() RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
INSERT INTO sms_gateway_otp (expires_at, gateway, sent_by, phone, salt, hash)
SELECT o.expires_at, o.gateway, o.gateway, o.phone, o.salt, o.hash FROM sms_gateway_otp_0_1 o
 WHERE o.tries OPERATOR(pg_catalog.<) 5 ORDER BY o.id;
INSERT INTO sms_gateway_usage SELECT u.used, u.window_end, 0, 0, u.gateway, u.subject FROM sms_gateway_usage_0_1 u;
END;
SELECT sms_gateway_update_counters();
DROP FUNCTION sms_gateway_update_counters();
DROP TABLE sms_gateway_otp_0_1, sms_gateway_usage_0_1;

-- An operator who says that a gateway is well is believed at once.
COMMENT ON FUNCTION sms_retry(bigint) IS
    'queues a failed, expired, canceled or uncertain message of yours again, due now, whatever its send_after, with its request_id and without an expires_at that has passed; one that waits to be tried again is due now, and its attempts are counted on; false for any other.'
    ' An uncertain message may be sent a second time. Errors as sms_cancel; 55000 if its text was blanked, 53400 if a limit refuses it';
COMMENT ON FUNCTION sms_resume(name) IS
    'tries a gateway now, and its messages that wait to be tried again, whoever paused it; false if it was active. Error 42704 for an unknown gateway';

-- What was said too briefly.
COMMENT ON COLUMN sms_outbox.gateway IS 'foreign server to send through; left out: sms_gateway.default_gateway, else the one server that can (of one-time passwords, the one whose provider makes them, if there is one)';
COMMENT ON COLUMN sms_outbox.attempts IS 'requests made since it was queued, or queued again by sms_retry, without those that the gateway refused for want of capacity';
COMMENT ON COLUMN sms_outbox.result_code IS 'code of the last answer; or resolve, connect, tls, timeout, broken, too_large (the network), proxy (a proxy refused), crash (the server stopped meanwhile), held (no user mapping, or its credentials are refused), refused (privilege or option gone), memory (it was out)';
COMMENT ON COLUMN sms_outbox.expires_at IS 'not after this time; later than now, and than send_after';
COMMENT ON FUNCTION sms_send(text, text, name, text, jsonb) IS
    'sends a text now and returns the gateway''s answer; errors, all before anything is sent: 22023 (phone, text, option), 42704 (gateway, user mapping), 42P08 (several gateways could send it), 42501 (no USAGE), 0A000 (gateway cannot), 23505 (a message of the outbox has this request_id), 53400 (a limit is reached), 55000 (switched off, or this is a copy)';
COMMENT ON FUNCTION sms_omni_send(text, text, jsonb, text[], name, jsonb) IS
    'sends a template now, with list_param as its variables (an object; eSMS, Zalo and then SMS: an array in the template''s order), over the channels of routerule in turn (1 ZNS, 2 automatic call, 3 SMS); errors as sms_send';
COMMENT ON FUNCTION sms_adopt_outbox(sms_status[]) IS
    'for a copy (of the files, a restored backup or dump, CREATE DATABASE ... TEMPLATE, pg_upgrade) that takes the place of the original: from now on this database sends. The original''s messages in these states become its own: queued ones are sent, sent ones followed; others stay as they are. Returns how many. See first that the original sends no more. Error 42501 unless you own the outbox';

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
    'takes a provider''s delivery callback, as a JSON object of its fields; returns the message''s id, NULL if the report is of none that is known (it is kept for 7 days, in case the message''s answer comes later). Errors: 42704 for an unknown gateway, 42501 if the gateway''s callback_url holds {token} and the report not the right one, 22023 for no JSON object, 25006 in a read-only transaction';
