-- Gateways at a glance.

CREATE VIEW sms_gateways AS
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
COMMENT ON VIEW sms_gateways IS 'each gateway, whether it sends, and how much waits for it';
COMMENT ON COLUMN sms_gateways.name IS 'the foreign server';
COMMENT ON COLUMN sms_gateways.provider IS 'its wrapper';
COMMENT ON COLUMN sms_gateways.state IS 'active or paused';
COMMENT ON COLUMN sms_gateways.reason IS 'why it is paused';
COMMENT ON COLUMN sms_gateways.paused_since IS 'paused since';
COMMENT ON COLUMN sms_gateways.queued IS 'messages that wait, or are on their way';
COMMENT ON COLUMN sms_gateways.in_flight IS 'messages on their way';
COMMENT ON COLUMN sms_gateways.rate_limit IS 'messages a second at most; NULL: no limit';

REVOKE ALL ON sms_gateways FROM PUBLIC;
GRANT SELECT ON sms_gateways TO pg_monitor;
