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
	{"id", INT8OID},       {"status", InvalidOid}, {"delivered_at", TIMESTAMPTZOID}, {"price", NUMERICOID},
	{"parts", INT4OID},    {"smsid", TEXTOID},     {"id_omni_mess", TEXTOID},        {"referent_id", TEXTOID},
	{"details", JSONBOID}, {"leg", JSONBOID},      {"poll_at", TIMESTAMPTZOID},
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
	FOLLOWUP_LEG,
	FOLLOWUP_POLL_AT,
};

/*
 * A message "o" that has not ended.  It stands on the row itself, not on what was read of it: where two reports come at
 * once, the second one sees what the first has written.
 */
#define OPEN "(o.status OPERATOR(pg_catalog.=) ANY ('{sent,uncertain}'::@sms_status[]))"

/* What a report "r" of one leg makes of its message: see sms_gateway_legs(). */
#define BY_LEGS "@sms_gateway_legs(o.details, r.leg)"

/* What a message becomes by a report, if it is open. */
#define BECOMES                                                                                              \
	"CASE WHEN r.leg IS NULL AND r.status OPERATOR(pg_catalog.=) 'failed' THEN "                             \
	"CASE WHEN o.status OPERATOR(pg_catalog.=) 'uncertain' THEN r.status ELSE o.status END "                 \
	"WHEN r.leg IS NULL THEN coalesce(r.status, o.status) "                                                  \
	"ELSE coalesce((" BY_LEGS " OPERATOR(pg_catalog.->>) 'status')::@sms_status, o.status) END"

/* A late report of a message that has ended adds only what is not known yet, and what there is of a leg. */
/* clang-format off */
static Statement follow_update = {
	.sql = "UPDATE @sms_outbox o SET "
		   "status = CASE WHEN " OPEN " THEN " BECOMES " ELSE o.status END, "
		   "delivered_at = CASE WHEN NOT " OPEN " THEN o.delivered_at "
		   "WHEN " BECOMES " OPERATOR(pg_catalog.=) 'delivered' THEN r.delivered_at END, "
		   "ended_at = CASE WHEN " OPEN " AND " BECOMES " OPERATOR(pg_catalog.<>) o.status "
		   "THEN pg_catalog.clock_timestamp() ELSE o.ended_at END, "
		   "sent_at = coalesce(o.sent_at, CASE WHEN r.status OPERATOR(pg_catalog.<>) 'failed' "
		   "THEN pg_catalog.clock_timestamp() END), "
		   "unsure_since = CASE WHEN r.status IS NULL THEN o.unsure_since END, "
		   BLANK("r.status IS NOT NULL AND " REDACTED) ", "
		   "price = coalesce(CASE WHEN r.leg IS NOT NULL THEN "
		   "(" BY_LEGS " OPERATOR(pg_catalog.->>) 'price')::pg_catalog.numeric END, r.price, o.price), "
		   "parts = coalesce(r.parts, o.parts), "
		   "smsid = coalesce(o.smsid, r.smsid), "
		   "id_omni_mess = coalesce(o.id_omni_mess, r.id_omni_mess), "
		   "referent_id = coalesce(o.referent_id, r.referent_id), "
		   "details = CASE WHEN " OPEN " AND r.details IS NOT NULL "
		   "THEN coalesce(o.details, '{}') OPERATOR(pg_catalog.||) r.details ELSE o.details END "
		   "OPERATOR(pg_catalog.||) CASE WHEN r.leg IS NULL THEN '{}' ELSE coalesce(" BY_LEGS
		   " OPERATOR(pg_catalog.-) '{status,price}'::pg_catalog.text[], '{}') END, "
		   "poll_at = CASE WHEN r.poll_at OPERATOR(pg_catalog.=) '-infinity' THEN o.poll_at "
		   "WHEN r.leg IS NOT NULL AND r.poll_at IS NULL AND " OPEN " AND " BECOMES " OPERATOR(pg_catalog.=) 'sent' "
		   "THEN o.poll_at OPERATOR(pg_catalog.+) '15 s'::pg_catalog.interval ELSE r.poll_at END "
		   "FROM followups r "
		   "WHERE o.id OPERATOR(pg_catalog.=) r.id AND o.status OPERATOR(pg_catalog.=) "
		   "ANY ('{sent,uncertain,delivered,undelivered}'::@sms_status[])",
};

static Statement follow_find_ends = {
	.sql = "SELECT o.id, o.gateway, b.status, r.details ->> 'delivery_code' "
		   "FROM followups r JOIN @sms_outbox o ON o.id = r.id, LATERAL (SELECT " BECOMES " AS status) b "
		   "WHERE r.status IN ('delivered', 'undelivered', 'failed') AND o.status IN ('sent', 'uncertain') "
		   "AND b.status IN ('delivered', 'undelivered', 'failed')",
};
/* clang-format on */
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

/* What a report says of a leg, as sms_gateway_legs() reads it. */
static char *
leg_of_report(const Report *report)
{
	const char *const names[] = {"request_id", "channel", "smsid",   "next",
								 "status",     "code",    "message", "price"};
	const char *const values[] = {
		report->request_id,
		report->channel,
		report->smsid,
		report->next_smsid,
		status_label(status_of_delivery(report->delivery)),
		report->code,
		report->message,
		is_decimal(report->price) ? report->price : "",
	};

	return details_leg(names, values, lengthof(names));
}

/* A JSON text in UTF-8, from malloc, as a jsonb; frees it. */
static void
write_json(Datum *value, bool *isnull, char *json)
{
	*isnull = json == NULL;
	if (json != NULL)
		*value = DirectFunctionCall1(jsonb_in, CStringGetDatum(from_utf8(json)));
	free(json);
}

/* A report as the columns of followup_columns from the status to the details. */
static void
put_report(const Report *report, Oid status_type, Datum *values, bool *nulls)
{
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
	write_json(&values[FOLLOWUP_DETAILS], &nulls[FOLLOWUP_DETAILS],
			   details_of_report(report->telco, report->code, report->message));
}

/* What was learnt of one message as a row of followup_columns. */
static void
put_followup(const RowWrite *row, Oid status_type, Datum *values, bool *nulls)
{
	const FollowUp *followup = (const FollowUp *) row; /* its first member */

	values[FOLLOWUP_ID] = Int64GetDatum(followup->row.id);
	if (followup->report != NULL)
	{
		put_report(followup->report, status_type, values, nulls);
		if (followup->refused && !followup->legs)
			values[FOLLOWUP_STATUS] = status_value(STATUS_FAILED, status_type);
	}
	else
		memset(&nulls[FOLLOWUP_STATUS], true, FOLLOWUP_LEG - FOLLOWUP_STATUS);
	nulls[FOLLOWUP_LEG] = true;
	if (followup->report != NULL && followup->legs)
		write_json(&values[FOLLOWUP_LEG], &nulls[FOLLOWUP_LEG], leg_of_report(followup->report));
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
