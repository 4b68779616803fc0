-- Which database an outbox belongs to: internal.

CREATE TABLE sms_gateway_identity (
    instance bigint PRIMARY KEY,
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    secret bytea NOT NULL);
COMMENT ON TABLE sms_gateway_identity IS
    'the cluster and database that this outbox belongs to; a restored dump brings a second row along and is known by it';
COMMENT ON COLUMN sms_gateway_identity.instance IS 'random number, the origin of the rows made here';
COMMENT ON COLUMN sms_gateway_identity.system_identifier IS 'of the cluster';
COMMENT ON COLUMN sms_gateway_identity.database_oid IS 'of the database';
COMMENT ON COLUMN sms_gateway_identity.created_at IS 'when';
COMMENT ON COLUMN sms_gateway_identity.secret IS 'random key of callback tokens and of one-time passwords'' hashes';

REVOKE ALL ON sms_gateway_identity FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('sms_gateway_identity', '');
