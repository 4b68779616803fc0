-- Managing messages and gateways.

CREATE FUNCTION sms_cancel(id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_cancel(bigint) IS
    'takes a queued message of yours back; false if it is on its way or no longer queued. Error 42704 if there is none of yours';
CREATE FUNCTION sms_retry(id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_retry(bigint) IS
    'queues a failed, expired, canceled or uncertain message of yours again, due now, whatever its send_after, with its request_id and without an expires_at that has passed; one that waits to be tried again is due now, and its attempts are counted on; false for any other.'
    ' An uncertain message may be sent a second time. Errors as sms_cancel; 55000 if its text was blanked, 53400 if a limit refuses it';
CREATE FUNCTION sms_resolve(id bigint, status sms_status) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_resolve(bigint, sms_status) IS
    'decides an uncertain message of yours: sent or failed; false for a message that is not uncertain. Error 22023 for another status, else as sms_cancel';
CREATE FUNCTION sms_pause(gateway name, reason text) RETURNS void
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_pause(name, text) IS
    'holds a gateway''s queued messages until sms_resume; those on their way are finished. Error 42704 for an unknown gateway';
CREATE FUNCTION sms_resume(gateway name) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_resume(name) IS
    'tries a gateway now, and its messages that wait to be tried again, whoever paused it; false if it was active. Error 42704 for an unknown gateway';
CREATE FUNCTION sms_wait(timeout interval = '30s') RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_wait(interval) IS
    'waits until no message is due or on its way; false if that took longer than timeout. It sees what is committed, and rows of its own transaction, which cannot be sent before it commits';
CREATE FUNCTION sms_adopt_outbox(states sms_status[] = '{queued,sent,uncertain}') RETURNS bigint
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_adopt_outbox(sms_status[]) IS
    'for a copy (of the files, a restored backup or dump, CREATE DATABASE ... TEMPLATE, pg_upgrade) that takes the place of the original: from now on this database sends. The original''s messages in these states become its own: queued ones are sent, sent ones followed; others stay as they are. Returns how many. See first that the original sends no more. Error 42501 unless you own the outbox';
CREATE FUNCTION sms_forget(phone text) RETURNS jsonb
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_forget(text) IS
    'erases what is stored of a phone, in whatever spelling: messages (queued ones are not sent then), delivery reports, one-time passwords and counters are deleted, and the number is taken out of reasons of pauses. Returns how many of each. Reads the outbox once, or an index on its column phone. Error 42501 unless you own the outbox, 22023 if it is no number, or could be several, 55006 if a message to it is on its way';
CREATE PROCEDURE sms_drain()
    AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE sms_drain() IS
    'sends what is due in this session, without a background worker, and returns when nothing is due or on its way; where a worker runs, waits for it. Error 2D000 inside a transaction block';

REVOKE ALL ON FUNCTION sms_resolve(bigint, sms_status), sms_pause(name, text), sms_resume(name),
    sms_adopt_outbox(sms_status[]), sms_forget(text) FROM PUBLIC;
REVOKE ALL ON PROCEDURE sms_drain() FROM PUBLIC;
