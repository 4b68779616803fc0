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
    ADD state text NOT NULL DEFAULT 'paused' CONSTRAINT state_is_known CHECK (state IN ('resting', 'unreachable', 'paused')),
    ADD next_probe_at timestamptz;
COMMENT ON TABLE sms_gateway_pause IS 'gateways that are not active, and why; others have no row';
COMMENT ON COLUMN sms_gateway_pause.reason IS 'why it is not active';
COMMENT ON COLUMN sms_gateway_pause.by_user IS 'paused by sms_pause (until sms_resume), not by the gateway''s answers (until a probe passes)';
COMMENT ON COLUMN sms_gateway_pause.since IS 'when the state began';
COMMENT ON COLUMN sms_gateway_pause.state IS 'resting, unreachable or paused';
COMMENT ON COLUMN sms_gateway_pause.next_probe_at IS 'when one message is tried; NULL: not by itself';

-- Gateways are found by their wrapper's belonging to the extension, not by its name.
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
held AS (
    SELECT CASE
        WHEN pg_catalog.current_setting('sms_gateway.enabled', true) OPERATOR(pg_catalog.=) 'off'
            THEN 'sms_gateway.enabled is off'
        WHEN (SELECT pg_catalog.count(*) OPERATOR(pg_catalog.<>) 1 OR pg_catalog.bool_or(i.database_oid
                    OPERATOR(pg_catalog.<>) (SELECT d.oid FROM pg_catalog.pg_database d
                                              WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))
                FROM @extschema@.sms_gateway_identity i)
            THEN 'this database is a copy; see sms_adopt_outbox'
        END AS why)
SELECT g.name,
       g.provider,
       CASE WHEN g.provider IS NULL THEN 'missing'
            WHEN h.why IS NOT NULL THEN 'held'
            ELSE coalesce(p.state, 'active') END AS state,
       CASE WHEN g.provider IS NULL THEN 'there is no such server'
            ELSE coalesce(h.why, p.reason) END AS reason,
       CASE WHEN g.provider IS NOT NULL AND h.why IS NULL THEN p.since END AS since,
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
  LEFT JOIN @extschema@.sms_gateway_pause p ON p.gateway OPERATOR(pg_catalog.=) g.name;
COMMENT ON VIEW sms_gateways IS 'each gateway, whether it sends, and how much waits for it';
COMMENT ON COLUMN sms_gateways.name IS 'the foreign server';
COMMENT ON COLUMN sms_gateways.provider IS 'its wrapper; NULL: messages wait for a server that is not there';
COMMENT ON COLUMN sms_gateways.state IS 'active, resting (as it asked for), unreachable, paused (by sms_pause or its answers), held (nothing is sent from this database) or missing';
COMMENT ON COLUMN sms_gateways.reason IS 'why it is not active';
COMMENT ON COLUMN sms_gateways.since IS 'when this state began; NULL: active, held or missing';
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
CREATE INDEX sms_outbox_ended ON sms_outbox (ended_at, id) WHERE ended_at IS NOT NULL;
COMMENT ON COLUMN sms_outbox.ended_at IS 'when its status became what it is: sent, failed, delivered ...; NULL while it is queued';
GRANT SELECT (ended_at) ON sms_outbox TO pg_monitor;
COMMENT ON COLUMN sms_outbox.next_attempt_at IS 'queued: when it is due; else NULL';

-- Without a key it could not be purged while it is published (FOR ALL TABLES), which stopped the worker.
ALTER TABLE sms_gateway_otp ADD PRIMARY KEY (id);

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
