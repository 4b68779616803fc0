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
