/*
 * report.c
 *		Messages that were sent: which are to be asked about, and which one a report means.
 */
#include "postgres.h"

#include "access/table.h"
#include "base/clock.h"
#include "base/encoding.h"
#include "catalog/pg_type.h"
#include "db/creator.h"
#include "db/home.h"
#include "db/sql.h"
#include "gateway/gateway.h"
#include "outbox/follow.h"
#include "outbox/manage.h"
#include "outbox/report.h"
#include "outbox/request_id.h"
#include "provider/kept.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#define UNKNOWN_BLOCKS  8192 /* of 8 kB: unknown reports are kept up to this size */
#define UNKNOWN_AT_ONCE 500
#define MATCH_TIME      20.0 /* ms within which those are begun to be matched, at once */

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
	", o.status, " CREATOR_COLUMNS ", o.sent_at, o.poll_at"
enum
{
	FOLLOW_ID,
	FOLLOW_GATEWAY,
	FOLLOW_REFERENCE,
	FOLLOW_LEGS,
	FOLLOW_STATUS,
	FOLLOW_CREATOR,
	FOLLOW_CREATED_BY,
	FOLLOW_ORIGIN,
	FOLLOW_SENT_AT,
	FOLLOW_POLL_AT,
};

/* Somebody may have ended a message "o" by hand.  Of those in doubt it says when the account's list is asked for: settle.c. */
#define IS_ASKED_ABOUT "o.status = 'sent'"

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
	.sql = "SELECT o.status, o.request_id, o.smsid, " CREATOR_COLUMNS ", " HAS_LEGS " FROM @sms_outbox o "
		   "WHERE o.id = $1 AND o.gateway = $2",
	.args = {INT8OID, NAMEOID},
};
enum
{
	FOUND_STATUS,
	FOUND_REQUEST_ID,
	FOUND_SMSID,
	FOUND_CREATOR,
	FOUND_CREATED_BY,
	FOUND_ORIGIN,
	FOUND_LEGS,
};

/* The next three find a message's id by gateway and text. */
static Statement report_find_request = {
	.sql = "SELECT o.id FROM @sms_outbox o WHERE o.gateway = $1 AND o.request_id = $2 "
		   "AND NOT o.request_id OPERATOR(pg_catalog.^@) '" REQUEST_ID_PREFIX "' AND o.creator <> 0",
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

/* One that comes again is looked at again: its message may have got its answer meanwhile. */
static Statement report_insert = {
	.sql = "INSERT INTO @sms_gateway_callback AS s (gateway, reference, message, report, looked) "
		   "VALUES ($1, $2, $3, $4, $3 IS NOT NULL) ON CONFLICT (gateway, reference) DO UPDATE SET "
		   "message = coalesce(s.message, excluded.message), "
		   "report = CASE WHEN $5 THEN excluded.report ELSE s.report END, "
		   "received_at = excluded.received_at, looked = excluded.looked",
	.args = {NAMEOID, TEXTOID, INT8OID, JSONBOID, BOOLOID},
};

/* A report that came under an id before it was known whose that is. */
static Statement report_find_waiting = {
	.sql = "SELECT report::text FROM @sms_gateway_callback WHERE gateway = $1 AND reference = $2 "
		   "AND message IS NULL",
	.args = {NAMEOID, TEXTOID},
};

/* The columns of kept reports "c" that match_reports() takes. */
#define KEPT_COLUMNS "c.gateway, c.reference, c.report::text"
enum
{
	KEPT_GATEWAY,
	KEPT_REFERENCE,
	KEPT_REPORT,
};

static Statement report_find_new = {
	.sql = "SELECT " KEPT_COLUMNS " FROM @sms_gateway_callback c "
		   "WHERE NOT c.looked ORDER BY c.received_at DESC LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED",
	.args = {INT8OID},
};

static Statement report_find_awaited = {
	.sql = "SELECT " KEPT_COLUMNS " FROM unnest($1, $2) AS a(gateway, reference) "
		   "JOIN @sms_gateway_callback c ON c.gateway = a.gateway AND c.reference = a.reference "
		   "WHERE c.message IS NULL FOR NO KEY UPDATE OF c SKIP LOCKED",
	.args = {NAMEARRAYOID, TEXTARRAYOID},
};

static Statement report_find_next = {
	.sql = "SELECT " KEPT_COLUMNS " FROM @sms_gateway_callback c "
		   "WHERE (c.gateway, c.reference) > ($1, $2) AND c.message IS NULL AND c.looked "
		   "ORDER BY c.gateway, c.reference LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED",
	.args = {NAMEOID, TEXTOID, INT8OID},
};

/* $3: the message it belongs to; NULL: it was looked for. */
static Statement report_set_looked = {
	.sql = "UPDATE @sms_gateway_callback SET message = coalesce($3, message), looked = true "
		   "WHERE gateway = $1 AND reference = $2",
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
	follow->role = creator_read(row, FOLLOW_CREATOR);
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

/* A message that role may manage, as it was sent, palloc'd.  Raises 42704 if there is none, or it is another's. */
Follow *
report_sent_message(int64 id, Oid role)
{
	Datum values[] = {Int64GetDatum(id)};
	Follow *follow;
	bool found = sql_run(&report_find_sent, values) > 0;

	manage_check(id, found ? creator_read(0, FOLLOW_CREATOR) : InvalidOid, role);
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("message %lld does not exist", (long long) id)));
	follow = read_follow(0);
	sql_done();
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

/* Runs a look-up by gateway and text, which is UTF-8: the id it finds, 0 if none or, of several roles, more. */
static int64
find_by_text(Statement *statement, const char *gateway, const char *text)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(from_utf8(text))};
	int64 id = sql_run(statement, values) == 1 ? sql_int64(0, FOUND_ID) : 0;

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
	reported->role = creator_read(0, FOUND_CREATOR);
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

/* Is there anything among the kept reports?  There may be, where there was. */
bool
report_any_kept(void)
{
	Relation table = table_open(home_relation("sms_gateway_callback"), AccessShareLock);
	bool any = RelationGetNumberOfBlocks(table) > 0;

	table_close(table, AccessShareLock);
	return any;
}

/* Keeps a report under a reference, in UTF-8; "message" is whose it is, or 0. */
static void
keep_as(const char *gateway, const char *reference, const Report *report, int64 message)
{
	char *written = report_write(report);
	char *json;
	NameData name;
	Datum values[5];
	char nulls[] = "     ";

	if (written == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	json = pstrdup(written);
	free(written);
	values[0] = name_datum(&name, gateway);
	values[1] = CStringGetTextDatum(from_utf8(reference));
	values[2] = Int64GetDatum(message);
	nulls[2] = message == 0 ? 'n' : ' ';
	values[3] = DirectFunctionCall1(jsonb_in, CStringGetDatum(from_utf8(json)));
	values[4] = BoolGetDatum(report->delivery != DELIVERY_PENDING);
	sql_run_nulls(&report_insert, values, nulls);
}

/*
 * Keeps a report under the id it came with: its message is not known.  Those are kept only up to a size: callbacks are
 * not signed, and anybody could fill the disk.
 */
void
report_keep(const char *gateway, const Report *report)
{
	const char *reference = report->request_id[0] ? report->request_id : report_reference(report, 0);
	Relation table = table_open(home_relation("sms_gateway_callback"), AccessShareLock);
	bool full = RelationGetNumberOfBlocks(table) > UNKNOWN_BLOCKS;

	table_close(table, AccessShareLock);
	if (reference != NULL && !full)
		keep_as(gateway, reference, report, 0);
}

/* Reads what was kept of a report, in the database's encoding; 0.1.0 kept them as they came.  False if it says nothing. */
static bool
read_kept(const char *gateway, const char *kept, Report *report)
{
	const Provider *provider = gateway_provider(gateway);
	const char *json = to_utf8(kept, "report");

	memset(report, 0, sizeof(*report));
	return report_read(json, strlen(json), report) ||
		   (provider != NULL && provider->report(json, strlen(json), report));
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
remember(const char *gateway, const char *reference, const Report *report, const Reported *reported)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(from_utf8(reference))};
	const char *waiting = sql_run(&report_find_waiting, values) > 0 ? sql_text(0, 0) : NULL;
	Report earlier;

	sql_done();
	if (waiting != NULL && read_kept(gateway, waiting, &earlier) && !write_report(&earlier, reported))
		return false;
	keep_as(gateway, reference, report, reported->id);
	return true;
}

/*
 * Writes a report onto the message that report_find_message() has found, and remembers the ids in it by which that could not
 * be found again; false if somebody holds the message.
 */
bool
report_record(const char *gateway, const Report *report, const Reported *reported)
{
	const char *reference = report_reference(report, 0);

	if (!write_report(report, reported))
		return false;
	if (reference != NULL && (reported->by_id_only || reported->legs) &&
		!remember(gateway, reference, report, reported))
		return false;
	return !reported->legs || report->next_smsid[0] == '\0' ||
		   remember(gateway, report->next_smsid, report, reported);
}

/* A kept report whose message was not known. */
typedef struct KeptReport
{
	NameData gateway;
	char *reference;
	char *json;
} KeptReport;

/* Looks for the message of a kept report, and writes onto it what is reported; false if it has to be tried again. */
static bool
match_kept(const KeptReport *kept)
{
	const char *gateway = NameStr(kept->gateway);
	Report report;
	Reported reported = {.id = 0};
	bool known;
	char nulls[] = "   ";

	if (read_kept(gateway, kept->json, &report))
		reported = report_find_message(gateway, &report, 0);
	known = reported.id != 0 && reported.status != STATUS_QUEUED;
	if (known && !report_record(gateway, &report, &reported))
		return false;
	nulls[2] = known ? ' ' : 'n';
	sql_run_nulls(&report_set_looked,
				  (Datum[]){NameGetDatum(&kept->gateway), CStringGetTextDatum(kept->reference),
							Int64GetDatum(reported.id)},
				  nulls);
	return true;
}

/* Reads the kept reports of a result of n rows, and ends it. */
static KeptReport *
read_all_kept(int64 n)
{
	KeptReport *kept = palloc(sizeof(KeptReport) * Max(n, 1));

	for (int i = 0; i < n; i++)
	{
		namestrcpy(&kept[i].gateway, sql_name(i, KEPT_GATEWAY));
		kept[i].reference = sql_text(i, KEPT_REFERENCE);
		kept[i].json = sql_text(i, KEPT_REPORT);
	}
	sql_done();
	return kept;
}

/*
 * Looks for the messages of reports that have come since, once for each: what is not found then waits for its message's
 * answer.  Returns true if there may be more.
 */
bool
report_match_new(void)
{
	double end = now_ms() + MATCH_TIME;
	Datum values[] = {Int64GetDatum(UNKNOWN_AT_ONCE)};
	int64 n = sql_run(&report_find_new, values);
	KeptReport *kept = read_all_kept(n);

	for (int i = 0; i < n; i++)
	{
		if (now_ms() > end)
			return true;
		match_kept(&kept[i]);
	}
	return n == UNKNOWN_AT_ONCE;
}

/* Matches reports that came before their messages' answers, by the ids of messages that have got theirs. */
void
report_match_awaited(const ReportKey *awaited, int n)
{
	Datum *gateways = palloc(sizeof(Datum) * n);
	Datum *references = palloc(sizeof(Datum) * n);
	Datum values[2];
	KeptReport *kept;
	int64 found;

	for (int i = 0; i < n; i++)
	{
		gateways[i] = NameGetDatum(&awaited[i].gateway);
		references[i] = CStringGetTextDatum(from_utf8(awaited[i].reference));
	}
	values[0] = PointerGetDatum(construct_array(gateways, n, NAMEOID, NAMEDATALEN, false, TYPALIGN_CHAR));
	values[1] = PointerGetDatum(construct_array(references, n, TEXTOID, -1, false, TYPALIGN_INT));
	found = sql_run(&report_find_awaited, values);
	kept = read_all_kept(found);
	for (int i = 0; i < found; i++)
		match_kept(&kept[i]);
}

/*
 * Looks for the messages of reports that were looked for already, some of them, behind a place, which it moves on: for
 * when it is not known which messages have got their answers.  Returns true if there may be more.
 */
bool
report_match_next(ReportKey *after)
{
	double end = now_ms() + MATCH_TIME;
	Datum values[] = {NameGetDatum(&after->gateway), CStringGetTextDatum(from_utf8(after->reference)),
					  Int64GetDatum(UNKNOWN_AT_ONCE)};
	int64 n = sql_run(&report_find_next, values);
	KeptReport *kept = read_all_kept(n);

	for (int i = 0; i < n; i++)
	{
		if (now_ms() > end)
			return true;
		match_kept(&kept[i]);
		after->gateway = kept[i].gateway;
		strlcpy(after->reference, to_utf8(kept[i].reference, "reference"), sizeof(after->reference));
	}
	return n == UNKNOWN_AT_ONCE;
}
