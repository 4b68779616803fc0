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
    'asks the provider now what became of a message of yours, updates its row and returns its status; a message that has ended, or that the provider cannot be asked about, keeps its status. Error 42501 if it is not yours, 42704 if there is none, 0A000 if the gateway has no such call';
CREATE FUNCTION sms_delivery_report(gateway name, report jsonb) RETURNS bigint
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_delivery_report(name, jsonb) IS
    'takes a provider''s delivery callback, as a JSON object of its fields; returns the message''s id, NULL if the report is of none that is known (it is kept for 7 days, in case the message''s answer comes later). Errors: 42704 for an unknown gateway, 42501 if the gateway''s callback_url holds {token} and the report not the right one, 22023 for no JSON object, or one of more than 16 kB, 25006 in a read-only transaction';
CREATE FUNCTION sms_balance(gateway name = NULL) RETURNS numeric
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_balance(name) IS
    'what is left on the provider''s account, in its currency (eSMS: VND); NULL, with a warning, if the gateway did not say. Errors as sms_send';

ALTER TABLE sms_gateway_callback ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON sms_gateway_callback FROM PUBLIC;
REVOKE ALL ON FUNCTION sms_delivery_report(name, jsonb) FROM PUBLIC;
