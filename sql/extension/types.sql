-- Types that users see.

CREATE TYPE sms_status AS ENUM (
    'queued', 'sending', 'sent', 'delivered', 'undelivered',
    'failed', 'uncertain', 'expired', 'canceled');
COMMENT ON TYPE sms_status IS
    'what became of a message: queued (waits, or is on its way) -> sent (the provider has it) -> delivered | undelivered; or failed, uncertain (the provider may have it), expired, canceled';

CREATE TYPE sms_result AS (
    gateway name,
    status sms_status,
    smsid text,
    id_omni_mess text,
    referent_id text,
    result_code text,
    result_message text,
    http_status int,
    request_id text);
COMMENT ON TYPE sms_result IS 'what a gateway, or the network, answered to one request';
COMMENT ON COLUMN sms_result.gateway IS 'the foreign server that was asked';
COMMENT ON COLUMN sms_result.status IS 'sent, failed (certainly not accepted) or uncertain (may have been accepted)';
COMMENT ON COLUMN sms_result.smsid IS 'eSMS''s id of the message';
COMMENT ON COLUMN sms_result.id_omni_mess IS 'eTelecom''s id of the message';
COMMENT ON COLUMN sms_result.referent_id IS 'Interits'' id of the message';
COMMENT ON COLUMN sms_result.result_code IS 'the provider''s code; or resolve, connect, tls, timeout, broken, too_large where the network failed';
COMMENT ON COLUMN sms_result.result_message IS 'the provider''s text, or what the network did';
COMMENT ON COLUMN sms_result.http_status IS 'HTTP status; NULL if there was no answer';
COMMENT ON COLUMN sms_result.request_id IS 'the de-duplication key that was sent; repeat an uncertain eSMS message with it inside 24 hours and it is not sent twice';
