-- What one-time passwords and limits are counted in: internal.

CREATE TABLE sms_gateway_otp (
    expires_at timestamptz NOT NULL,
    -- A table without a key could not be purged while it is published.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway name NOT NULL,
    sent_by name NOT NULL,
    phone text NOT NULL,
    salt bytea,
    hash bytea,
    CONSTRAINT hash_has_a_salt CHECK ((salt IS NULL) OPERATOR(pg_catalog.=) (hash IS NULL)));
CREATE INDEX sms_gateway_otp_phone ON sms_gateway_otp (phone, id);
ALTER TABLE sms_gateway_otp ALTER phone SET STATISTICS 0;
COMMENT ON TABLE sms_gateway_otp IS
    'one-time passwords that were sent, as salted hashes if they were made here; the last one of a phone through a gateway is the one that counts there';
COMMENT ON COLUMN sms_gateway_otp.expires_at IS 'good until';
COMMENT ON COLUMN sms_gateway_otp.id IS 'in the order in which they were made';
COMMENT ON COLUMN sms_gateway_otp.gateway IS 'the foreign server that was asked for it';
COMMENT ON COLUMN sms_gateway_otp.sent_by IS 'the foreign server it was sent through: that one, or a fallback; a check through either finds it';
COMMENT ON COLUMN sms_gateway_otp.phone IS 'receiver';
COMMENT ON COLUMN sms_gateway_otp.salt IS 'random; NULL: the provider made the code and checks it';
COMMENT ON COLUMN sms_gateway_otp.hash IS 'HMAC-SHA-256 of salt, gateway, phone and code, with this database''s secret as key';

-- Its first columns are changed in place, outside of transactions (counter.c): they have a fixed position and width.
-- A campaign finds one for each phone: their key is short, its first column tells most apart, byte by byte.
CREATE TABLE sms_gateway_usage (
    used bigint NOT NULL,
    window_end timestamptz NOT NULL,
    code bigint NOT NULL,
    tries bigint NOT NULL,
    gateway text COLLATE pg_catalog."C",
    subject text COLLATE pg_catalog."C",
    PRIMARY KEY (subject, gateway));
COMMENT ON TABLE sms_gateway_usage IS
    'messages counted towards the server options otp_per_phone, per_phone, per_role and daily_budget, and checks of one-time passwords; each is counted whatever becomes of its transaction';
COMMENT ON COLUMN sms_gateway_usage.used IS 'messages, or checks, in the window';
COMMENT ON COLUMN sms_gateway_usage.window_end IS 'then counting starts anew';
COMMENT ON COLUMN sms_gateway_usage.code IS 'of checks: the one-time password that tries are counted for';
COMMENT ON COLUMN sms_gateway_usage.tries IS 'of checks: how often that one was tried';
COMMENT ON COLUMN sms_gateway_usage.gateway IS 'the foreign server';
COMMENT ON COLUMN sms_gateway_usage.subject IS 'what is counted: otp, phone or check, with a keyed hash of the phone; role, with which; or day';

ALTER TABLE sms_gateway_otp ENABLE ROW LEVEL SECURITY;
ALTER TABLE sms_gateway_usage ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON sms_gateway_otp, sms_gateway_usage FROM PUBLIC;
