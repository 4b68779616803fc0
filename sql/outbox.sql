-- The outbox: what a row becomes when it is inserted, and what its owner can do with it.
-- Nothing is due here before the year 2100, so nothing is sent.
CREATE EXTENSION sms_gateway;
CREATE SERVER shop FOREIGN DATA WRAPPER esms OPTIONS (brandname 'MYSHOP', base_url 'http://127.0.0.1:1');
CREATE USER MAPPING FOR PUBLIC SERVER shop OPTIONS (api_key 'k', secret_key 's');
CREATE SERVER omni FOREIGN DATA WRAPPER etelecom OPTIONS (base_url 'http://127.0.0.1:1');
CREATE USER MAPPING FOR PUBLIC SERVER omni OPTIONS (username 'u', password 'p');
ALTER TABLE sms_outbox ALTER send_after SET DEFAULT '2100-01-01';

INSERT INTO sms_outbox (phone, content) VALUES ('+84 901-234.567', 'hello');
INSERT INTO sms_outbox (phone, content, kind) VALUES ('0901234567', 'Mã của bạn là {OTP}', 'otp');
INSERT INTO sms_outbox (phone, kind, template_code, list_param, routerule)
    VALUES ('0901234567', 'omni', 'T', '{"a": "1"}', '{3,1}');
INSERT INTO sms_outbox (phone, content, request_id, priority) VALUES ('0901234567', repeat('x', 161), 'order-1', 5);
SELECT id, gateway, kind, phone, priority, parts, status, attempts, next_attempt_at = send_after AS due_then,
       created_by = current_user AS mine, regexp_replace(request_id, '^sgw-.*-', 'sgw-…-') AS request_id
  FROM sms_outbox ORDER BY id;

-- what became of it is not for users to write
INSERT INTO sms_outbox (phone, content, status, attempts, smsid, sent_at, created_by, price, unsure_since, next_attempt_at)
    VALUES ('0901234567', 'forged', 'sent', 7, 'x', now(), 'somebody', 1, now(), '1999-01-01')
    RETURNING id, status, attempts, smsid, sent_at, created_by = current_user AS mine, price, unsure_since, next_attempt_at = send_after AS due_then;

-- what has expired before it could be sent
INSERT INTO sms_outbox (phone, content, expires_at) VALUES ('0901234567', 'late', '2000-01-01');
INSERT INTO sms_outbox (phone, content, send_after, expires_at) VALUES ('0901234567', 'late', '2100-01-01', '2100-01-01');
-- bad input
INSERT INTO sms_outbox (phone, content) VALUES ('not a phone', 'hello');
INSERT INTO sms_outbox (phone, content) VALUES (NULL, 'hello');
INSERT INTO sms_outbox (phone, content) VALUES ('0901234567', NULL);
INSERT INTO sms_outbox (phone, content, kind) VALUES ('0901234567', 'x', 'fax');
INSERT INTO sms_outbox (phone, content, kind) VALUES ('0901234567', 'no place', 'otp');
INSERT INTO sms_outbox (phone, content, kind, options) VALUES ('0901234567', '{OTP}', 'otp', '{"ttl": "1min"}');
INSERT INTO sms_outbox (phone, content, kind, options) VALUES ('0901234567', '{OTP}', 'otp', '{"ttl": "3min", "length": 8, "digits_only": false}');
INSERT INTO sms_outbox (phone, kind) VALUES ('0901234567', 'omni');
INSERT INTO sms_outbox (phone, kind, template_code, list_param) VALUES ('0901234567', 'omni', 'T', '[1]');
INSERT INTO sms_outbox (phone, kind, template_code, list_param) VALUES ('0901234567', 'omni', 'T', '{"a": null}');
INSERT INTO sms_outbox (phone, kind, template_code, list_param) VALUES ('0901234567', 'omni', 'T', '{"a": {"b": 1}}');
INSERT INTO sms_outbox (phone, kind, template_code, routerule) VALUES ('0901234567', 'omni', 'T', '{4}');
INSERT INTO sms_outbox (phone, kind, content, gateway) VALUES ('0901234567', 'text', 'x', 'omni');
INSERT INTO sms_outbox (phone, content, gateway) VALUES ('0901234567', 'x', 'nowhere');
INSERT INTO sms_outbox (phone, content, options) VALUES ('0901234567', 'x', '{"nonsense": 1}');
\set VERBOSITY terse
INSERT INTO sms_outbox (phone, content, request_id) VALUES ('0901234567', 'x', 'order-1');
\set VERBOSITY default
INSERT INTO sms_outbox (phone, content, request_id) VALUES ('0901234567', 'x', 'sgw-forged');
INSERT INTO sms_outbox (phone, content, request_id) VALUES ('0901234567', 'x', repeat('r', 51));
SELECT * FROM sms_send('0901234567', 'x', gateway => 'shop', request_id => 'order-1');
INSERT INTO sms_outbox (id, phone, content) VALUES (1, '0901234567', 'x');

-- cancel, retry, resolve
SELECT sms_cancel(1), sms_cancel(1);
SELECT status, next_attempt_at FROM sms_outbox WHERE id = 1;
SELECT sms_resolve(1, 'sent');
SELECT sms_resolve(1, 'queued');
SELECT sms_retry(2);
SELECT sms_cancel(999);
BEGIN;
SELECT sms_retry(1);
SELECT status, next_attempt_at <= clock_timestamp() AS due FROM sms_outbox WHERE id = 1;
ROLLBACK;

-- pausing
SELECT sms_pause('shop', 'maintenance');
SELECT name, provider, state, reason, queued, in_flight FROM sms_gateways ORDER BY name;
SELECT sms_resume('shop'), sms_resume('shop');
SELECT sms_pause('nowhere', 'x');
SELECT sms_resume('nowhere');
SELECT sms_pause(NULL, 'x');

-- nothing is due
SELECT sms_wait('1s');
CALL sms_drain();
BEGIN;
CALL sms_drain();
ROLLBACK;
SELECT status, count(*) FROM sms_outbox GROUP BY 1 ORDER BY 1;

-- another role sees its own messages alone
CREATE ROLE regress_sms_app;
GRANT SELECT, INSERT ON sms_outbox TO regress_sms_app;
SET ROLE regress_sms_app;
SELECT count(*) FROM sms_outbox;
INSERT INTO sms_outbox (phone, content) VALUES ('0901234567', 'x');
INSERT INTO sms_outbox (phone, content, gateway) VALUES ('0901234567', 'x', 'shop');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER shop TO regress_sms_app;
SET ROLE regress_sms_app;
INSERT INTO sms_outbox (phone, content, origin, created_by) VALUES ('0901234567', 'x', 42, 'postgres') RETURNING created_by, status;
SELECT count(*) FROM sms_outbox;
SELECT sms_cancel(2);
SELECT sms_cancel(max(id)) FROM sms_outbox;
UPDATE sms_outbox SET status = 'sent';
CALL sms_drain();
SELECT sms_pause('shop', 'x');
SELECT * FROM sms_gateways;
RESET ROLE;
DROP OWNED BY regress_sms_app;
DROP ROLE regress_sms_app;

-- the trigger belongs to sms_outbox
CREATE TEMP TABLE regress_other (id int);
CREATE TRIGGER regress_other BEFORE INSERT ON regress_other FOR EACH ROW EXECUTE FUNCTION sms_outbox_insert();
INSERT INTO regress_other VALUES (1);
CREATE TRIGGER regress_other AFTER UPDATE ON sms_outbox FOR EACH STATEMENT EXECUTE FUNCTION sms_outbox_insert();
UPDATE sms_outbox SET priority = 1;
DROP EXTENSION sms_gateway CASCADE;
