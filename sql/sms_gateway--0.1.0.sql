\echo Use "CREATE EXTENSION sms_gateway" to load this file. \quit

-- ---------------------------------------------------------------------------
-- Providers: a foreign-data wrapper each
-- ---------------------------------------------------------------------------

CREATE FUNCTION esms_validator(options text[], catalog oid) RETURNS void
    AS 'MODULE_PATHNAME' LANGUAGE C STRICT PARALLEL SAFE;
CREATE FUNCTION etelecom_validator(options text[], catalog oid) RETURNS void
    AS 'MODULE_PATHNAME' LANGUAGE C STRICT PARALLEL SAFE;
CREATE FUNCTION interits_validator(options text[], catalog oid) RETURNS void
    AS 'MODULE_PATHNAME' LANGUAGE C STRICT PARALLEL SAFE;
COMMENT ON FUNCTION esms_validator(text[], oid) IS
    'checks the options of servers and user mappings of the wrapper esms; errors HV00D (unknown option), 22023 (bad value), 42501 (option for superusers)';
COMMENT ON FUNCTION etelecom_validator(text[], oid) IS
    'checks the options of servers and user mappings of the wrapper etelecom; errors HV00D (unknown option), 22023 (bad value), 42501 (option for superusers)';
COMMENT ON FUNCTION interits_validator(text[], oid) IS
    'checks the options of servers and user mappings of the wrapper interits; errors HV00D (unknown option), 22023 (bad value), 42501 (option for superusers)';

CREATE FOREIGN DATA WRAPPER esms NO HANDLER VALIDATOR esms_validator;
CREATE FOREIGN DATA WRAPPER etelecom NO HANDLER VALIDATOR etelecom_validator;
CREATE FOREIGN DATA WRAPPER interits NO HANDLER VALIDATOR interits_validator;
COMMENT ON FOREIGN DATA WRAPPER esms IS
    'eSMS (rest.esms.vn): brandname and fixed-number messages, one-time passwords; a gateway is a server of this wrapper';
COMMENT ON FOREIGN DATA WRAPPER etelecom IS
    'eTelecom Omni (omni.incom.vn): templates by ZNS, automatic call or SMS; a gateway is a server of this wrapper';
COMMENT ON FOREIGN DATA WRAPPER interits IS
    'Interits CPaaS (cpaas.interits.com): messages to one or many receivers; a gateway is a server of this wrapper';

-- ---------------------------------------------------------------------------
-- Types
-- ---------------------------------------------------------------------------

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

-- ---------------------------------------------------------------------------
-- Sending now
-- ---------------------------------------------------------------------------

CREATE FUNCTION sms_send(phone text, content text, gateway name = NULL,
                         request_id text = NULL, options jsonb = NULL) RETURNS sms_result
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_send(text, text, name, text, jsonb) IS
    'sends a text now and returns the gateway''s answer; errors, all before anything is sent: 22023 (phone, text, option), 42704 (gateway, user mapping), 42501 (no USAGE), 0A000 (gateway cannot), 23505 (request_id already used), 55000 (switched off, or this is a copy)';

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
    'sends a one-time password now, in the place of {OTP} in content (eTelecom: in the template''s variable that the server option otp_param names). ttl: how long it is good (eSMS: whole minutes, 2 to 15); length: characters, 4 to 10. The code itself is not returned; sms_check_otp knows it. Errors as sms_send';

CREATE FUNCTION sms_omni_send(phone text, template_code text, list_param jsonb = '{}',
                              routerule text[] = NULL, gateway name = NULL,
                              options jsonb = NULL) RETURNS sms_result
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_omni_send(text, text, jsonb, text[], name, jsonb) IS
    'sends a template now, with list_param (an object) as its variables, over the channels of routerule in turn (1 ZNS, 2 automatic call, 3 SMS); errors as sms_send';

CREATE FUNCTION sms_check_otp(phone text, code text, gateway name = NULL) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_check_otp(text, text, name) IS
    'is this the one-time password that was sent to this phone? true uses it up, when the transaction commits; false: used, expired, wrong, or tried wrongly 5 times; NULL, with a warning: the gateway did not say. Errors as sms_send';

-- ---------------------------------------------------------------------------
-- The outbox
-- ---------------------------------------------------------------------------

CREATE TABLE sms_outbox (
    -- The trigger knows the columns by their position: new ones go to the end.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway name NOT NULL,
    kind text NOT NULL DEFAULT 'text' CONSTRAINT kind_is_known CHECK (kind IN ('text', 'otp', 'omni')),
    phone text NOT NULL,
    content text,
    template_code text,
    list_param jsonb,
    routerule text[],
    options jsonb,
    priority smallint NOT NULL DEFAULT 0,
    send_after timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    request_id text NOT NULL,
    created_by name NOT NULL,
    created_at timestamptz NOT NULL,
    status sms_status NOT NULL DEFAULT 'queued',
    attempts int NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    smsid text,
    id_omni_mess text,
    referent_id text,
    result_code text,
    result_message text,
    http_status int,
    sent_at timestamptz,
    delivered_at timestamptz,
    price numeric,
    parts int,
    details jsonb,
    unsure_since timestamptz,
    origin bigint NOT NULL,
    poll_at timestamptz,
    CONSTRAINT queued_has_a_time CHECK (status <> 'queued' OR next_attempt_at IS NOT NULL)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05,
        autovacuum_vacuum_insert_scale_factor = 0.05,
        -- Under an old snapshot it finds nothing to remove, again and again: gently, then.
        autovacuum_vacuum_cost_delay = 10);

-- What the worker claims from: one contiguous range per gateway and priority.
CREATE INDEX sms_outbox_due ON sms_outbox (gateway, priority, next_attempt_at, id)
    WHERE status = 'queued';
CREATE INDEX sms_outbox_expiry ON sms_outbox (expires_at)
    WHERE status = 'queued' AND expires_at IS NOT NULL;
-- Ids made here (sgw-...) are unique by construction and would cost a random write each.
CREATE UNIQUE INDEX sms_outbox_request_id ON sms_outbox (gateway, request_id)
    WHERE NOT request_id OPERATOR(pg_catalog.^@) 'sgw-';

-- Whose delivery the worker asks about, and when.
CREATE INDEX sms_outbox_poll ON sms_outbox (gateway, poll_at, id) WHERE poll_at IS NOT NULL;
-- By the provider's id, for a callback that brings no request_id.  Texts, which have one,
-- stay here only until their end is known: the ids are random, and each is a random write.
CREATE INDEX sms_outbox_reference ON sms_outbox ((coalesce(id_omni_mess, smsid, referent_id)))
    WHERE coalesce(id_omni_mess, smsid, referent_id) IS NOT NULL
      AND (status IN ('sent', 'uncertain') OR kind <> 'text');

COMMENT ON TABLE sms_outbox IS
    'messages to send with the transaction that inserts them; what became of each is on its row';
COMMENT ON COLUMN sms_outbox.id IS 'number of the message';
COMMENT ON COLUMN sms_outbox.gateway IS 'foreign server to send through; left out: sms_gateway.default_gateway, else the one server that can';
COMMENT ON COLUMN sms_outbox.kind IS 'text, otp (content holds {OTP}; options may hold ttl, length, digits_only) or omni (template_code, list_param, routerule)';
COMMENT ON COLUMN sms_outbox.phone IS 'receiver; stored as digits with the country code';
COMMENT ON COLUMN sms_outbox.content IS 'the text, sent in Unicode normalization form C; blanked when a one-time password has ended, and any message with the server option redact';
COMMENT ON COLUMN sms_outbox.template_code IS 'omni: the template';
COMMENT ON COLUMN sms_outbox.list_param IS 'omni: the template''s variables, an object (eSMS, Zalo and then SMS: an array); blanked like content';
COMMENT ON COLUMN sms_outbox.routerule IS 'omni: channels in turn, of 1 (ZNS), 2 (automatic call), 3 (SMS); left out: the server''s';
COMMENT ON COLUMN sms_outbox.options IS 'options of the gateway for this message alone';
COMMENT ON COLUMN sms_outbox.priority IS 'higher goes first';
COMMENT ON COLUMN sms_outbox.send_after IS 'not before this time';
COMMENT ON COLUMN sms_outbox.expires_at IS 'not after this time';
COMMENT ON COLUMN sms_outbox.request_id IS 'de-duplication key, at most 50 characters, unique per gateway; made when left out';
COMMENT ON COLUMN sms_outbox.created_by IS 'role that inserted the row; its user mapping and privileges count';
COMMENT ON COLUMN sms_outbox.created_at IS 'start of the transaction that inserted the row';
COMMENT ON COLUMN sms_outbox.status IS 'queued until the outcome is known: a message on its way is queued, and counted in sms_gateways.in_flight';
COMMENT ON COLUMN sms_outbox.attempts IS 'requests made so far, without those that the gateway refused for want of capacity';
COMMENT ON COLUMN sms_outbox.next_attempt_at IS 'queued: when it is due';
COMMENT ON COLUMN sms_outbox.smsid IS 'eSMS''s id of the message';
COMMENT ON COLUMN sms_outbox.id_omni_mess IS 'eTelecom''s id of the message';
COMMENT ON COLUMN sms_outbox.referent_id IS 'Interits'' id of the message';
COMMENT ON COLUMN sms_outbox.result_code IS 'code of the last answer; or resolve, connect, tls, timeout, broken, too_large, crash';
COMMENT ON COLUMN sms_outbox.result_message IS 'text of the last answer, or why the message is held';
COMMENT ON COLUMN sms_outbox.http_status IS 'HTTP status of the last answer';
COMMENT ON COLUMN sms_outbox.sent_at IS 'when the provider accepted it';
COMMENT ON COLUMN sms_outbox.delivered_at IS 'when we learnt that the phone has it';
COMMENT ON COLUMN sms_outbox.price IS 'what the provider charged, in its currency (VND)';
COMMENT ON COLUMN sms_outbox.parts IS 'messages that the text takes, by GSM 03.38';
COMMENT ON COLUMN sms_outbox.details IS 'what else is known: token (Interits), failed_over (gateways tried before this one, with their answers), telco (operator), delivery_code and delivery_message (the provider''s words for the delivery)';
COMMENT ON COLUMN sms_outbox.unsure_since IS 'first attempt that the provider may have accepted without our knowing';
COMMENT ON COLUMN sms_outbox.origin IS 'database that the row belongs to; elsewhere it is not sent';
COMMENT ON COLUMN sms_outbox.poll_at IS 'when the worker asks the provider (again) whether it was delivered; NULL: it does not';

CREATE TABLE sms_gateway_lease (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ids bigint[] NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now());
COMMENT ON TABLE sms_gateway_lease IS
    'messages on their way: written before the first byte leaves, so that a crash knows which may have gone; a row whose status is no longer queued is settled';
COMMENT ON COLUMN sms_gateway_lease.id IS 'number of the claim';
COMMENT ON COLUMN sms_gateway_lease.ids IS 'the messages claimed together';
COMMENT ON COLUMN sms_gateway_lease.claimed_at IS 'when';

CREATE TABLE sms_gateway_identity (
    instance bigint PRIMARY KEY,
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    secret bytea NOT NULL);
COMMENT ON TABLE sms_gateway_identity IS
    'the cluster and database that this outbox belongs to; a restored dump brings a second row along and is known by it';
COMMENT ON COLUMN sms_gateway_identity.instance IS 'random number, the origin of the rows made here';
COMMENT ON COLUMN sms_gateway_identity.system_identifier IS 'of the cluster';
COMMENT ON COLUMN sms_gateway_identity.database_oid IS 'of the database';
COMMENT ON COLUMN sms_gateway_identity.created_at IS 'when';
COMMENT ON COLUMN sms_gateway_identity.secret IS 'random key of callback tokens and of one-time passwords'' hashes';

CREATE TABLE sms_gateway_state (
    gateway name PRIMARY KEY,
    reason text NOT NULL,
    by_user bool NOT NULL,
    since timestamptz NOT NULL DEFAULT now());
COMMENT ON TABLE sms_gateway_state IS 'gateways that are paused, and why; others have no row';
COMMENT ON COLUMN sms_gateway_state.gateway IS 'the foreign server';
COMMENT ON COLUMN sms_gateway_state.reason IS 'why it is paused';
COMMENT ON COLUMN sms_gateway_state.by_user IS 'paused by sms_pause (until sms_resume), not by the gateway''s answers (until a probe passes)';
COMMENT ON COLUMN sms_gateway_state.since IS 'paused since';

CREATE TABLE sms_gateway_report (
    gateway name,
    reference text,
    message bigint,
    report jsonb NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (gateway, reference));
CREATE INDEX sms_gateway_report_unknown ON sms_gateway_report (received_at) WHERE message IS NULL;
COMMENT ON TABLE sms_gateway_report IS
    'delivery reports by the provider''s id, for 7 days: those that came before their message''s answer wait for it, others are remembered for when they come twice';
COMMENT ON COLUMN sms_gateway_report.gateway IS 'the foreign server';
COMMENT ON COLUMN sms_gateway_report.reference IS 'SMSID, idOmniMess, referentId or request_id in the report';
COMMENT ON COLUMN sms_gateway_report.message IS 'the message it belongs to; NULL: not known yet';
COMMENT ON COLUMN sms_gateway_report.report IS 'as it came, without its token';
COMMENT ON COLUMN sms_gateway_report.received_at IS 'when';

-- The first columns of the next two tables are counted up in place, outside of transactions
-- (counter.c): they have a fixed position and width.
CREATE TABLE sms_gateway_otp (
    tries bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
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

-- Makes the identity row, and has a worker started when this commits.
CREATE FUNCTION sms_gateway_created() RETURNS void
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
SELECT sms_gateway_created();
DROP FUNCTION sms_gateway_created();

CREATE FUNCTION sms_outbox_insert() RETURNS trigger
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_outbox_insert() IS
    'trigger: checks and completes a new message, and wakes the worker at commit; errors as sms_send';
CREATE TRIGGER sms_outbox_insert BEFORE INSERT ON sms_outbox
    FOR EACH ROW EXECUTE FUNCTION sms_outbox_insert();
COMMENT ON TRIGGER sms_outbox_insert ON sms_outbox IS
    'checks and completes a new message, and wakes the worker at commit';

CREATE FUNCTION sms_gateway_claimed(id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL UNSAFE COST 1;
COMMENT ON FUNCTION sms_gateway_claimed(bigint) IS
    'internal: is this message on its way in the engine of this session?';
CREATE FUNCTION sms_gateway_results(
        OUT id bigint, OUT status sms_status, OUT gateway name, OUT attempts int,
        OUT next_attempt_at timestamptz, OUT smsid text, OUT id_omni_mess text,
        OUT referent_id text, OUT result_code text, OUT result_message text,
        OUT http_status int, OUT sent_at timestamptz, OUT details jsonb,
        OUT unsure_since timestamptz, OUT poll_at timestamptz, OUT blank boolean) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 1;
COMMENT ON FUNCTION sms_gateway_results() IS
    'internal: outcomes that the engine of this session is recording';

CREATE FUNCTION sms_gateway_redacts(gateway name, kind text) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_gateway_redacts(name, text) IS
    'internal: is the text of such a message blanked when it has ended?';
CREATE FUNCTION sms_gateway_reports(
        OUT id bigint, OUT status sms_status, OUT delivered_at timestamptz, OUT price numeric,
        OUT parts int, OUT smsid text, OUT id_omni_mess text, OUT referent_id text,
        OUT details jsonb, OUT poll_at timestamptz) RETURNS SETOF record
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 1;
COMMENT ON FUNCTION sms_gateway_reports() IS
    'internal: delivery reports that this session is recording';

-- ---------------------------------------------------------------------------
-- Following messages
-- ---------------------------------------------------------------------------

CREATE FUNCTION sms_check_status(id bigint) RETURNS sms_status
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_check_status(bigint) IS
    'asks the provider now what became of a message of yours, updates its row and returns its status; a message that has ended, or that the provider cannot be asked about, keeps its status. Error 42501 if it is not yours, 42704 if there is none, 0A000 if the gateway has no such call';
CREATE FUNCTION sms_delivery_report(gateway name, report jsonb) RETURNS bigint
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_delivery_report(name, jsonb) IS
    'takes a provider''s delivery callback, as a JSON object of its fields; returns the message''s id, NULL if the report is of none that is known (it is kept for 7 days, in case the message''s answer comes later). Errors: 42704 for an unknown gateway, 42501 if the gateway''s callback_url holds {token} and the report not the right one, 22023 for no JSON object';
CREATE FUNCTION sms_balance(gateway name = NULL) RETURNS numeric
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_balance(name) IS
    'what is left on the provider''s account, in its currency (eSMS: VND); NULL, with a warning, if the gateway did not say. Errors as sms_send';

-- ---------------------------------------------------------------------------
-- Texts
-- ---------------------------------------------------------------------------

CREATE FUNCTION sms_parts(content text, unicode bool = NULL,
                          OUT encoding text, OUT characters int, OUT parts int) RETURNS record
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION sms_parts(text, bool) IS
    'how a text travels: encoding GSM-7 or UCS-2, its characters, and the messages that are billed for it (GSM 03.38: 160, or 153 each, with extension characters counting twice; 70, or 67 each). unicode: true forces UCS-2, false GSM-7, NULL goes by the text. Letters count composed (NFC), as they are sent. All NULL for a NULL text; error 22021 if it is not valid UTF-8';
CREATE FUNCTION sms_unaccent(content text) RETURNS text
    AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION sms_unaccent(text) IS
    'Vietnamese without diacritics, the letter d with stroke included, from any normalisation form; other characters stay. Error 22021 if it is not valid UTF-8';

-- ---------------------------------------------------------------------------
-- Managing messages and gateways
-- ---------------------------------------------------------------------------

CREATE FUNCTION sms_cancel(id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_cancel(bigint) IS
    'takes a queued message of yours back; false if it is on its way or no longer queued. Error 42501 if it is not yours, 42704 if there is none';
CREATE FUNCTION sms_retry(id bigint) RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_retry(bigint) IS
    'queues a failed, expired, canceled or uncertain message of yours again, due now, with its request_id; false for any other. An uncertain message may be sent a second time. Errors as sms_cancel; 55000 if its text was blanked';
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
    'lets a paused gateway send again, whoever paused it; false if it was not paused. Error 42704 for an unknown gateway';
CREATE FUNCTION sms_wait(timeout interval = '30s') RETURNS boolean
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_wait(interval) IS
    'waits until no message is due or on its way; false if that took longer than timeout. It sees what is committed, and rows of its own transaction, which cannot be sent before it commits';
CREATE FUNCTION sms_adopt_outbox(states sms_status[] = '{queued,sent,uncertain}') RETURNS bigint
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_adopt_outbox(sms_status[]) IS
    'for a copy (restored dump, CREATE DATABASE ... TEMPLATE, pg_upgrade) that takes the place of the original: from now on this database sends. The original''s messages in these states become its own: queued ones are sent, sent ones followed; others stay as they are. Returns how many. See first that the original sends no more. Error 42501 unless you own the outbox';
CREATE PROCEDURE sms_drain()
    AS 'MODULE_PATHNAME' LANGUAGE C;
COMMENT ON PROCEDURE sms_drain() IS
    'sends what is due in this session, without a background worker, and returns when nothing is due or on its way; where a worker runs, waits for it. Error 2D000 inside a transaction block';

CREATE VIEW sms_gateways AS
SELECT s.srvname AS name,
       w.fdwname AS provider,
       CASE WHEN p.gateway IS NULL THEN 'active' ELSE 'paused' END AS state,
       p.reason,
       p.since AS paused_since,
       (SELECT pg_catalog.count(*) FROM @extschema@.sms_outbox o
         WHERE o.status OPERATOR(pg_catalog.=) 'queued'
           AND o.gateway OPERATOR(pg_catalog.=) s.srvname) AS queued,
       (SELECT pg_catalog.count(*) FROM @extschema@.sms_gateway_lease l,
               LATERAL pg_catalog.unnest(l.ids) AS leased(id)
          JOIN @extschema@.sms_outbox o ON o.id OPERATOR(pg_catalog.=) leased.id
         WHERE o.status OPERATOR(pg_catalog.=) 'queued'
           AND o.gateway OPERATOR(pg_catalog.=) s.srvname) AS in_flight,
       (SELECT x.option_value FROM pg_catalog.pg_options_to_table(s.srvoptions) x
         WHERE x.option_name OPERATOR(pg_catalog.=) 'rate_limit')::numeric AS rate_limit
  FROM pg_catalog.pg_foreign_server s
  JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid OPERATOR(pg_catalog.=) s.srvfdw
  LEFT JOIN @extschema@.sms_gateway_state p ON p.gateway OPERATOR(pg_catalog.=) s.srvname
 WHERE w.fdwname OPERATOR(pg_catalog.=) ANY (ARRAY['esms', 'etelecom', 'interits']::name[]);
COMMENT ON VIEW sms_gateways IS 'each gateway, whether it sends, and how much waits for it';
COMMENT ON COLUMN sms_gateways.name IS 'the foreign server';
COMMENT ON COLUMN sms_gateways.provider IS 'its wrapper: esms, etelecom or interits';
COMMENT ON COLUMN sms_gateways.state IS 'active or paused';
COMMENT ON COLUMN sms_gateways.reason IS 'why it is paused';
COMMENT ON COLUMN sms_gateways.paused_since IS 'paused since';
COMMENT ON COLUMN sms_gateways.queued IS 'messages that wait, or are on their way';
COMMENT ON COLUMN sms_gateways.in_flight IS 'messages on their way';
COMMENT ON COLUMN sms_gateways.rate_limit IS 'messages a second at most; NULL: no limit';

-- ---------------------------------------------------------------------------
-- Who may do what.  Sending is governed by USAGE on the server.
-- ---------------------------------------------------------------------------

ALTER TABLE sms_outbox ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_messages ON sms_outbox
    USING (created_by OPERATOR(pg_catalog.=) CURRENT_USER)
    WITH CHECK (created_by OPERATOR(pg_catalog.=) CURRENT_USER);
COMMENT ON POLICY own_messages ON sms_outbox IS 'a role sees the messages that it queued';

-- Monitors see all rows, but neither phone nor text.  Who may read texts, of his own messages, does not
-- see others' by being a monitor as well.
CREATE POLICY monitors ON sms_outbox FOR SELECT TO pg_monitor
    USING (NOT pg_catalog.has_column_privilege(CURRENT_USER, '@extschema@.sms_outbox'::pg_catalog.regclass, 'content', 'SELECT'));
COMMENT ON POLICY monitors ON sms_outbox IS 'members of pg_monitor see all messages, without phone and text';

REVOKE ALL ON sms_outbox, sms_gateway_lease, sms_gateway_identity, sms_gateway_state, sms_gateway_report,
    sms_gateway_otp, sms_gateway_usage, sms_gateways FROM PUBLIC;
REVOKE ALL ON FUNCTION esms_validator(text[], oid), etelecom_validator(text[], oid),
    interits_validator(text[], oid), sms_outbox_insert(), sms_gateway_claimed(bigint),
    sms_gateway_results(), sms_gateway_reports(), sms_gateway_redacts(name, text), sms_resolve(bigint, sms_status), sms_pause(name, text),
    sms_resume(name), sms_delivery_report(name, jsonb), sms_adopt_outbox(sms_status[]) FROM PUBLIC;
REVOKE ALL ON PROCEDURE sms_drain() FROM PUBLIC;
GRANT SELECT ON sms_gateways TO pg_monitor;
GRANT SELECT (id, gateway, kind, template_code, routerule, priority, send_after, expires_at, request_id, created_by, created_at,
    status, attempts, next_attempt_at, smsid, id_omni_mess, referent_id, result_code, http_status, sent_at,
    delivered_at, price, parts, unsure_since, origin, poll_at) ON sms_outbox TO pg_monitor;

SELECT pg_catalog.pg_extension_config_dump('sms_outbox', '');
SELECT pg_catalog.pg_extension_config_dump('sms_outbox_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sms_gateway_identity', '');
SELECT pg_catalog.pg_extension_config_dump('sms_gateway_state', '');
