-- What the provider knows, before it costs money.

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
