-- Last: the database is written down, and a worker is started when this commits.

CREATE FUNCTION sms_gateway_created() RETURNS void
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
SELECT sms_gateway_created();
DROP FUNCTION sms_gateway_created();
