\set QUIET on
\pset null '·'
\pset footer off


\echo
\echo '--- Three gateways: a foreign server each, with the credentials in a user mapping'
\set ECHO queries
CREATE EXTENSION sms_gateway;
CREATE SERVER shop FOREIGN DATA WRAPPER esms OPTIONS (brandname 'MYSHOP', base_url :'url');
CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS (api_key 'demo', secret_key 'demo');
CREATE SERVER omni FOREIGN DATA WRAPPER etelecom OPTIONS (routerule '1,3', base_url :'url');
CREATE USER MAPPING FOR PUBLIC SERVER omni OPTIONS (username 'demo', password 'demo');
CREATE SERVER cpaas FOREIGN DATA WRAPPER interits OPTIONS (sender 'MYSHOP', base_url :'url');
CREATE USER MAPPING FOR PUBLIC SERVER cpaas OPTIONS (api_key 'demo');
\set ECHO none

\echo
\echo '--- The five messages, sent at once'
\echo '1. eSMS, under a brandname'
\set ECHO queries
SELECT status, result_code, smsid, request_id
  FROM sms_send('0901234567', 'Your parcel is on its way', gateway => 'shop');
\set ECHO none
\echo '2. eSMS, from a fixed number'
\set ECHO queries
SELECT status, result_code, smsid
  FROM sms_send('+84 901-234.567', 'Đơn hàng của bạn đang được giao', gateway => 'shop',
                options => '{"sms_type": "8"}');
\set ECHO none
\echo '3. eSMS, a one-time password that the provider makes'
\set ECHO queries
SELECT status, result_code, smsid
  FROM sms_send_otp('0901234567', '{OTP} is your code', gateway => 'shop');
SELECT sms_check_otp('0901234567', '000000', gateway => 'shop') AS "is it 000000?";
\set ECHO none
\echo '4. eTelecom Omni: a template by ZNS, else by SMS'
\set ECHO queries
SELECT status, result_code, result_message, id_omni_mess
  FROM sms_omni_send('0901234567', 'TPL_OTP', '{"otp": "123456"}', gateway => 'omni');
\set ECHO none
\echo '5. Interits, to several receivers'
\set ECHO queries
SELECT status, result_code, result_message, referent_id
  FROM sms_send_bulk('{0901234567,0907654321}', 'We open at nine', gateway => 'cpaas');
\set ECHO none

\echo
\echo '--- With the transaction: a trigger on orders queues a message, a commit sends it'
\set ECHO queries
CREATE TABLE orders (id int PRIMARY KEY, phone text, state text DEFAULT 'new');
CREATE FUNCTION order_shipped() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO sms_outbox (gateway, phone, content)
  VALUES ('shop', NEW.phone, format('Order %s has shipped', NEW.id));
  RETURN NEW;
END $$;
CREATE TRIGGER order_shipped AFTER UPDATE OF state ON orders
  FOR EACH ROW WHEN (NEW.state = 'shipped') EXECUTE FUNCTION order_shipped();

INSERT INTO orders VALUES (41, '0901111111'), (42, '0902222222'), (43, '0903333333');
UPDATE orders SET state = 'shipped' WHERE id IN (41, 42);
BEGIN;
UPDATE orders SET state = 'shipped' WHERE id = 43;
ROLLBACK;

INSERT INTO sms_outbox (gateway, kind, phone, content)
  VALUES ('shop', 'otp', '0904444444', '{OTP} is your code');
INSERT INTO sms_outbox (gateway, kind, phone, template_code, list_param)
  VALUES ('omni', 'omni', '0905555555', 'TPL_PAID', '{"amount": "250000"}');
INSERT INTO sms_outbox (gateway, phone, content) VALUES ('cpaas', '0906666666', 'We open at nine');
\set ECHO none
\echo
\echo '--- What could never be sent is refused at once: the next error is meant'
\set ECHO queries
INSERT INTO sms_outbox (gateway, phone, content) VALUES ('shop', '0907', 'not a phone number');
SELECT sms_wait('10s') AS "all sent?";
\set ECHO none

\echo
\echo '--- What became of them.  Order 43 was rolled back, and never sent.'
\set ECHO queries
SELECT id, gateway, kind, phone, status, result_code AS code,
       coalesce(smsid, id_omni_mess, referent_id) AS "smsid / idOmniMess / referentId",
       round(extract(epoch FROM sent_at - created_at) * 1000) AS "ms"
  FROM sms_outbox ORDER BY id;
SELECT name, provider, state, queued, in_flight FROM sms_gateways ORDER BY name;
\set ECHO none

\echo
\echo '--- Followed to the end: the worker asks after 15 s; here we ask now, and a provider calls back'
\set ECHO queries
SELECT sms_check_status(min(id)) AS "order 41" FROM sms_outbox;
SELECT sms_delivery_report('omni', jsonb_build_object('idOmniMess', id_omni_mess, 'status', 'SUCCESS', 'mtcount', 1)) AS "the message called back about"
  FROM sms_outbox WHERE kind = 'omni';
SELECT id, gateway, status, price, parts, details->>'telco' AS operator
  FROM sms_outbox WHERE delivered_at IS NOT NULL ORDER BY id;
SELECT sms_balance('shop') AS "left on the account";
SELECT * FROM sms_parts('Đơn hàng 42 đã được giao');
SELECT sms_unaccent('Đơn hàng 42 đã được giao'), (sms_parts(sms_unaccent('Đơn hàng 42 đã được giao'))).*;
\set ECHO none
