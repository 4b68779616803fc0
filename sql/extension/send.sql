-- Sending now.  Whoever has USAGE on a gateway's server may send through it.

CREATE FUNCTION sms_send(phone text, content text, gateway name = NULL,
                         request_id text = NULL, options jsonb = NULL) RETURNS sms_result
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_send(text, text, name, text, jsonb) IS
    'sends a text now and returns the gateway''s answer; errors, all before anything is sent: 22023 (phone, text, option), 42704 (gateway, user mapping), 42P08 (several gateways could send it), 42501 (no USAGE), 0A000 (gateway cannot), 23505 (a message of yours in the outbox has this request_id), 53400 (a limit is reached), 55000 (switched off, or this is a copy)';

CREATE FUNCTION sms_send_bulk(phones text[], content text, gateway name = NULL,
                              request_id text = NULL, options jsonb = NULL) RETURNS sms_result
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_send_bulk(text[], text, name, text, jsonb) IS
    'sends one text to many receivers in one request now (Interits: up to 1,000; eSMS advertising: 30 to 5,000); errors as sms_send';

CREATE FUNCTION sms_send_otp(phone text, content text = '{OTP}', gateway name = NULL,
                             ttl interval = '5 minutes', length int = 6,
                             digits_only bool = true, options jsonb = NULL) RETURNS sms_result
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_send_otp(text, text, name, interval, int, bool, jsonb) IS
    'sends a one-time password now, in the place of {OTP} in content (eTelecom: in the template''s variable that the server option otp_param names). ttl: how long it is good (eSMS: whole minutes, 2 to 10); length: characters, 4 to 10. The code itself is not returned; sms_check_otp knows it. Errors as sms_send';

CREATE FUNCTION sms_omni_send(phone text, template_code text, list_param jsonb = '{}',
                              routerule text[] = NULL, gateway name = NULL,
                              options jsonb = NULL) RETURNS sms_result
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_omni_send(text, text, jsonb, text[], name, jsonb) IS
    'sends a template now, with list_param as its variables (an object; eSMS, Zalo and then SMS: an array in the template''s order), over the channels of routerule in turn (1 ZNS, 2 automatic call, 3 SMS); errors as sms_send';

CREATE FUNCTION sms_check_otp(phone text, code text, gateway name = NULL) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_check_otp(text, text, name) IS
    'is this the one-time password that was sent to this phone? true uses it up, when the transaction commits; false: used, expired, wrong, or tried wrongly 5 times; NULL, with a warning: the gateway did not say. Errors as sms_send';
