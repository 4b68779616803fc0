/*
 * cleanup.c
 *		What the time of which has passed: messages expire, and what is kept for a time only is deleted.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "db/creator.h"
#include "db/home.h"
#include "db/sql.h"
#include "gateway/gateway.h"
#include "outbox/cleanup.h"
#include "outbox/event.h"
#include "outbox/firing.h"
#include "outbox/item.h"
#include "outbox/write.h"
#include "utils/array.h"
#include "utils/datum.h"
#include "utils/timestamp.h"

#define REPORT_DAYS    7
#define UNCERTAIN_DAYS 30 /* at least, for somebody to decide */
#define EXPIRE_AT_ONCE 1000
#define PURGE_AT_ONCE  1000

static Statement cleanup_find_late = {
	.sql =
		"SELECT o.id, o.gateway, "
		"CASE WHEN o.unsure_since IS NULL THEN 'expired' ELSE 'uncertain' END::@sms_status, " CREATOR_COLUMNS
		" FROM @sms_outbox o "
		"WHERE o.status = 'queued' AND o.expires_at IS NOT NULL AND o.expires_at <= $1 AND o.origin = $2 "
		"AND NOT @sms_gateway_claimed(o.id) ORDER BY o.expires_at "
		"LIMIT " CppAsString2(EXPIRE_AT_ONCE) " FOR NO KEY UPDATE OF o SKIP LOCKED",
	.args = {TIMESTAMPTZOID, INT8OID},
};
enum
{
	LATE_ID,
	LATE_GATEWAY,
	LATE_STATUS,
	LATE_CREATOR,
};

static const SqlColumn late_columns[] = {{"id", INT8OID}, {"poll_at", TIMESTAMPTZOID}};

/* clang-format off */
static Statement cleanup_update_late = {
	.sql = "UPDATE @sms_outbox o SET next_attempt_at = NULL, ended_at = pg_catalog.now(), "
		   "poll_at = CASE WHEN o.kind OPERATOR(pg_catalog.<>) 'otp' THEN r.poll_at END, "
		   "status = CASE WHEN o.unsure_since IS NULL THEN 'expired' ELSE 'uncertain' END::@sms_status, "
		   BLANK("o.unsure_since IS NULL AND " REDACTED) " "
		   "FROM late r WHERE o.id OPERATOR(pg_catalog.=) r.id AND " IS_QUEUED,
};
/* clang-format on */

static Statement cleanup_next_late = {
	.sql = "SELECT o.expires_at FROM @sms_outbox o WHERE o.status = 'queued' "
		   "AND o.expires_at IS NOT NULL AND o.expires_at > $1 ORDER BY o.expires_at LIMIT 1",
	.args = {TIMESTAMPTZOID},
};

/*
 * What is queued stays; what is uncertain, longer, as somebody is to decide it; and what somebody holds, for this
 * time.
 */
static Statement cleanup_find_page = {
	.sql =
		"SELECT o.id, o.ended_at, " CREATOR_COLUMNS " FROM @sms_outbox o "
		"WHERE o.ended_at IS NOT NULL AND (o.ended_at, o.id) > ($1, $2) AND o.ended_at < $3 AND o.status IN "
		"('sent', 'delivered', 'undelivered', 'failed', 'expired', 'canceled', 'uncertain') "
		"AND (o.status <> 'uncertain' OR o.ended_at < $5) ORDER BY o.ended_at, o.id LIMIT $4 FOR UPDATE OF o "
		"SKIP LOCKED",
	.args = {TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID},
};
enum
{
	PAGE_ID,
	PAGE_ENDED_AT,
	PAGE_CREATOR,
};

static Statement cleanup_delete_page = {
	.sql = "DELETE FROM @sms_outbox o WHERE o.id OPERATOR(pg_catalog.=) ANY ($1)",
	.args = {INT8ARRAYOID},
};

/* The next three delete a page of what is kept, but for what somebody holds. */
static Statement cleanup_delete_reports = {
	.sql = "WITH page AS MATERIALIZED (SELECT c.gateway, c.reference FROM @sms_gateway_callback c "
		   "WHERE c.received_at < $1 LIMIT " CppAsString2(
			   PURGE_AT_ONCE) " FOR UPDATE SKIP LOCKED) "
							  "DELETE FROM @sms_gateway_callback c USING page p "
							  "WHERE c.gateway = p.gateway AND c.reference = p.reference",
	.args = {TIMESTAMPTZOID},
};

static Statement cleanup_delete_otp = {
	.sql = "WITH page AS MATERIALIZED (SELECT c.id FROM @sms_gateway_otp c "
		   "WHERE c.expires_at < $1 LIMIT " CppAsString2(
			   PURGE_AT_ONCE) " FOR UPDATE SKIP LOCKED) "
							  "DELETE FROM @sms_gateway_otp c USING page p WHERE c.id = p.id",
	.args = {TIMESTAMPTZOID},
};

/*
 * Counters change in place, which no snapshot shows and no lock of a row that is taken later: rows are locked
 * first, which counting waits for, and then looked at again.
 */
static Statement cleanup_lock_usage = {
	.sql = "SELECT c.ctid FROM @sms_gateway_usage c WHERE c.window_end < $1 "
		   "LIMIT " CppAsString2(PURGE_AT_ONCE) " FOR UPDATE SKIP LOCKED",
	.args = {TIMESTAMPTZOID},
};

static Statement cleanup_delete_usage = {
	.sql = "DELETE FROM @sms_gateway_usage c WHERE c.ctid = ANY ($2) AND c.window_end < $1",
	.args = {TIMESTAMPTZOID, TIDARRAYOID},
};

/* A message whose time has passed. */
typedef struct Late
{
	RowWrite row;
	NameData gateway;
	Status status; /* that it comes to */
} Late;

static void
put_late(const RowWrite *row, Oid status_type, Datum *values, bool *nulls)
{
	const Late *late = (const Late *) row; /* its first member */
	const Provider *provider = gateway_provider(NameStr(late->gateway));

	(void) status_type;
	values[0] = Int64GetDatum(row->id);
	/* One in doubt is looked for: see engine/settle.c. */
	nulls[1] = late->status != STATUS_UNCERTAIN || provider == NULL || provider->sent_list == NULL;
	values[1] = TimestampTzGetDatum(GetCurrentTimestamp());
}

/* Locks and reads messages whose time has passed into rows; returns how many they are. */
static int
find_late(const Datum *values, dlist_head *rows)
{
	int n = (int) sql_run(&cleanup_find_late, values);

	dlist_init(rows);
	for (int i = 0; i < n; i++)
	{
		Late *late = palloc0(sizeof(Late));

		late->row.id = sql_int64(i, LATE_ID);
		late->row.role = creator_read(i, LATE_CREATOR);
		late->row.once = true;
		late->status = sql_status(i, LATE_STATUS);
		namestrcpy(&late->gateway, sql_name(i, LATE_GATEWAY));
		dlist_push_tail(rows, &late->row.node);
	}
	sql_done();
	return n;
}

/*
 * Ends up to EXPIRE_AT_ONCE messages whose time has passed, and tells it.  Puts into *next when the next one's
 * passes, which is now if there are more.  Those that could not be ended are found again.
 */
void
cleanup_expire(TimestampTz now, TimestampTz *next)
{
	static const Writing writing = {
		.statement = &cleanup_update_late,
		.name = "late",
		.columns = late_columns,
		.ncolumns = lengthof(late_columns),
		.put = put_late,
	};
	Datum values[] = {TimestampTzGetDatum(now), Int64GetDatum(home_origin())};
	dlist_head rows;
	dlist_iter iter;
	int n = find_late(values, &rows);
	int ended = 0;
	bool put_off = false;

	if (n > 0)
		write_rows(&writing, &rows);
	dlist_foreach (iter, &rows)
	{
		const Late *late = dlist_container(Late, row.node, iter.cur);

		if (!late->row.recorded)
		{
			put_off = put_off || late->row.trouble_since == 0;
			continue;
		}
		ended++;
		event_tell(gateway_events(NameStr(late->gateway)), late->status, late->row.id, NameStr(late->gateway),
				   NULL);
	}
	*next = put_off || (n == EXPIRE_AT_ONCE && ended > 0) ? now : sql_find_time(&cleanup_next_late, values);
}

/*
 * Deletes messages, which the caller has locked, those of each creator together: triggers run as him, or not at all.
 * Returns false if some stay for that, as firing_delete() says; raises what triggers and foreign keys raise.
 */
bool
cleanup_delete(Old *olds, int n)
{
	Datum *ids = palloc(sizeof(Datum) * (n + 1));
	bool all = true;

	for (int i = 0; i < n; i++)
	{
		int count = 0;
		Datum array;
		Change change = {.statement = &cleanup_delete_page, .values = &array};

		for (int j = i; j < n && !olds[i].taken; j++)
		{
			if (olds[j].creator == olds[i].creator && !olds[j].taken)
				ids[count++] = Int64GetDatum(olds[j].id);
		}
		for (int j = n - 1; j >= i && count > 0; j--)
			olds[j].taken = olds[j].taken || olds[j].creator == olds[i].creator;
		if (count == 0)
			continue;
		array = sql_id_array(ids, count);
		all = firing_delete(&change, olds[i].creator) && all;
	}
	return all;
}

/*
 * Deletes messages that ended before a time: a page of so many behind "place", which is moved behind the page.
 * Returns false when there are no more, and then starts anew: those that could not be deleted may be free by then.
 * *tried is the page's end, also if that raises what a trigger or a foreign key of the user's raises.
 */
bool
cleanup_purge(TimestampTz before, int page, PurgePlace *place, PurgePlace *tried)
{
	TimestampTz undecided = GetCurrentTimestamp() - UNCERTAIN_DAYS * USECS_PER_DAY;
	Datum values[] = {
		TimestampTzGetDatum(place->ended_at), Int64GetDatum(place->id),
		TimestampTzGetDatum(before),          Int64GetDatum(page),
		TimestampTzGetDatum(undecided),
	};
	int n = (int) sql_run(&cleanup_find_page, values);
	Old *olds = palloc0(sizeof(Old) * (n + 1));

	for (int i = 0; i < n; i++)
	{
		tried->id = olds[i].id = sql_int64(i, PAGE_ID);
		tried->ended_at = sql_time(i, PAGE_ENDED_AT, 0);
		olds[i].creator = creator_read(i, PAGE_CREATOR);
	}
	sql_done();
	(void) cleanup_delete(olds, n);
	*place = n == page ? *tried : (PurgePlace){DT_NOBEGIN, 0};
	return n == page;
}

/* Runs a statement that deletes a page of what is from before a time; true if there may be more. */
static bool
purge_page(Statement *statement, TimestampTz before)
{
	Datum value = TimestampTzGetDatum(before);

	return sql_run(statement, &value) == PURGE_AT_ONCE;
}

/* Deletes reports whose time has passed, up to PURGE_AT_ONCE; true if there may be more. */
bool
cleanup_purge_reports(void)
{
	return purge_page(&cleanup_delete_reports, GetCurrentTimestamp() - REPORT_DAYS * USECS_PER_DAY);
}

/* The same of one-time passwords. */
bool
cleanup_purge_codes(void)
{
	return purge_page(&cleanup_delete_otp, GetCurrentTimestamp());
}

/* The same of counters, a day after their windows: no one-time password that they count for lives as long. */
bool
cleanup_purge_counters(void)
{
	TimestampTz before = GetCurrentTimestamp() - USECS_PER_DAY;
	Datum values[] = {TimestampTzGetDatum(before), (Datum) 0};
	int n = (int) sql_run(&cleanup_lock_usage, values);
	Datum *places = palloc(sizeof(Datum) * (n + 1));
	bool isnull;

	for (int i = 0; i < n; i++)
		places[i] = datumCopy(sql_datum(i, 0, &isnull), false, sizeof(ItemPointerData));
	sql_done();
	if (n == 0)
		return false;
	values[1] =
		PointerGetDatum(construct_array(places, n, TIDOID, sizeof(ItemPointerData), false, TYPALIGN_SHORT));
	sql_run(&cleanup_delete_usage, values);
	return n == PURGE_AT_ONCE;
}
