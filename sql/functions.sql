-- Sending now: what is refused before anything leaves, and what an unreachable gateway gives.
CREATE EXTENSION sms_gateway;
-- Nothing listens on port 1.
CREATE SERVER shop FOREIGN DATA WRAPPER esms OPTIONS (brandname 'MYSHOP', base_url 'http://127.0.0.1:1');
CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS (api_key 'k', secret_key 's');
CREATE FUNCTION state_of(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command;
    RETURN 'no error';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END $$;

-- a result, not an error
SELECT gateway, status, smsid, result_code, http_status, request_id LIKE 'sgw-%' AS made
  FROM sms_send('0901234567', 'hello');
SELECT status, result_code, request_id FROM sms_send('0901234567', 'hello', request_id => 'mine');
SELECT status, result_code FROM sms_send_otp('0901234567');
\set VERBOSITY terse
SELECT sms_check_otp('0901234567', '123456');
\set VERBOSITY default

-- phones
SELECT * FROM sms_send('', 'hello');
SELECT * FROM sms_send(NULL, 'hello');
SELECT * FROM sms_send('hello', 'hello');
SELECT * FROM sms_send('901234567', 'hello');
-- a text that is cut in an error ends with a whole character
SELECT right(convert_from(convert_to(state_of($$SELECT sms_send('0901234567', 'x', options => jsonb_build_object(repeat('ạ', 300), '1'))$$), 'UTF8'), 'UTF8'), 3);
-- texts
SELECT state_of($$SELECT sms_send('0901234567', '')$$);
SELECT state_of($$SELECT sms_send('0901234567', E' \n')$$);
SELECT state_of($$SELECT sms_send('0901234567', NULL)$$);
SELECT state_of($$SELECT sms_send('0901234567', repeat('x', 1530))$$);
SELECT * FROM sms_send('0901234567', repeat('x', 1531));
SELECT * FROM sms_send('0901234567', repeat('ạ', 671));
-- request ids
SELECT state_of($$SELECT sms_send('0901234567', 'x', request_id => repeat('r', 50))$$);
SELECT state_of($$SELECT sms_send('0901234567', 'x', request_id => repeat('r', 51))$$);
SELECT state_of($$SELECT sms_send('0901234567', 'x', request_id => '')$$);
-- one-time passwords
SELECT * FROM sms_send_otp('0901234567', 'no place');
SELECT * FROM sms_send_otp('0901234567', ttl => '1 minute');
SELECT state_of($$SELECT sms_send_otp('0901234567', ttl => '2 minutes')$$);
SELECT state_of($$SELECT sms_send_otp('0901234567', ttl => '10 minutes')$$);
SELECT state_of($$SELECT sms_send_otp('0901234567', ttl => '11 minutes')$$);
SELECT state_of($$SELECT sms_send_otp('0901234567', ttl => '150 seconds')$$);
SELECT state_of($$SELECT sms_send_otp('0901234567', ttl => '-5 minutes')$$);
SELECT state_of($$SELECT sms_send_otp('0901234567', length => 0)$$);
SELECT state_of($$SELECT sms_send_otp('0901234567', length => 99)$$);
SELECT state_of($$SELECT sms_check_otp('0901234567', '')$$);
-- options of one message
SELECT * FROM sms_send('0901234567', 'x', options => '{"sender": "x"}');
SELECT * FROM sms_send('0901234567', 'x', options => '{"sms_type": 9}');
SELECT state_of($$SELECT sms_send('0901234567', 'x', options => '{"api_key": "x"}')$$);
SELECT state_of($$SELECT sms_send('0901234567', 'x', options => '{"base_url": "x"}')$$);
SELECT state_of($$SELECT sms_send('0901234567', 'x', options => '[]')$$);
SELECT state_of($$SELECT sms_send('0901234567', 'x', options => '{"sms_type": {"a": 1}}')$$);
SELECT state_of($$SELECT sms_send('0901234567', 'x', options => '{"sms_type": 8, "sandbox": true, "unicode": "auto"}')$$);
SELECT state_of($$SELECT sms_send('0901234567', 'x', options => '{"send_date": "tomorrow"}')$$);
SELECT state_of($$SELECT sms_send('0901234567', 'x', options => jsonb_build_object('send_date', now()))$$);

-- gateways
SELECT * FROM sms_send('0901234567', 'x', gateway => 'nowhere');
SELECT * FROM sms_omni_send('0901234567', 'T');
SELECT * FROM sms_omni_send('0901234567', 'T', gateway => 'shop');
SELECT * FROM sms_send_bulk('{0901234567}', 'x');
CREATE SERVER omni FOREIGN DATA WRAPPER etelecom OPTIONS (base_url 'http://127.0.0.1:1');
SELECT regexp_replace(state_of($$SELECT sms_omni_send('0901234567', 'T')$$), 'role ".*" for', 'role "…" for');
CREATE USER MAPPING FOR PUBLIC SERVER omni OPTIONS (username 'u');
SELECT * FROM sms_omni_send('0901234567', 'T');
ALTER USER MAPPING FOR PUBLIC SERVER omni OPTIONS (ADD password 'p');
SELECT gateway, status, result_code, request_id FROM sms_omni_send('0901234567', 'T');
SELECT state_of($$SELECT sms_omni_send('0901234567', 'T', '[]')$$);
SELECT state_of($$SELECT sms_omni_send('0901234567', 'T', '"x"')$$);
SELECT state_of($$SELECT sms_omni_send('0901234567', NULL)$$);
SELECT state_of($$SELECT sms_omni_send('0901234567', '')$$);
SELECT state_of($$SELECT sms_omni_send('0901234567', 'T', routerule => '{1,4}')$$);
SELECT state_of($$SELECT sms_omni_send('0901234567', 'T', routerule => '{}')$$);
SELECT state_of($$SELECT sms_omni_send('0901234567', 'T', routerule => '{1,NULL}')$$);
SELECT state_of($$SELECT sms_omni_send('0901234567', 'T', routerule => '{3,1}')$$);
CREATE SERVER cpaas FOREIGN DATA WRAPPER interits OPTIONS (sender 'S', base_url 'http://127.0.0.1:1');
CREATE USER MAPPING FOR PUBLIC SERVER cpaas OPTIONS (api_key 'k');
SELECT * FROM sms_send('0901234567', 'x');
SET sms_gateway.default_gateway = 'cpaas';
SELECT gateway, status, result_code FROM sms_send('0901234567', 'x', options => '{"ext": {"a": [1]}, "scheduled": "2026-12-31T00:00:00Z"}');
SELECT * FROM sms_omni_send('0901234567', 'T');
SET sms_gateway.default_gateway = 'nope';
SELECT * FROM sms_send('0901234567', 'x');
RESET sms_gateway.default_gateway;
SELECT status, result_code FROM sms_send_bulk('{0901234567,+84901234568}', 'x');
SELECT state_of($$SELECT sms_send_bulk('{}', 'x')$$);
SELECT state_of($$SELECT sms_send_bulk(NULL, 'x')$$);
SELECT state_of($$SELECT sms_send_bulk('{0901234567,NULL}', 'x')$$);
SELECT state_of($$SELECT sms_send_bulk(array_fill('0901234567'::text, '{1001}'), 'x')$$);
ALTER SERVER cpaas OPTIONS (DROP sender);
SELECT * FROM sms_send('0901234567', 'x', gateway => 'cpaas');
ALTER SERVER shop OPTIONS (DROP brandname);
SELECT state_of($$SELECT sms_send('0901234567', 'x', gateway => 'shop')$$);
SELECT state_of($$SELECT sms_send('0901234567', 'x', gateway => 'shop', options => '{"sms_type": "8"}')$$);

-- who may send
CREATE ROLE regress_sms_app;
SET ROLE regress_sms_app;
SELECT * FROM sms_send('0901234567', 'x', gateway => 'cpaas');
SELECT state_of($$SELECT sms_send('0901234567', 'x')$$);
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER shop TO regress_sms_app;
SET ROLE regress_sms_app;
SELECT gateway, status FROM sms_send('0901234567', 'x', options => '{"sms_type": "8"}');
RESET ROLE;
DROP USER MAPPING FOR PUBLIC SERVER shop;
SET ROLE regress_sms_app;
SELECT * FROM sms_send('0901234567', 'x');
RESET ROLE;
DROP OWNED BY regress_sms_app;
DROP ROLE regress_sms_app;
DROP FUNCTION state_of;
DROP EXTENSION sms_gateway CASCADE;
