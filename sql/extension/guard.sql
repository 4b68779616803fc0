-- What one-time passwords and limits are counted in: internal.

-- The first columns of the next two tables are counted up in place, outside of transactions
-- (counter.c): they have a fixed position and width.
CREATE TABLE sms_gateway_otp (
    tries bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    -- A table without a key could not be purged while it is published.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway name NOT NULL,
    phone text NOT NULL,
    salt bytea NOT NULL,
    hash bytea NOT NULL);
CREATE INDEX sms_gateway_otp_phone ON sms_gateway_otp (gateway, phone, id);
COMMENT ON TABLE sms_gateway_otp IS
    'one-time passwords made here (eTelecom, Interits), as salted hashes; the last one of a phone is the one that counts';
COMMENT ON COLUMN sms_gateway_otp.tries IS 'wrong tries, also those of transactions that rolled back; 5 end it';
COMMENT ON COLUMN sms_gateway_otp.expires_at IS 'good until';
COMMENT ON COLUMN sms_gateway_otp.id IS 'in the order in which they were made';
COMMENT ON COLUMN sms_gateway_otp.gateway IS 'the foreign server it was sent through';
COMMENT ON COLUMN sms_gateway_otp.phone IS 'receiver';
COMMENT ON COLUMN sms_gateway_otp.salt IS 'random';
COMMENT ON COLUMN sms_gateway_otp.hash IS 'HMAC-SHA-256 of salt, phone and code, with this database''s secret as key';

CREATE TABLE sms_gateway_usage (
    used bigint NOT NULL,
    window_end timestamptz NOT NULL,
    gateway name,
    subject text,
    PRIMARY KEY (gateway, subject));
COMMENT ON TABLE sms_gateway_usage IS
    'messages counted towards the server options otp_per_phone, per_phone, per_role and daily_budget';
COMMENT ON COLUMN sms_gateway_usage.used IS 'messages in the window';
COMMENT ON COLUMN sms_gateway_usage.window_end IS 'then counting starts anew';
COMMENT ON COLUMN sms_gateway_usage.gateway IS 'the foreign server';
COMMENT ON COLUMN sms_gateway_usage.subject IS 'what is limited: otp, phone or role, with which; or day';

REVOKE ALL ON sms_gateway_otp, sms_gateway_usage FROM PUBLIC;
