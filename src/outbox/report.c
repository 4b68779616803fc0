/*
 * outbox_report.c
 *		Messages that were sent: which are to be asked about, and which one a report means.
 */
#include "postgres.h"

#include "access/table.h"
#include "executor/spi.h"
#include "base/encoding.h"
#include "db/home.h"
#include "db/sql.h"
#include "outbox/manage.h"
#include "outbox/record.h"
#include "outbox/report.h"
#include "outbox/request_id.h"
#include "storage/bufmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#define UNKNOWN_BLOCKS  8192 /* of 8 kB: unknown reports are kept up to this size */
#define UNKNOWN_AT_ONCE 500
#define REPORT_DAYS     7

static Follow *
read_follow(int row)
{
	Follow *follow = palloc0(sizeof(Follow));
	bool isnull;

	follow->id = DatumGetInt64(sql_column(row, 1, &isnull));
	follow->gateway = pstrdup(NameStr(*DatumGetName(sql_column(row, 2, &isnull))));
	follow->reference = sql_text(row, 3);
	follow->status = sql_status(row, 4);
	follow->role = sql_role(row, 5);
	follow->sent_at = sql_time(row, 6, 0);
	follow->poll_at = sql_time(row, 7, 0);
	return follow;
}

/* Messages of a gateway that are due to be asked about, behind the last one taken. */
List *
outbox_polls(const char *gateway, TimestampTz after, int64 after_id, TimestampTz now, int limit)
{
	NameData name;
	Datum values[] = {
		name_datum(&name, gateway), TimestampTzGetDatum(after),   Int64GetDatum(after_id),
		TimestampTzGetDatum(now),   Int64GetDatum(home_origin()), Int64GetDatum(limit),
	};
	List *polls = NIL;

	sql_run(PLAN_POLLS, values);
	for (uint64 i = 0; i < SPI_processed; i++)
		polls = lappend(polls, read_follow((int) i));
	SPI_freetuptable(SPI_tuptable);
	return polls;
}

/* When the next message of a gateway is to be asked about; DT_NOEND: none. */
TimestampTz
outbox_poll_due(const char *gateway, TimestampTz after)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), TimestampTzGetDatum(after)};

	return sql_find_time(PLAN_POLL_DUE, values);
}

/* A message that role may manage, as it was sent. */
Follow *
outbox_sent_message(int64 id, Oid role)
{
	Datum values[] = {Int64GetDatum(id)};
	Follow *follow;

	sql_run(PLAN_SENT_MESSAGE, values);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("message %lld does not exist", (long long) id)));
	follow = read_follow(0);
	SPI_freetuptable(SPI_tuptable);
	outbox_check_manages(id, follow->role, role);
	return follow;
}

/* One of the report's ids, in the order in which a message is looked for; NULL: that was the last. */
static const char *
report_reference(const Report *report, int number)
{
	const char *const ids[] = {report->id_omni_mess, report->smsid, report->referent_id};

	for (int i = 0; i < (int) lengthof(ids); i++)
	{
		if (ids[i][0] && number-- == 0)
			return ids[i];
	}
	return NULL;
}

/* Runs a look-up by gateway and text; its first column, 0 if there is none. */
static int64
find_by_text(Statement plan, const char *gateway, const char *text)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(from_utf8(text))};
	int64 id = 0;
	bool isnull;

	sql_run(plan, values);
	if (SPI_processed > 0)
		id = DatumGetInt64(sql_column(0, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return id;
}

/*
 * Finds the message of a gateway that a report is about: "id" if that is not 0,
 * else by its request_id, else by the provider's ids.  Returns 0 if there is none, or if
 * the ids contradict each other.
 */
int64
outbox_find_message(const char *gateway, const Report *report, int64 id, Oid *role, Status *status,
					bool *by_id_only)
{
	NameData name;
	Datum values[2];
	const char *reference;
	char *request_id;
	char *smsid;

	*by_id_only = false;
	if (id == 0 && report->request_id[0])
	{
		id = request_id_message(report->request_id);
		if (id == 0)
			id = find_by_text(PLAN_FIND_REQUEST, gateway, report->request_id);
	}
	else if (id == 0)
	{
		*by_id_only = true;
		for (int i = 0; id == 0 && (reference = report_reference(report, i)) != NULL; i++)
		{
			id = find_by_text(PLAN_FIND_REFERENCE, gateway, reference);
			if (id == 0)
				id = find_by_text(PLAN_FIND_REMEMBERED, gateway, reference);
		}
	}
	if (id == 0)
		return 0;

	values[0] = Int64GetDatum(id);
	values[1] = name_datum(&name, gateway);
	sql_run(PLAN_FIND_ID, values);
	if (SPI_processed == 0)
	{
		SPI_freetuptable(SPI_tuptable);
		return 0;
	}
	*status = sql_status(0, 1);
	request_id = sql_text(0, 2);
	smsid = sql_text(0, 3);
	*role = sql_role(0, 4);
	SPI_freetuptable(SPI_tuptable);
	if (report->request_id[0] && strcmp(request_id, from_utf8(report->request_id)) != 0)
		return 0;
	if (report->smsid[0] && smsid != NULL && strcmp(smsid, from_utf8(report->smsid)) != 0)
		return 0;
	return id;
}

/*
 * Keeps a report under the id it came with.  Those of unknown messages are kept
 * only up to a size: callbacks are not signed, and anybody could fill the disk.
 */
void
outbox_keep_report(const char *gateway, const Report *report, const char *json, int64 message)
{
	const char *reference = report->request_id[0] ? report->request_id : report_reference(report, 0);
	Relation table = table_open(home_relation("sms_gateway_report"), AccessShareLock);
	bool full = RelationGetNumberOfBlocks(table) > UNKNOWN_BLOCKS;
	NameData name;
	Datum values[5];
	char nulls[] = "     ";

	table_close(table, AccessShareLock);
	if (reference == NULL || (full && message == 0))
		return;
	values[0] = name_datum(&name, gateway);
	values[1] = CStringGetTextDatum(from_utf8(reference));
	values[2] = Int64GetDatum(message);
	nulls[2] = message == 0 ? 'n' : ' ';
	values[3] = DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
	values[4] = BoolGetDatum(report->delivery != DELIVERY_PENDING);
	sql_run_nulls(PLAN_KEEP_REPORT, values, nulls);
}

/* Matches reports that came before their message's answer, now that it may be there. */
void
outbox_match_reports(bool answered)
{
	TimestampTz now = GetCurrentTimestamp();
	Datum values[] = {
		TimestampTzGetDatum(answered ? now - REPORT_DAYS * USECS_PER_DAY : now - USECS_PER_MINUTE),
		Int64GetDatum(UNKNOWN_AT_ONCE),
	};
	SPITupleTable *unknown;
	uint64 n;

	sql_run(PLAN_UNKNOWN_REPORTS, values);
	unknown = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;
		Name gateway = DatumGetName(SPI_getbinval(unknown->vals[i], unknown->tupdesc, 1, &isnull));
		Datum reference = SPI_getbinval(unknown->vals[i], unknown->tupdesc, 2, &isnull);
		char *json = to_utf8(SPI_getvalue(unknown->vals[i], unknown->tupdesc, 3), "report");
		const Provider *provider = gateway_provider(NameStr(*gateway));
		Report report = {0};
		FollowUp followup = {.report = &report};
		bool by_id_only;
		Status status;

		if (provider == NULL || !provider->report(json, strlen(json), &report))
			continue;
		followup.row.id =
			outbox_find_message(NameStr(*gateway), &report, 0, &followup.row.role, &status, &by_id_only);
		if (followup.row.id == 0 || status == STATUS_QUEUED)
			continue;
		if (outbox_follow_one(&followup))
			sql_run(PLAN_KNOW_REPORT,
					(Datum[]){NameGetDatum(gateway), reference, Int64GetDatum(followup.row.id)});
	}
	SPI_freetuptable(unknown);
}
