-- What the engine keeps and calls: internal.

CREATE TABLE sms_gateway_lease (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ids bigint[] NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now());
COMMENT ON TABLE sms_gateway_lease IS
    'messages on their way: written before the first byte leaves, so that a crash knows which may have gone; a row whose status is no longer queued is settled';
COMMENT ON COLUMN sms_gateway_lease.id IS 'number of the claim';
COMMENT ON COLUMN sms_gateway_lease.ids IS 'the messages claimed together';
COMMENT ON COLUMN sms_gateway_lease.claimed_at IS 'when';

CREATE TABLE sms_gateway_state (
    gateway name PRIMARY KEY,
    reason text NOT NULL,
    by_user bool NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    state text NOT NULL DEFAULT 'paused' CONSTRAINT state_is_known CHECK (state IN ('resting', 'unreachable', 'paused', 'resumed')),
    next_probe_at timestamptz);
COMMENT ON TABLE sms_gateway_state IS 'gateways that are not active, and why; others have no row';
COMMENT ON COLUMN sms_gateway_state.gateway IS 'the foreign server';
COMMENT ON COLUMN sms_gateway_state.reason IS 'why it is not active';
COMMENT ON COLUMN sms_gateway_state.by_user IS 'paused by sms_pause (until sms_resume), not by the gateway''s answers (until a probe passes)';
COMMENT ON COLUMN sms_gateway_state.since IS 'when the state began';
COMMENT ON COLUMN sms_gateway_state.state IS 'resting, unreachable or paused; resumed: by sms_resume, and its messages are being made due';
COMMENT ON COLUMN sms_gateway_state.next_probe_at IS 'when one message is tried; NULL: not by itself';

CREATE TABLE sms_gateway_refused (
    gateway name,
    role oid,
    credentials bigint NOT NULL,
    reason text NOT NULL,
    since timestamptz NOT NULL,
    next_probe_at timestamptz NOT NULL,
    PRIMARY KEY (gateway, role));
COMMENT ON TABLE sms_gateway_refused IS 'roles whose own credentials a gateway refuses: their messages wait';
COMMENT ON COLUMN sms_gateway_refused.gateway IS 'the foreign server';
COMMENT ON COLUMN sms_gateway_refused.role IS 'whose user mapping it is';
COMMENT ON COLUMN sms_gateway_refused.credentials IS 'tells whether the mapping is still the same';
COMMENT ON COLUMN sms_gateway_refused.reason IS 'what the gateway answered';
COMMENT ON COLUMN sms_gateway_refused.since IS 'when that began';
COMMENT ON COLUMN sms_gateway_refused.next_probe_at IS 'when one message of the role is tried';

CREATE FUNCTION sms_gateway_claimed(id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 1;
COMMENT ON FUNCTION sms_gateway_claimed(bigint) IS
    'internal: is this message on its way in the engine of this session?';
CREATE FUNCTION sms_gateway_redacts(gateway name, kind text) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_gateway_redacts(name, text) IS
    'internal: is the text of such a message blanked when it has ended?';

-- What is internal has row-level security and no policy, here as in the other files: no row of it is seen or changed by
-- members of pg_read_all_data and pg_write_all_data.  Its owner, as whom the engine runs, is not subject to that.
ALTER TABLE sms_gateway_lease ENABLE ROW LEVEL SECURITY;
ALTER TABLE sms_gateway_state ENABLE ROW LEVEL SECURITY;
ALTER TABLE sms_gateway_refused ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON sms_gateway_lease, sms_gateway_state, sms_gateway_refused FROM PUBLIC;
REVOKE ALL ON FUNCTION sms_gateway_claimed(bigint), sms_gateway_redacts(name, text) FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('sms_gateway_state', '');
