\echo Use "ALTER EXTENSION sms_gateway UPDATE TO '0.2.0'" to load this file. \quit

-- First, and at once as strongly as it will be: whoever waits then waits for this, and it for nobody that waits.
LOCK TABLE sms_outbox IN ACCESS EXCLUSIVE MODE;

-- No two names differ by one letter.
ALTER TABLE sms_gateway_state RENAME TO sms_gateway_pause;
ALTER INDEX sms_gateway_state_pkey RENAME TO sms_gateway_pause_pkey;
ALTER TABLE sms_gateway_report RENAME TO sms_gateway_callback;
ALTER INDEX sms_gateway_report_pkey RENAME TO sms_gateway_callback_pkey;
ALTER INDEX sms_gateway_report_unknown RENAME TO sms_gateway_callback_unknown;

-- Gateways are found by their wrapper's belonging to the extension, not by its name.
CREATE OR REPLACE VIEW sms_gateways AS
SELECT s.srvname AS name,
       w.fdwname AS provider,
       CASE WHEN p.gateway IS NULL THEN 'active' ELSE 'paused' END AS state,
       p.reason,
       p.since AS paused_since,
       (SELECT pg_catalog.count(*) FROM @extschema@.sms_outbox o
         WHERE o.status OPERATOR(pg_catalog.=) 'queued'
           AND o.gateway OPERATOR(pg_catalog.=) s.srvname) AS queued,
       (SELECT pg_catalog.count(*) FROM @extschema@.sms_gateway_lease l,
               LATERAL pg_catalog.unnest(l.ids) AS leased(id)
          JOIN @extschema@.sms_outbox o ON o.id OPERATOR(pg_catalog.=) leased.id
         WHERE o.status OPERATOR(pg_catalog.=) 'queued'
           AND o.gateway OPERATOR(pg_catalog.=) s.srvname) AS in_flight,
       (SELECT x.option_value FROM pg_catalog.pg_options_to_table(s.srvoptions) x
         WHERE x.option_name OPERATOR(pg_catalog.=) 'rate_limit')::numeric AS rate_limit
  FROM pg_catalog.pg_foreign_server s
  JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid OPERATOR(pg_catalog.=) s.srvfdw
  LEFT JOIN @extschema@.sms_gateway_pause p ON p.gateway OPERATOR(pg_catalog.=) s.srvname
 WHERE EXISTS (SELECT FROM pg_catalog.pg_depend d
                 JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
                WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass
                  AND d.objid OPERATOR(pg_catalog.=) w.oid
                  AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass
                  AND d.deptype OPERATOR(pg_catalog.=) 'e'
                  AND e.extname OPERATOR(pg_catalog.=) 'sms_gateway');
COMMENT ON COLUMN sms_gateways.provider IS 'its wrapper';

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
