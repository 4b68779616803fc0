/*
 * follow.c
 *		What is learnt of messages that were sent is written onto their rows, and told.
 */
#include "postgres.h"

#include "base/encoding.h"
#include "catalog/pg_type.h"
#include "db/sql.h"
#include "outbox/event.h"
#include "outbox/follow.h"
#include "outbox/write.h"
#include "text/details.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

static const SqlColumn followup_columns[] = {
	{"id", INT8OID},
	{"status", InvalidOid},
	{"delivered_at", TIMESTAMPTZOID},
	{"price", NUMERICOID},
	{"parts", INT4OID},
	{"smsid", TEXTOID},
	{"id_omni_mess", TEXTOID},
	{"referent_id", TEXTOID},
	{"details", JSONBOID},
	{"poll_at", TIMESTAMPTZOID},
};
enum
{
	FOLLOWUP_ID,
	FOLLOWUP_STATUS,
	FOLLOWUP_DELIVERED_AT,
	FOLLOWUP_PRICE,
	FOLLOWUP_PARTS,
	FOLLOWUP_SMSID,
	FOLLOWUP_ID_OMNI_MESS,
	FOLLOWUP_REFERENT_ID,
	FOLLOWUP_DETAILS,
	FOLLOWUP_POLL_AT,
};

/* A late report of a message that has ended adds only what is not known yet; "open": it has not. */
/* clang-format off */
static Statement follow_update = {
	.sql = "UPDATE @sms_outbox o SET "
		   "status = CASE WHEN r.open THEN coalesce(r.status, o.status) ELSE o.status END, "
		   "delivered_at = CASE WHEN r.open THEN r.delivered_at ELSE o.delivered_at END, "
		   "ended_at = CASE WHEN r.open AND r.status OPERATOR(pg_catalog.<>) o.status "
		   "THEN pg_catalog.clock_timestamp() ELSE o.ended_at END, "
		   "sent_at = coalesce(o.sent_at, CASE WHEN r.status IS NOT NULL THEN pg_catalog.clock_timestamp() END), "
		   "unsure_since = CASE WHEN r.status IS NULL THEN o.unsure_since END, "
		   BLANK("r.status IS NOT NULL AND " REDACTED) ", "
		   "price = coalesce(r.price, o.price), parts = coalesce(r.parts, o.parts), "
		   "smsid = coalesce(o.smsid, r.smsid), "
		   "id_omni_mess = coalesce(o.id_omni_mess, r.id_omni_mess), "
		   "referent_id = coalesce(o.referent_id, r.referent_id), "
		   "details = CASE WHEN r.details IS NULL OR NOT r.open THEN o.details "
		   "ELSE coalesce(o.details, '{}') OPERATOR(pg_catalog.||) r.details END, "
		   "poll_at = CASE WHEN r.poll_at OPERATOR(pg_catalog.=) '-infinity' THEN o.poll_at ELSE r.poll_at END "
		   "FROM (SELECT f.*, x.status OPERATOR(pg_catalog.=) ANY ('{sent,uncertain}'::@sms_status[]) AS open "
		   "FROM followups f JOIN @sms_outbox x ON x.id OPERATOR(pg_catalog.=) f.id) r "
		   "WHERE o.id OPERATOR(pg_catalog.=) r.id AND o.status OPERATOR(pg_catalog.=) "
		   "ANY ('{sent,uncertain,delivered,undelivered}'::@sms_status[])",
};
/* clang-format on */

static Statement follow_find_ends = {
	.sql = "SELECT o.id, o.gateway, r.status, r.details ->> 'delivery_code' "
		   "FROM followups r JOIN @sms_outbox o ON o.id = r.id "
		   "WHERE r.status IN ('delivered', 'undelivered') AND o.status IN ('sent', 'uncertain')",
};
enum
{
	FOLLOW_END_ID,
	FOLLOW_END_GATEWAY,
	FOLLOW_END_STATUS,
	FOLLOW_END_CODE,
};

/* Is it a number that numeric takes, and no expense to convert? */
static bool
is_decimal(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	const char *rest = text + digits;

	if (digits == 0 || digits > 15)
		return false;
	return *rest == '\0' || (*rest == '.' && rest[1] && rest[1 + strspn(rest + 1, "0123456789")] == '\0');
}

static Status
status_of_delivery(Delivery delivery)
{
	return delivery == DELIVERY_DELIVERED     ? STATUS_DELIVERED
		   : delivery == DELIVERY_UNDELIVERED ? STATUS_UNDELIVERED
											  : STATUS_SENT;
}

/* A report as the columns of followup_columns but the first and the last. */
static void
put_report(const Report *report, Oid status_type, Datum *values, bool *nulls)
{
	char *details = details_of_report(report->telco, report->code, report->message);

	values[FOLLOWUP_STATUS] = status_value(status_of_delivery(report->delivery), status_type);
	write_time(&values[FOLLOWUP_DELIVERED_AT], &nulls[FOLLOWUP_DELIVERED_AT],
			   report->delivery == DELIVERY_DELIVERED ? GetCurrentTimestamp() : 0);
	nulls[FOLLOWUP_PRICE] = !is_decimal(report->price);
	if (!nulls[FOLLOWUP_PRICE])
		values[FOLLOWUP_PRICE] = DirectFunctionCall3(numeric_in, CStringGetDatum(report->price),
													 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	nulls[FOLLOWUP_PARTS] = report->parts == 0;
	values[FOLLOWUP_PARTS] = Int32GetDatum(report->parts);
	write_text(&values[FOLLOWUP_SMSID], &nulls[FOLLOWUP_SMSID], report->smsid);
	write_text(&values[FOLLOWUP_ID_OMNI_MESS], &nulls[FOLLOWUP_ID_OMNI_MESS], report->id_omni_mess);
	write_text(&values[FOLLOWUP_REFERENT_ID], &nulls[FOLLOWUP_REFERENT_ID], report->referent_id);
	nulls[FOLLOWUP_DETAILS] = details == NULL;
	if (details != NULL)
		values[FOLLOWUP_DETAILS] = DirectFunctionCall1(jsonb_in, CStringGetDatum(from_utf8(details)));
	free(details);
}

/* What was learnt of one message as a row of followup_columns. */
static void
put_followup(const RowWrite *row, Oid status_type, Datum *values, bool *nulls)
{
	const FollowUp *followup = (const FollowUp *) row; /* its first member */

	values[FOLLOWUP_ID] = Int64GetDatum(followup->row.id);
	if (followup->report != NULL)
		put_report(followup->report, status_type, values, nulls);
	else
		memset(&nulls[FOLLOWUP_STATUS], true, FOLLOWUP_POLL_AT - FOLLOWUP_STATUS);
	write_time(&values[FOLLOWUP_POLL_AT], &nulls[FOLLOWUP_POLL_AT], followup->poll_at);
}

/* Tells the messages that end by what is written next. */
static void
tell_ends(void)
{
	int64 n = sql_run(&follow_find_ends, NULL);

	for (int i = 0; i < n; i++)
	{
		const char *gateway = sql_name(i, FOLLOW_END_GATEWAY);

		event_tell(gateway_events(gateway), sql_status(i, FOLLOW_END_STATUS), sql_int64(i, FOLLOW_END_ID),
				   gateway, sql_text(i, FOLLOW_END_CODE));
	}
	sql_done();
}

/*
 * Writes what was learnt of messages that were sent, FollowUps, onto their rows, and marks those that
 * were written: see write_rows().  Tells what ends by it.
 */
void
follow_record(dlist_head *followups)
{
	static const Writing writing = {
		.statement = &follow_update,
		.name = "followups",
		.columns = followup_columns,
		.ncolumns = lengthof(followup_columns),
		.put = put_followup,
		.before = tell_ends,
	};

	write_rows(&writing, followups);
}

/* The same for one message; a report that decides nothing leaves it to be asked about.  False: it is locked. */
bool
follow_record_one(FollowUp *followup)
{
	dlist_head one;

	if (followup->report != NULL && followup->report->delivery == DELIVERY_PENDING)
		followup->poll_at = DT_NOBEGIN;
	followup->row.once = true;
	dlist_init(&one);
	dlist_push_tail(&one, &followup->row.node);
	follow_record(&one);
	return followup->row.recorded;
}
