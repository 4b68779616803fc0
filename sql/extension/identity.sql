-- Which database an outbox belongs to: internal.

CREATE TABLE sms_gateway_identity (
    instance bigint PRIMARY KEY,
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    secret bytea NOT NULL,
    timeline bigint,
    place text,
    machine bigint,
    filesystem bigint,
    file bigint,
    born timestamptz,
    directory text,
    citus_group integer,
    held boolean NOT NULL DEFAULT false);
COMMENT ON TABLE sms_gateway_identity IS
    'the cluster and database that this outbox belongs to; a restored dump brings a second row along and is known by it';
COMMENT ON COLUMN sms_gateway_identity.instance IS 'random number, the origin of the rows made here';
COMMENT ON COLUMN sms_gateway_identity.system_identifier IS 'of the cluster';
COMMENT ON COLUMN sms_gateway_identity.database_oid IS 'of the database';
COMMENT ON COLUMN sms_gateway_identity.created_at IS 'when';
COMMENT ON COLUMN sms_gateway_identity.secret IS 'random key of callback tokens and of one-time passwords'' hashes';
COMMENT ON COLUMN sms_gateway_identity.timeline IS 'of the server, when it was last at home';
COMMENT ON COLUMN sms_gateway_identity.place IS 'sms_gateway.place, then';
COMMENT ON COLUMN sms_gateway_identity.machine IS 'hash of its machine''s id';
COMMENT ON COLUMN sms_gateway_identity.filesystem IS 'number of the file system of its data directory';
COMMENT ON COLUMN sms_gateway_identity.file IS 'inode number of PG_VERSION in its data directory';
COMMENT ON COLUMN sms_gateway_identity.born IS 'when that file was made';
COMMENT ON COLUMN sms_gateway_identity.directory IS 'path of its data directory';
COMMENT ON COLUMN sms_gateway_identity.citus_group IS 'its group in a Citus cluster';
COMMENT ON COLUMN sms_gateway_identity.held IS 'it was found to be a copy of the files, and is held';

ALTER TABLE sms_gateway_identity ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON sms_gateway_identity FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('sms_gateway_identity', '');
