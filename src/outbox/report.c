/*
 * report.c
 *		Messages that were sent: which are to be asked about, and which one a report means.
 */
#include "postgres.h"

#include "access/table.h"
#include "base/clock.h"
#include "base/encoding.h"
#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/sql.h"
#include "gateway/gateway.h"
#include "outbox/follow.h"
#include "outbox/manage.h"
#include "outbox/report.h"
#include "outbox/request_id.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#define UNKNOWN_BLOCKS  8192 /* of 8 kB: unknown reports are kept up to this size */
#define UNKNOWN_AT_ONCE 500
#define UNKNOWN_DAYS    7
#define MATCH_TIME      200.0 /* ms within which those are begun to be matched, at once */

/* The provider's id of a message "o": there is an index on it. */
#define REFERENCE "coalesce(o.id_omni_mess, o.smsid, o.referent_id)"

/* Of a message that goes over several channels, each has an id of its own: see sms_gateway_legs(). */
#define HAS_LEGS "coalesce(o.details ? 'legs', false)"

/* What is asked about such a one: the last of its legs that is open and has an id; else its answer's, unless that leg has ended. */
#define LEG_REFERENCE                                                                                        \
	"coalesce((SELECT l ->> 'smsid' FROM jsonb_array_elements(o.details -> 'legs') WITH ORDINALITY AS e(l, " \
	"n) "                                                                                                    \
	"WHERE l ->> 'status' = 'sent' AND l ? 'smsid' ORDER BY n DESC LIMIT 1), "                               \
	"(SELECT o.smsid WHERE NOT EXISTS (SELECT FROM jsonb_array_elements(o.details -> 'legs') l "             \
	"WHERE l ->> 'smsid' = o.smsid)))"

/* The columns of a message "o" that read_follow() takes. */
#define FOLLOW_COLUMNS                                                                                       \
	"o.id, o.gateway, CASE WHEN " HAS_LEGS " THEN " LEG_REFERENCE " ELSE " REFERENCE " END, " HAS_LEGS       \
	", o.status, o.created_by, o.sent_at, o.poll_at"
enum
{
	FOLLOW_ID,
	FOLLOW_GATEWAY,
	FOLLOW_REFERENCE,
	FOLLOW_LEGS,
	FOLLOW_STATUS,
	FOLLOW_CREATED_BY,
	FOLLOW_SENT_AT,
	FOLLOW_POLL_AT,
};

/* Somebody may have ended a message "o" by hand. */
#define IS_ASKED_ABOUT "o.status IN ('sent', 'uncertain')"

static Statement report_find_polls = {
	.sql = "SELECT " FOLLOW_COLUMNS " FROM @sms_outbox o WHERE o.gateway = $1 AND o.poll_at IS NOT NULL "
		   "AND (o.poll_at, o.id) > ($2, $3) AND o.poll_at <= $4 AND o.origin = $5 AND " IS_ASKED_ABOUT " "
		   "ORDER BY o.poll_at, o.id LIMIT $6",
	.args = {NAMEOID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID},
};

static Statement report_next_poll = {
	.sql = "SELECT o.poll_at FROM @sms_outbox o WHERE o.gateway = $1 AND o.poll_at IS NOT NULL "
		   "AND o.poll_at > $2 AND " IS_ASKED_ABOUT " ORDER BY o.poll_at LIMIT 1",
	.args = {NAMEOID, TIMESTAMPTZOID},
};

static Statement report_find_sent = {
	.sql = "SELECT " FOLLOW_COLUMNS " FROM @sms_outbox o WHERE o.id = $1",
	.args = {INT8OID},
};

static Statement report_find_id = {
	.sql = "SELECT o.status, o.request_id, o.smsid, o.created_by, " HAS_LEGS " FROM @sms_outbox o "
		   "WHERE o.id = $1 AND o.gateway = $2",
	.args = {INT8OID, NAMEOID},
};
enum
{
	FOUND_STATUS,
	FOUND_REQUEST_ID,
	FOUND_SMSID,
	FOUND_CREATED_BY,
	FOUND_LEGS,
};

/* The next three find a message's id by gateway and text. */
static Statement report_find_request = {
	.sql = "SELECT o.id FROM @sms_outbox o WHERE o.gateway = $1 AND o.request_id = $2 "
		   "AND NOT o.request_id OPERATOR(pg_catalog.^@) '" REQUEST_ID_PREFIX "'",
	.args = {NAMEOID, TEXTOID},
};

static Statement report_find_reference = {
	.sql = "SELECT o.id FROM @sms_outbox o WHERE " REFERENCE " = $2 AND " REFERENCE " IS NOT NULL "
		   "AND (o.status IN ('sent', 'uncertain') OR o.kind <> 'text') AND o.gateway = $1 LIMIT 1",
	.args = {NAMEOID, TEXTOID},
};

static Statement report_find_remembered = {
	.sql = "SELECT message FROM @sms_gateway_callback WHERE gateway = $1 AND reference = $2 "
		   "AND message IS NOT NULL",
	.args = {NAMEOID, TEXTOID},
};
enum
{
	FOUND_ID,
};

static Statement report_insert = {
	.sql = "INSERT INTO @sms_gateway_callback AS s (gateway, reference, message, report) "
		   "VALUES ($1, $2, $3, $4) ON CONFLICT (gateway, reference) DO UPDATE SET "
		   "message = coalesce(s.message, excluded.message), "
		   "report = CASE WHEN $5 THEN excluded.report ELSE s.report END, "
		   "received_at = excluded.received_at",
	.args = {NAMEOID, TEXTOID, INT8OID, JSONBOID, BOOLOID},
};

/* A report that came under an id before it was known whose that is. */
static Statement report_find_waiting = {
	.sql = "SELECT report::text FROM @sms_gateway_callback WHERE gateway = $1 AND reference = $2 "
		   "AND message IS NULL",
	.args = {NAMEOID, TEXTOID},
};

static Statement report_find_unknown = {
	.sql = "SELECT gateway, reference, report::text FROM @sms_gateway_callback "
		   "WHERE message IS NULL AND received_at > $1 ORDER BY received_at DESC LIMIT $2 "
		   "FOR NO KEY UPDATE SKIP LOCKED",
	.args = {TIMESTAMPTZOID, INT8OID},
};
enum
{
	UNKNOWN_GATEWAY,
	UNKNOWN_REFERENCE,
	UNKNOWN_REPORT,
};

static Statement report_set_message = {
	.sql = "UPDATE @sms_gateway_callback SET message = $3 WHERE gateway = $1 AND reference = $2",
	.args = {NAMEOID, TEXTOID, INT8OID},
};

static Follow *
read_follow(int row)
{
	Follow *follow = palloc0(sizeof(Follow));

	follow->id = sql_int64(row, FOLLOW_ID);
	follow->gateway = pstrdup(sql_name(row, FOLLOW_GATEWAY));
	follow->reference = sql_text(row, FOLLOW_REFERENCE);
	follow->legs = sql_bool(row, FOLLOW_LEGS);
	follow->status = sql_status(row, FOLLOW_STATUS);
	follow->role = sql_role(row, FOLLOW_CREATED_BY);
	follow->sent_at = sql_time(row, FOLLOW_SENT_AT, 0);
	follow->poll_at = sql_time(row, FOLLOW_POLL_AT, 0);
	return follow;
}

/*
 * Messages of a gateway that are due to be asked about, behind the last one taken: up to limit, as a
 * palloc'd list of Follows.
 */
List *
report_polls(const char *gateway, TimestampTz after, int64 after_id, TimestampTz now, int limit)
{
	NameData name;
	Datum values[] = {
		name_datum(&name, gateway), TimestampTzGetDatum(after),   Int64GetDatum(after_id),
		TimestampTzGetDatum(now),   Int64GetDatum(home_origin()), Int64GetDatum(limit),
	};
	List *polls = NIL;
	int64 n = sql_run(&report_find_polls, values);

	for (int i = 0; i < n; i++)
		polls = lappend(polls, read_follow(i));
	sql_done();
	return polls;
}

/* When the next message of a gateway is to be asked about; DT_NOEND: none. */
TimestampTz
report_poll_due(const char *gateway, TimestampTz after)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), TimestampTzGetDatum(after)};

	return sql_find_time(&report_next_poll, values);
}

/*
 * A message that role may manage, as it was sent, palloc'd.  Raises 42704 if there is none, 42501 if it is
 * another's.
 */
Follow *
report_sent_message(int64 id, Oid role)
{
	Datum values[] = {Int64GetDatum(id)};
	Follow *follow;

	if (sql_run(&report_find_sent, values) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("message %lld does not exist", (long long) id)));
	follow = read_follow(0);
	sql_done();
	manage_check(id, follow->role, role);
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

/* Runs a look-up by gateway and text, which is UTF-8: the id it finds, 0 if none. */
static int64
find_by_text(Statement *statement, const char *gateway, const char *text)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(from_utf8(text))};
	int64 id = sql_run(statement, values) > 0 ? sql_int64(0, FOUND_ID) : 0;

	sql_done();
	return id;
}

/* The id of the message that a report names by its request_id, 0 if none.  (0.1.0 sent users' own as they are.) */
static int64
find_by_request_id(const char *gateway, const char *request_id)
{
	int64 id = request_id_message(request_id);

	return id != 0 ? id : find_by_text(&report_find_request, gateway, request_id);
}

/* The id of the message that a report names by the provider's ids, 0 if none. */
static int64
find_by_references(const char *gateway, const Report *report)
{
	const char *reference;
	int64 id = 0;

	for (int i = 0; id == 0 && (reference = report_reference(report, i)) != NULL; i++)
	{
		id = find_by_text(&report_find_reference, gateway, reference);
		if (id == 0)
			id = find_by_text(&report_find_remembered, gateway, reference);
	}
	return id;
}

/* Reads the message with an id into *reported; false if it is not the gateway's, or the report contradicts it. */
static bool
read_reported(const char *gateway, const Report *report, int64 id, Reported *reported)
{
	NameData name;
	Datum values[] = {Int64GetDatum(id), name_datum(&name, gateway)};
	char *request_id;
	char *creator;
	char *smsid;

	if (sql_run(&report_find_id, values) == 0)
	{
		sql_done();
		return false;
	}
	reported->id = id;
	reported->status = sql_status(0, FOUND_STATUS);
	reported->role = sql_role(0, FOUND_CREATED_BY);
	creator = pstrdup(sql_name(0, FOUND_CREATED_BY));
	request_id = sql_text(0, FOUND_REQUEST_ID);
	smsid = sql_text(0, FOUND_SMSID);
	reported->legs = sql_bool(0, FOUND_LEGS);
	sql_done();
	if (report->request_id[0] && strcmp(request_id, from_utf8(report->request_id)) != 0 &&
		!request_id_names(report->request_id, request_id, id, creator))
		return false;
	return reported->legs || !report->smsid[0] || smsid == NULL ||
		   strcmp(smsid, from_utf8(report->smsid)) == 0;
}

/*
 * Finds the message of a gateway that a report is about: "id" if that is not 0,
 * else by its request_id, else by the provider's ids.  Its id is 0 if there is none, or if
 * the ids contradict each other.
 */
Reported
report_find_message(const char *gateway, const Report *report, int64 id)
{
	Reported reported = {.id = 0};

	if (id == 0 && report->request_id[0])
		id = find_by_request_id(gateway, report->request_id);
	else if (id == 0)
	{
		reported.by_id_only = true;
		id = find_by_references(gateway, report);
	}
	if (id == 0 || !read_reported(gateway, report, id, &reported))
		reported.id = 0;
	return reported;
}

/* Keeps a report under a reference, in UTF-8; "message" is whose it is, or 0. */
static void
keep_as(const char *gateway, const char *reference, const Report *report, const char *json, int64 message)
{
	NameData name;
	Datum values[5];
	char nulls[] = "     ";

	values[0] = name_datum(&name, gateway);
	values[1] = CStringGetTextDatum(from_utf8(reference));
	values[2] = Int64GetDatum(message);
	nulls[2] = message == 0 ? 'n' : ' ';
	values[3] = DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
	values[4] = BoolGetDatum(report->delivery != DELIVERY_PENDING);
	sql_run_nulls(&report_insert, values, nulls);
}

/*
 * Keeps a report, JSON in the database's encoding, under the id it came with: its message is not known.  Those are kept only
 * up to a size: callbacks are not signed, and anybody could fill the disk.
 */
void
report_keep(const char *gateway, const Report *report, const char *json)
{
	const char *reference = report->request_id[0] ? report->request_id : report_reference(report, 0);
	Relation table = table_open(home_relation("sms_gateway_callback"), AccessShareLock);
	bool full = RelationGetNumberOfBlocks(table) > UNKNOWN_BLOCKS;

	table_close(table, AccessShareLock);
	if (reference != NULL && !full)
		keep_as(gateway, reference, report, json, 0);
}

/* Writes a report onto its message; false if that is locked. */
static bool
write_report(const Report *report, const Reported *reported)
{
	FollowUp followup = {
		.row = {.id = reported->id, .role = reported->role}, .report = report, .legs = reported->legs};

	return follow_record_one(&followup);
}

/*
 * Remembers whose an id is that only a report tells, so that others which come with it alone are known.  One that has come
 * so before is written now.  False if its message is locked.
 */
static bool
remember(const char *gateway, const char *reference, const Report *report, const char *json,
		 const Reported *reported)
{
	const Provider *provider = gateway_provider(gateway);
	NameData name;
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(from_utf8(reference))};
	const char *waiting =
		sql_run(&report_find_waiting, values) > 0 ? to_utf8(sql_text(0, 0), "report") : NULL;
	Report earlier = {0};

	sql_done();
	if (waiting != NULL && provider != NULL && provider->report(waiting, strlen(waiting), &earlier) &&
		!write_report(&earlier, reported))
		return false;
	keep_as(gateway, reference, report, json, reported->id);
	return true;
}

/*
 * Writes a report, JSON in the database's encoding, onto the message that report_find_message() has found, and remembers the
 * ids in it by which that could not be found again; false if somebody holds the message.
 */
bool
report_record(const char *gateway, const Report *report, const char *json, const Reported *reported)
{
	const char *reference = report_reference(report, 0);

	if (!write_report(report, reported))
		return false;
	if (reference != NULL && (reported->by_id_only || reported->legs) &&
		!remember(gateway, reference, report, json, reported))
		return false;
	return !reported->legs || report->next_smsid[0] == '\0' ||
		   remember(gateway, report->next_smsid, report, json, reported);
}

/* A kept report whose message was not known. */
typedef struct UnknownReport
{
	NameData gateway;
	char *reference;
	char *json;
} UnknownReport;

/* Looks for the message of a kept report once more. */
static void
match_report(UnknownReport *unknown)
{
	const char *gateway = NameStr(unknown->gateway);
	const Provider *provider = gateway_provider(gateway);
	const char *json = to_utf8(unknown->json, "report");
	Report report = {0};
	Reported reported;

	if (provider == NULL || !provider->report(json, strlen(json), &report))
		return;
	reported = report_find_message(gateway, &report, 0);
	if (reported.id == 0 || reported.status == STATUS_QUEUED)
		return;
	if (report_record(gateway, &report, unknown->json, &reported))
		sql_run(&report_set_message,
				(Datum[]){NameGetDatum(&unknown->gateway), CStringGetTextDatum(unknown->reference),
						  Int64GetDatum(reported.id)});
}

/*
 * Matches reports that came before their message's answer, now that it may be there: of the last days
 * if answers have just been recorded, else of the last minute.  Returns true if time was up before all were done.
 */
bool
report_match(bool answered)
{
	double end = now_ms() + MATCH_TIME;
	TimestampTz now = GetCurrentTimestamp();
	Datum values[] = {
		TimestampTzGetDatum(answered ? now - UNKNOWN_DAYS * USECS_PER_DAY : now - USECS_PER_MINUTE),
		Int64GetDatum(UNKNOWN_AT_ONCE),
	};
	int64 n = sql_run(&report_find_unknown, values);
	UnknownReport *unknown = palloc(sizeof(UnknownReport) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		namestrcpy(&unknown[i].gateway, sql_name(i, UNKNOWN_GATEWAY));
		unknown[i].reference = sql_text(i, UNKNOWN_REFERENCE);
		unknown[i].json = sql_text(i, UNKNOWN_REPORT);
	}
	sql_done();
	for (int i = 0; i < n; i++)
	{
		if (now_ms() > end)
			return true;
		match_report(&unknown[i]);
	}
	return false;
}
