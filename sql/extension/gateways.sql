-- Gateways at a glance.

CREATE FUNCTION sms_gateway_checks(OUT name text, OUT problem text, OUT since timestamptz) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL RESTRICTED ROWS 6;
COMMENT ON FUNCTION sms_gateway_checks() IS
    'internal: what sending from this database needs of the server, what is wrong with each, and since when, if that is known';

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

REVOKE ALL ON sms_gateways FROM PUBLIC;
GRANT SELECT ON sms_gateways TO pg_monitor;
