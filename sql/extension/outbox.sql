-- The outbox, its trigger, and who sees which of its rows.

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
    ended_at timestamptz,
    creator oid,
    CONSTRAINT queued_has_a_time CHECK ((status OPERATOR(pg_catalog.=) 'queued') OPERATOR(pg_catalog.=) (next_attempt_at IS NOT NULL))
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05,
        autovacuum_vacuum_insert_scale_factor = 0.05,
        -- Under an old snapshot it finds nothing to remove, again and again: gently, then.
        autovacuum_vacuum_cost_delay = 10);

-- What the worker claims from: one contiguous range per gateway and priority.
CREATE INDEX sms_outbox_due ON sms_outbox (gateway, priority, next_attempt_at, id)
    WHERE status = 'queued';
-- What becomes due when, of whichever gateway and priority: small, as what is queued together has one entry.
CREATE INDEX sms_outbox_next ON sms_outbox (next_attempt_at, gateway, priority) WHERE status = 'queued';
CREATE INDEX sms_outbox_expiry ON sms_outbox (expires_at)
    WHERE status = 'queued' AND expires_at IS NOT NULL;
-- Ids made here (sgw-...) are unique by construction and would cost a random write each.
CREATE UNIQUE INDEX sms_outbox_request_id ON sms_outbox (gateway, request_id, creator)
    WHERE NOT request_id OPERATOR(pg_catalog.^@) 'sgw-' AND creator OPERATOR(pg_catalog.<>) 0;

-- Whose delivery the worker asks about, and when.
CREATE INDEX sms_outbox_poll ON sms_outbox (gateway, poll_at, id) WHERE poll_at IS NOT NULL;
-- Messages in doubt: those that are looked for in what their provider's account has sent, and for sms_health all.
CREATE INDEX sms_outbox_doubt ON sms_outbox (gateway, poll_at, id) WHERE status = 'uncertain';
-- What retention deletes, and what ended when.  It grows at its end only: an entry is no random write.
CREATE INDEX sms_outbox_ended ON sms_outbox (ended_at, id) WHERE ended_at IS NOT NULL;
-- By the provider's id, for a callback that brings no request_id.  Texts, which have one,
-- stay here only until their end is known: the ids are random, and each is a random write.
CREATE INDEX sms_outbox_reference ON sms_outbox ((coalesce(id_omni_mess, smsid, referent_id)))
    WHERE coalesce(id_omni_mess, smsid, referent_id) IS NOT NULL
      AND (status IN ('sent', 'uncertain') OR kind <> 'text');

-- The planner's statistics keep samples of values, longer than their rows: none of whom messages are for, and what they say.
ALTER TABLE sms_outbox ALTER phone SET STATISTICS 0, ALTER content SET STATISTICS 0, ALTER list_param SET STATISTICS 0,
    ALTER options SET STATISTICS 0, ALTER result_message SET STATISTICS 0, ALTER details SET STATISTICS 0;

COMMENT ON TABLE sms_outbox IS
    'messages to send with the transaction that inserts them; what became of each is on its row';
COMMENT ON COLUMN sms_outbox.id IS 'number of the message';
COMMENT ON COLUMN sms_outbox.gateway IS 'foreign server to send through; left out: sms_gateway.default_gateway, else the one server that can (of one-time passwords, the one whose provider makes them, if there is one)';
COMMENT ON COLUMN sms_outbox.kind IS 'text, otp (content holds {OTP}; options may hold ttl, length, digits_only) or omni (template_code, list_param, routerule)';
COMMENT ON COLUMN sms_outbox.phone IS 'receiver; stored as digits with the country code';
COMMENT ON COLUMN sms_outbox.content IS 'the text, sent in Unicode normalization form C; blanked when a one-time password has ended, and any message with the server option redact';
COMMENT ON COLUMN sms_outbox.template_code IS 'omni: the template';
COMMENT ON COLUMN sms_outbox.list_param IS 'omni: the template''s variables, an object (eSMS, Zalo and then SMS: an array); blanked like content';
COMMENT ON COLUMN sms_outbox.routerule IS 'omni: channels in turn, of 1 (ZNS), 2 (automatic call), 3 (SMS); left out: the server''s';
COMMENT ON COLUMN sms_outbox.options IS 'options of the gateway for this message alone';
COMMENT ON COLUMN sms_outbox.priority IS 'higher goes first';
COMMENT ON COLUMN sms_outbox.send_after IS 'not before this time';
COMMENT ON COLUMN sms_outbox.expires_at IS 'not after this time; later than now, and than send_after';
COMMENT ON COLUMN sms_outbox.request_id IS 'de-duplication key, at most 50 characters, unique per gateway and role; made when left out';
COMMENT ON COLUMN sms_outbox.created_by IS 'role that inserted the row, as it was called then; its user mapping and privileges count';
COMMENT ON COLUMN sms_outbox.created_at IS 'start of the transaction that inserted the row';
COMMENT ON COLUMN sms_outbox.status IS 'queued until the outcome is known: a message on its way is queued, and counted in sms_gateways.in_flight';
COMMENT ON COLUMN sms_outbox.attempts IS 'requests made since it was queued, or queued again by sms_retry, without those that the gateway refused for want of capacity';
COMMENT ON COLUMN sms_outbox.next_attempt_at IS 'queued: when it is due; else NULL';
COMMENT ON COLUMN sms_outbox.smsid IS 'eSMS''s id of the message';
COMMENT ON COLUMN sms_outbox.id_omni_mess IS 'eTelecom''s id of the message';
COMMENT ON COLUMN sms_outbox.referent_id IS 'Interits'' id of the message';
COMMENT ON COLUMN sms_outbox.result_code IS 'code of the last answer; or resolve, connect, tls, timeout, broken, too_large (the network), proxy (a proxy refused), crash (the server stopped meanwhile), held (no user mapping, or its credentials are refused), refused (privilege or option gone), memory (it was out)';
COMMENT ON COLUMN sms_outbox.result_message IS 'text of the last answer, or why the message is held';
COMMENT ON COLUMN sms_outbox.http_status IS 'HTTP status of the last answer';
COMMENT ON COLUMN sms_outbox.sent_at IS 'when the provider accepted it';
COMMENT ON COLUMN sms_outbox.delivered_at IS 'when we learnt that the phone has it';
COMMENT ON COLUMN sms_outbox.price IS 'what the provider charged, in its currency (VND)';
COMMENT ON COLUMN sms_outbox.parts IS 'messages that the text takes, by GSM 03.38';
COMMENT ON COLUMN sms_outbox.details IS 'what else is known: token (Interits), failed_over (gateways tried before this one, with their answers), server_owner (oid and name of the owner of the server that it named, if that is neither a superuser nor the owner of sms_outbox nor its own role), telco (operator), delivery_code and delivery_message (the provider''s words for the delivery), legs (eSMS, Zalo and then SMS: of each channel, in its turn, channel, request_id, smsid (presumed: by its order alone), status, code, message, price, at)';
COMMENT ON COLUMN sms_outbox.unsure_since IS 'first attempt that the provider may have accepted without our knowing';
COMMENT ON COLUMN sms_outbox.origin IS 'database that the row belongs to; elsewhere it is not sent';
COMMENT ON COLUMN sms_outbox.poll_at IS 'when the worker asks the provider (again) whether it was delivered or, of an uncertain message, whether it has it; NULL: it does not';
COMMENT ON COLUMN sms_outbox.ended_at IS 'when its status became what it is: sent, failed, delivered ...; NULL while it is queued';
COMMENT ON COLUMN sms_outbox.creator IS 'oid of the role that inserted the row: whose it is, whatever it is called now; 0: nobody''s; NULL: not known, from a dump of 0.1.0';

CREATE FUNCTION sms_outbox_insert() RETURNS trigger
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_outbox_insert() IS
    'trigger: checks and completes a new message, and wakes the worker at commit; errors as sms_send';
CREATE TRIGGER sms_outbox_insert BEFORE INSERT ON sms_outbox
    FOR EACH ROW EXECUTE FUNCTION sms_outbox_insert();
COMMENT ON TRIGGER sms_outbox_insert ON sms_outbox IS
    'checks and completes a new message, and wakes the worker at commit';
CREATE FUNCTION sms_outbox_update() RETURNS trigger
    AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION sms_outbox_update() IS
    'trigger: what somebody changes is no longer than what he may insert; 22023 if it is';
CREATE TRIGGER sms_outbox_update BEFORE UPDATE ON sms_outbox
    FOR EACH ROW EXECUTE FUNCTION sms_outbox_update();
COMMENT ON TRIGGER sms_outbox_update ON sms_outbox IS
    'bounds what users write; the extension''s own changes do not call it';

ALTER TABLE sms_outbox ENABLE ROW LEVEL SECURITY;
-- By the oid: who is renamed keeps his messages, who is made anew under an old name gets none.  Elsewhere oids are others' (dumps,
-- subscribers), so of a row that was not made here the name has to agree; see src/db/creator.c.  The sub-SELECTs are evaluated once.
CREATE FUNCTION sms_gateway_origin() RETURNS bigint
    AS 'MODULE_PATHNAME' LANGUAGE C STABLE PARALLEL RESTRICTED;
COMMENT ON FUNCTION sms_gateway_origin() IS
    'internal: origin of the messages that are made in this database; 0 in a copy';
CREATE POLICY own_messages ON sms_outbox
    USING (creator OPERATOR(pg_catalog.=) (SELECT pg_catalog.quote_ident(CURRENT_USER)::pg_catalog.regrole::pg_catalog.oid)
           AND (created_by OPERATOR(pg_catalog.=) CURRENT_USER
                OR origin OPERATOR(pg_catalog.=) (SELECT @extschema@.sms_gateway_origin())))
    WITH CHECK (creator OPERATOR(pg_catalog.=) (SELECT pg_catalog.quote_ident(CURRENT_USER)::pg_catalog.regrole::pg_catalog.oid)
                AND created_by OPERATOR(pg_catalog.=) CURRENT_USER);
COMMENT ON POLICY own_messages ON sms_outbox IS 'a role sees the messages that it queued';

-- What monitors see of all messages: never what was sent, nor to whom, nor words that users or providers chose.  Not by
-- a policy: whose rows a policy shows is decided when a cursor is fetched, maybe as another role than the one whose
-- columns were checked.
CREATE VIEW sms_outbox_monitor WITH (security_barrier) AS
-- By way of WITH, so that nobody (pg_write_all_data) can write through it.
WITH message AS (
    SELECT o.id, o.gateway, o.kind, o.template_code, o.routerule, o.priority, o.send_after, o.expires_at,
           CASE WHEN o.request_id OPERATOR(pg_catalog.^@) 'sgw-' THEN o.request_id END AS request_id,
           o.created_by, o.created_at, o.status, o.attempts, o.next_attempt_at, o.smsid, o.id_omni_mess, o.referent_id,
           o.result_code, o.http_status, o.sent_at, o.delivered_at, o.price, o.parts, o.unsure_since, o.origin,
           o.poll_at, o.ended_at, o.creator
      FROM @extschema@.sms_outbox o)
SELECT * FROM message;
COMMENT ON VIEW sms_outbox_monitor IS
    'all messages, for pg_monitor: columns of sms_outbox without phone, text, variables, options and the provider''s words';
COMMENT ON COLUMN sms_outbox_monitor.id IS 'as sms_outbox.id';
COMMENT ON COLUMN sms_outbox_monitor.gateway IS 'as sms_outbox.gateway';
COMMENT ON COLUMN sms_outbox_monitor.kind IS 'as sms_outbox.kind';
COMMENT ON COLUMN sms_outbox_monitor.template_code IS 'as sms_outbox.template_code';
COMMENT ON COLUMN sms_outbox_monitor.routerule IS 'as sms_outbox.routerule';
COMMENT ON COLUMN sms_outbox_monitor.priority IS 'as sms_outbox.priority';
COMMENT ON COLUMN sms_outbox_monitor.send_after IS 'as sms_outbox.send_after';
COMMENT ON COLUMN sms_outbox_monitor.expires_at IS 'as sms_outbox.expires_at';
COMMENT ON COLUMN sms_outbox_monitor.created_by IS 'as sms_outbox.created_by';
COMMENT ON COLUMN sms_outbox_monitor.created_at IS 'as sms_outbox.created_at';
COMMENT ON COLUMN sms_outbox_monitor.status IS 'as sms_outbox.status';
COMMENT ON COLUMN sms_outbox_monitor.attempts IS 'as sms_outbox.attempts';
COMMENT ON COLUMN sms_outbox_monitor.next_attempt_at IS 'as sms_outbox.next_attempt_at';
COMMENT ON COLUMN sms_outbox_monitor.smsid IS 'as sms_outbox.smsid';
COMMENT ON COLUMN sms_outbox_monitor.id_omni_mess IS 'as sms_outbox.id_omni_mess';
COMMENT ON COLUMN sms_outbox_monitor.referent_id IS 'as sms_outbox.referent_id';
COMMENT ON COLUMN sms_outbox_monitor.result_code IS 'as sms_outbox.result_code';
COMMENT ON COLUMN sms_outbox_monitor.http_status IS 'as sms_outbox.http_status';
COMMENT ON COLUMN sms_outbox_monitor.sent_at IS 'as sms_outbox.sent_at';
COMMENT ON COLUMN sms_outbox_monitor.delivered_at IS 'as sms_outbox.delivered_at';
COMMENT ON COLUMN sms_outbox_monitor.price IS 'as sms_outbox.price';
COMMENT ON COLUMN sms_outbox_monitor.parts IS 'as sms_outbox.parts';
COMMENT ON COLUMN sms_outbox_monitor.unsure_since IS 'as sms_outbox.unsure_since';
COMMENT ON COLUMN sms_outbox_monitor.origin IS 'as sms_outbox.origin';
COMMENT ON COLUMN sms_outbox_monitor.poll_at IS 'as sms_outbox.poll_at';
COMMENT ON COLUMN sms_outbox_monitor.ended_at IS 'as sms_outbox.ended_at';
COMMENT ON COLUMN sms_outbox_monitor.creator IS 'as sms_outbox.creator';
COMMENT ON COLUMN sms_outbox_monitor.request_id IS 'if it was made here; what a user gave may say anything';

REVOKE ALL ON sms_outbox, sms_outbox_monitor FROM PUBLIC;
REVOKE ALL ON FUNCTION sms_outbox_insert(), sms_outbox_update() FROM PUBLIC;
GRANT SELECT ON sms_outbox_monitor TO pg_monitor;
SELECT pg_catalog.pg_extension_config_dump('sms_outbox', '');
SELECT pg_catalog.pg_extension_config_dump('sms_outbox_id_seq', '');
