/*
 * record.c
 *		Outcomes of attempts are written onto their messages' rows, and told.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "base/encoding.h"
#include "catalog/pg_type.h"
#include "db/sql.h"
#include "gateway/gateway.h"
#include "guard/limits.h"
#include "guard/otp.h"
#include "outbox/event.h"
#include "outbox/item.h"
#include "outbox/record.h"
#include "outbox/write.h"
#include "provider/table.h"
#include "utils/timestamp.h"

static const SqlColumn outcome_columns[] = {
	{"id", INT8OID},
	{"status", InvalidOid},
	{"gateway", NAMEOID},
	{"attempts", INT4OID},
	{"next_attempt_at", TIMESTAMPTZOID},
	{"smsid", TEXTOID},
	{"id_omni_mess", TEXTOID},
	{"referent_id", TEXTOID},
	{"result_code", TEXTOID},
	{"result_message", TEXTOID},
	{"http_status", INT4OID},
	{"sent_at", TIMESTAMPTZOID},
	{"details", JSONBOID},
	{"unsure_since", TIMESTAMPTZOID},
	{"poll_at", TIMESTAMPTZOID},
	{"blank", BOOLOID},
};
enum
{
	OUTCOME_ID,
	OUTCOME_STATUS,
	OUTCOME_GATEWAY,
	OUTCOME_ATTEMPTS,
	OUTCOME_NEXT_ATTEMPT_AT,
	OUTCOME_SMSID,
	OUTCOME_ID_OMNI_MESS,
	OUTCOME_REFERENT_ID,
	OUTCOME_RESULT_CODE,
	OUTCOME_RESULT_MESSAGE,
	OUTCOME_HTTP_STATUS,
	OUTCOME_SENT_AT,
	OUTCOME_DETAILS,
	OUTCOME_UNSURE_SINCE,
	OUTCOME_POLL_AT,
	OUTCOME_BLANK,
};

/* clang-format off */
static Statement record_update = {
	.sql = "UPDATE @sms_outbox o SET status = r.status, gateway = r.gateway, attempts = r.attempts, "
		   "next_attempt_at = r.next_attempt_at, smsid = coalesce(r.smsid, o.smsid), "
		   "id_omni_mess = coalesce(r.id_omni_mess, o.id_omni_mess), "
		   "referent_id = coalesce(r.referent_id, o.referent_id), result_code = r.result_code, "
		   "result_message = r.result_message, http_status = r.http_status, sent_at = r.sent_at, "
		   "details = coalesce(r.details, o.details), unsure_since = r.unsure_since, "
		   "poll_at = r.poll_at, ended_at = CASE WHEN r.next_attempt_at IS NULL THEN pg_catalog.now() END, " BLANK("r.blank") " "
		   "FROM outcomes r WHERE o.id OPERATOR(pg_catalog.=) r.id AND " IS_QUEUED,
};
/* clang-format on */

/* Is the text of a message blanked by its outcome? */
static bool
is_blanked(const OutboxItem *item)
{
	return item->new_status != STATUS_QUEUED && item->new_status != STATUS_UNCERTAIN &&
		   item->gateway != NULL && (item->gateway->redact || item->prepared.message.call == CALL_OTP);
}

/* One outcome as a row of outcome_columns. */
static void
put_outcome(const RowWrite *row, Oid status_type, Datum *values, bool *nulls)
{
	const OutboxItem *item = (const OutboxItem *) row; /* its first member */
	const Answer *answer = item->answer;
	Name gateway = palloc(NAMEDATALEN);

	values[OUTCOME_ID] = Int64GetDatum(item->row.id);
	values[OUTCOME_STATUS] = status_value(item->new_status, status_type);
	values[OUTCOME_GATEWAY] =
		name_datum(gateway, item->new_gateway != NULL ? item->new_gateway : item->gateway_name);
	values[OUTCOME_ATTEMPTS] = Int32GetDatum(item->attempts);
	/* A row waits exactly when it has a next attempt. */
	nulls[OUTCOME_NEXT_ATTEMPT_AT] = item->new_status != STATUS_QUEUED;
	values[OUTCOME_NEXT_ATTEMPT_AT] = TimestampTzGetDatum(item->next_attempt_at);
	write_text(&values[OUTCOME_SMSID], &nulls[OUTCOME_SMSID], answer->smsid);
	write_text(&values[OUTCOME_ID_OMNI_MESS], &nulls[OUTCOME_ID_OMNI_MESS], answer->id_omni_mess);
	write_text(&values[OUTCOME_REFERENT_ID], &nulls[OUTCOME_REFERENT_ID], answer->referent_id);
	write_text(&values[OUTCOME_RESULT_CODE], &nulls[OUTCOME_RESULT_CODE], answer->code);
	write_text(&values[OUTCOME_RESULT_MESSAGE], &nulls[OUTCOME_RESULT_MESSAGE], answer->message);
	values[OUTCOME_HTTP_STATUS] = Int32GetDatum(answer->http_status);
	nulls[OUTCOME_HTTP_STATUS] = answer->http_status == 0;
	write_time(&values[OUTCOME_SENT_AT], &nulls[OUTCOME_SENT_AT], item->sent_at);
	nulls[OUTCOME_DETAILS] = item->new_details == NULL;
	if (item->new_details != NULL)
		values[OUTCOME_DETAILS] =
			DirectFunctionCall1(jsonb_in, CStringGetDatum(from_utf8(item->new_details)));
	write_time(&values[OUTCOME_UNSURE_SINCE], &nulls[OUTCOME_UNSURE_SINCE], item->unsure_since);
	write_time(&values[OUTCOME_POLL_AT], &nulls[OUTCOME_POLL_AT], item->poll_at);
	values[OUTCOME_BLANK] = BoolGetDatum(is_blanked(item));
}

/* A message does not move to another gateway: it ends where it is, and says why. */
static void
end_where_it_is(OutboxItem *item, const char *why)
{
	Answer *answer = item->answer;
	size_t length = strlen(answer->message);

	snprintf(answer->message + length, sizeof(answer->message) - length, "%snot moved to \"%s\", %s",
			 length > 0 ? "; " : "", item->new_gateway != NULL ? item->new_gateway : item->gateway_name, why);
	item->new_status = item->unsure_since != 0 ? STATUS_UNCERTAIN : STATUS_FAILED;
	item->new_gateway = NULL;
	item->new_details = NULL;
	item->next_attempt_at = 0;
	item->attempts = Max(item->attempts, 1);
}

/* The fallback has a message with this request_id already. */
static void
end_here(RowWrite *row)
{
	end_where_it_is((OutboxItem *) row /* its first member */, "which has a message with this request_id");
}

/* Takes a message that moves to a fallback from the limits of that, or ends it: one that cannot send it is none. */
static void
take_from_fallback(void *arg)
{
	OutboxItem *item = arg;
	Refusal refusal;
	const Gateway *gateway = gateway_get(item->new_gateway, item->row.role, &refusal);
	Call call = item->prepared.message.call;

	if (gateway != NULL && !(gateway->provider->calls & CALL_BIT(call)))
		refusal_fill(&refusal, ERRCODE_FEATURE_NOT_SUPPORTED, NULL, "which sends no messages of kind \"%s\"",
					 kind_name(call));
	else if (gateway != NULL && item_may_go_through(item, gateway, &refusal) &&
			 limits_grant(gateway, &item->prepared.message, item->row.role, &refusal))
		return;
	end_where_it_is(item, to_utf8(refusal.message, "message"));
}

/* Takes all messages that move from the limits of where they move to, each once. */
static void
take_from_fallbacks(dlist_head *outcomes)
{
	dlist_iter iter;

	dlist_foreach (iter, outcomes)
	{
		OutboxItem *item = dlist_container(OutboxItem, row.node, iter.cur);
		ErrorData *error;

		if (item->new_gateway == NULL || item->new_status != STATUS_QUEUED || !OidIsValid(item->row.role) ||
			(TransactionIdIsValid(item->granted_in) && TransactionIdDidCommit(item->granted_in)))
			continue;
		/* Where counting is held up, a message goes rather than stays. */
		error = sql_try(take_from_fallback, item, 0);
		if (error != NULL)
			FreeErrorData(error);
		else
			item->granted_in = GetTopTransactionId();
	}
}

static void
forget_ids(void *ids)
{
	otp_forget(*(Datum *) ids);
}

/* One-time passwords that certainly were not sent are nobody's: who has them right, has guessed. */
static void
forget_unsent_codes(dlist_head *outcomes)
{
	Datum *ids = NULL;
	Datum array;
	ErrorData *error;
	dlist_iter iter;
	int n = 0;

	dlist_foreach (iter, outcomes)
	{
		const OutboxItem *item = dlist_container(OutboxItem, row.node, iter.cur);

		if (item->otp == 0 || !item->row.recorded || item->may_have_gone)
			continue;
		/* Few are, so there is no saving up. */
		ids = ids == NULL ? palloc(sizeof(Datum)) : repalloc(ids, sizeof(Datum) * (n + 1));
		ids[n++] = Int64GetDatum(item->otp);
	}
	if (n == 0)
		return;
	/* Where that is held up, they have their five tries, and end by themselves. */
	array = sql_id_array(ids, n);
	error = sql_try(forget_ids, &array, 0);
	if (error != NULL)
		FreeErrorData(error);
}

/*
 * Writes outcomes, OutboxItems, onto their rows, marks those that were written (see write_rows()), and
 * tells what ended.
 */
void
record_outcomes(dlist_head *outcomes)
{
	static const Writing writing = {
		.statement = &record_update,
		.name = "outcomes",
		.columns = outcome_columns,
		.ncolumns = lengthof(outcome_columns),
		.put = put_outcome,
		.clash = end_here,
	};
	dlist_iter iter;

	take_from_fallbacks(outcomes);
	write_rows(&writing, outcomes);
	forget_unsent_codes(outcomes);
	dlist_foreach (iter, outcomes)
	{
		const OutboxItem *item = dlist_container(OutboxItem, row.node, iter.cur);

		if (item->row.recorded && item->new_status != STATUS_QUEUED)
			event_tell(item->gateway != NULL ? item->gateway->events : EVENTS_FAILURES, item->new_status,
					   item->row.id, item->gateway_name, item->answer->code);
	}
}
