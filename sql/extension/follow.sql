-- What became of messages that were sent.

CREATE TABLE sms_gateway_callback (
    gateway name,
    reference text,
    message bigint,
    report jsonb NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    looked boolean NOT NULL DEFAULT false,
    PRIMARY KEY (gateway, reference));
CREATE INDEX sms_gateway_callback_unknown ON sms_gateway_callback (received_at) WHERE NOT looked;
ALTER TABLE sms_gateway_callback ALTER report SET STATISTICS 0;
COMMENT ON TABLE sms_gateway_callback IS
    'delivery reports by the provider''s id, for 7 days: those that came before their message''s answer wait for it, others are remembered for when they come twice';
COMMENT ON COLUMN sms_gateway_callback.gateway IS 'the foreign server';
COMMENT ON COLUMN sms_gateway_callback.reference IS 'SMSID, idOmniMess, referentId or request_id in the report';
COMMENT ON COLUMN sms_gateway_callback.message IS 'the message it belongs to; NULL: not known yet';
COMMENT ON COLUMN sms_gateway_callback.report IS 'what was read of it';
COMMENT ON COLUMN sms_gateway_callback.received_at IS 'when';
COMMENT ON COLUMN sms_gateway_callback.looked IS 'its message was looked for; a message that gets its answer later looks for it';

CREATE FUNCTION sms_check_status(id bigint) RETURNS sms_status
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_check_status(bigint) IS
    'asks the provider now what became of a message of yours, updates its row and returns its status; a message that has ended, or that the provider cannot be asked about, keeps its status. Error 42704 if there is none of yours, 0A000 if the gateway has no such call';
CREATE FUNCTION sms_delivery_report(gateway name, report jsonb) RETURNS bigint
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_delivery_report(name, jsonb) IS
    'takes a provider''s delivery callback, as a JSON object of its fields; returns the message''s id, NULL if the report is of none that is known (it is kept for 7 days, in case the message''s answer comes later). Errors: 42704 for an unknown gateway, 42501 if the gateway''s callback_url holds {token} and the report not the right one, 22023 for no JSON object, or one of more than 16 kB, 25006 in a read-only transaction';
CREATE FUNCTION sms_balance(gateway name = NULL) RETURNS numeric
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_balance(name) IS
    'what is left on the provider''s account, in its currency (eSMS: VND); NULL, with a warning, if the gateway did not say. Errors as sms_send';

ALTER TABLE sms_gateway_callback ENABLE ROW LEVEL SECURITY;
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

REVOKE ALL ON sms_gateway_callback FROM PUBLIC;
REVOKE ALL ON FUNCTION sms_gateway_legs(jsonb, jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION sms_delivery_report(name, jsonb) FROM PUBLIC;
