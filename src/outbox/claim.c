/*
 * claim.c
 *		Claims messages that are due, lane by lane.
 *
 * A lane is the messages of one gateway and priority: one contiguous range of the index of due
 * messages.  Claiming locks and reads rows; what marks them as on their way is a lease
 * (lease.c), which the caller adds in the same transaction.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/sql.h"
#include "outbox/claim.h"
#include "outbox/lease.h"
#include "outbox/pause.h"
#include "utils/array.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define PLACES 200 /* read at once */

/*
 * From the last due one back: what was queued just now is found at once, however much waits since
 * long ago, and of what was queued together the highest priority comes first.
 */
static Statement due_places = {
	.sql = "SELECT o.next_attempt_at, o.gateway, o.priority FROM @sms_outbox o "
		   "WHERE o.status = 'queued' AND (o.next_attempt_at, o.gateway, o.priority) < ($1, $2, $3) "
		   "AND o.next_attempt_at > $4 "
		   "ORDER BY o.next_attempt_at DESC, o.gateway DESC, o.priority DESC LIMIT $5",
	.args = {TIMESTAMPTZOID, NAMEOID, INT2OID, TIMESTAMPTZOID, INT8OID},
};
enum
{
	PLACE_DUE,
	PLACE_GATEWAY,
	PLACE_PRIORITY
};

static Statement next_due = {
	.sql = "SELECT o.next_attempt_at FROM @sms_outbox o WHERE o.status = 'queued' "
		   "AND o.next_attempt_at > $1 ORDER BY o.next_attempt_at, o.gateway, o.priority LIMIT 1",
	.args = {TIMESTAMPTZOID},
};

static Statement next_gateway = {
	.sql =
		"SELECT o.gateway FROM @sms_outbox o WHERE o.status = 'queued' AND o.gateway > $1 AND o.gateway < $2 "
		"ORDER BY o.gateway, o.priority LIMIT 1",
	.args = {NAMEOID, NAMEOID},
};
enum
{
	NEXT_GATEWAY
};

/* Each priority by one look into the index, and by another whether anything of it is due. */
static Statement priorities_between = {
	.sql = "WITH RECURSIVE lane(priority) AS ("
		   "(SELECT o.priority FROM @sms_outbox o "
		   "WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority < $2 AND o.priority > $3 "
		   "ORDER BY o.priority DESC LIMIT 1) "
		   "UNION ALL SELECT lower.priority FROM lane l, LATERAL (SELECT o.priority FROM @sms_outbox o "
		   "WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority < l.priority AND o.priority > $3 "
		   "ORDER BY o.priority DESC LIMIT 1) lower) "
		   "SELECT l.priority, (SELECT o.next_attempt_at FROM @sms_outbox o "
		   "WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = l.priority "
		   "AND o.next_attempt_at <= $4 ORDER BY o.next_attempt_at, o.id LIMIT 1) "
		   "FROM lane l LIMIT $5",
	.args = {NAMEOID, INT4OID, INT4OID, TIMESTAMPTZOID, INT8OID},
};
enum
{
	BETWEEN_PRIORITY,
	BETWEEN_DUE
};

/*
 * sms_gateway_claimed() keeps out what this engine has in its hands already: rows whose lane is looked
 * at anew from the start.  It is a function, not an array of ids: it is asked only of rows that are about
 * to be locked, by a look-up in the engine's hash table, while an array of all that is in flight, thousands,
 * would be built for each claim and searched for each row.  It reads what the process holds and no
 * table, so the plan does not depend on it.
 */
#define DUE_MESSAGES(condition)                                                                              \
	"SELECT " ITEM_COLUMNS " FROM @sms_outbox o "                                                            \
	"WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $2 "                                      \
	"AND (o.next_attempt_at, o.id) > ($3, $4) AND o.next_attempt_at <= $5 "                                  \
	"AND o.origin = $6 " condition "AND NOT @sms_gateway_claimed(o.id) "                                     \
	"ORDER BY o.next_attempt_at, o.id LIMIT $7 FOR NO KEY UPDATE OF o SKIP LOCKED"

static Statement due_messages = {
	.sql = DUE_MESSAGES(""),
	.args = {NAMEOID, INT2OID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID},
};

static Statement due_of_roles = {
	.sql = DUE_MESSAGES("AND o.creator = ANY ($8) "),
	.args = {NAMEOID, INT2OID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, OIDARRAYOID},
};

static Statement due_of_others = {
	.sql = DUE_MESSAGES("AND coalesce(o.creator, 0) <> ALL ($8) "),
	.args = {NAMEOID, INT2OID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID, OIDARRAYOID},
};

/* Of this database's own: nobody sends here what a logical subscription brought. */
static Statement any_due = {
	.sql = "SELECT 1 FROM @sms_outbox o "
		   "WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $2 "
		   "AND o.next_attempt_at <= $3 AND o.origin = $4 ORDER BY o.next_attempt_at, o.id LIMIT 1",
	.args = {NAMEOID, INT2OID, TIMESTAMPTZOID, INT8OID},
};

static Statement any_unlocked = {
	.sql = "SELECT 1 FROM @sms_outbox o "
		   "WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $2 "
		   "AND o.next_attempt_at <= $3 AND o.origin = $4 ORDER BY o.next_attempt_at, o.id LIMIT 1 "
		   "FOR SHARE OF o SKIP LOCKED",
	.args = {NAMEOID, INT2OID, TIMESTAMPTZOID, INT8OID},
};

/* Makes a place that all others, due by a time, are before: no name sorts after this. */
void
claim_after_all(DuePlace *place, TimestampTz due)
{
	place->due = due;
	memset(&place->gateway, 0xFF, sizeof(place->gateway));
	NameStr(place->gateway)[NAMEDATALEN - 1] = '\0';
	place->priority = PG_INT16_MAX;
}

/* What claim_find_due() does; "latest": as of now, and not as of the caller's snapshot. */
static int
find_due(const DuePlace *before, TimestampTz after, DuePlace *found, int limit, bool latest)
{
	Datum values[] = {
		TimestampTzGetDatum(before->due), NameGetDatum(&before->gateway), Int16GetDatum(before->priority),
		TimestampTzGetDatum(after),       Int64GetDatum(limit),
	};
	int n = (int) (latest ? sql_read_latest(&due_places, values) : sql_run(&due_places, values));

	for (int i = 0; i < n; i++)
	{
		found[i].due = sql_time(i, PLACE_DUE, DT_NOEND);
		namestrcpy(&found[i].gateway, sql_name(i, PLACE_GATEWAY));
		found[i].priority = sql_int16(i, PLACE_PRIORITY);
	}
	sql_done();
	return n;
}

/*
 * Finds up to limit queued messages from before a place back to a time: puts where they are, the last
 * first, into found, which may have the same place several times.  Returns how many.
 */
int
claim_find_due(const DuePlace *before, TimestampTz after, DuePlace *found, int limit)
{
	return find_due(before, after, found, limit, false);
}

/* When the next message is due that is not now; DT_NOEND if there is none. */
TimestampTz
claim_next_due(TimestampTz now)
{
	Datum values[] = {TimestampTzGetDatum(now)};

	return sql_find_time(&next_due, values);
}

/* Finds the first gateway with queued messages after *gateway and before another; false if there is none. */
bool
claim_next_gateway(NameData *gateway, const NameData *before)
{
	Datum values[] = {NameGetDatum(gateway), NameGetDatum(before)};
	bool found = sql_run(&next_gateway, values) > 0;

	if (found)
		namestrcpy(gateway, sql_name(0, NEXT_GATEWAY));
	sql_done();
	return found;
}

/*
 * Finds up to limit priorities of a gateway's queued messages between two others, the highest
 * first.  Returns how many.
 */
int
claim_find_priorities(const NameData *gateway, int below, int above, TimestampTz now, FoundPriority *found,
					  int limit)
{
	Datum values[] = {
		NameGetDatum(gateway),    Int32GetDatum(below), Int32GetDatum(above),
		TimestampTzGetDatum(now), Int64GetDatum(limit),
	};
	int n = (int) sql_run(&priorities_between, values);

	for (int i = 0; i < n; i++)
	{
		found[i].priority = sql_int16(i, BETWEEN_PRIORITY);
		found[i].due = sql_time(i, BETWEEN_DUE, DT_NOEND);
	}
	sql_done();
	return n;
}

/*
 * Locks and reads up to limit due messages of a lane, in order, as a list of OutboxItems; the
 * lane's bounds are not moved, as the transaction may yet fail.  Each message lives in
 * a context below parent, until item_free().
 */
List *
claim_due(const NameData *gateway, const Lane *lane, int limit, TimestampTz now, MemoryContext parent)
{
	Datum values[] = {
		NameGetDatum(gateway),         Int16GetDatum(lane->priority), TimestampTzGetDatum(lane->after_due),
		Int64GetDatum(lane->after_id), TimestampTzGetDatum(now),      Int64GetDatum(home_origin()),
		Int64GetDatum(limit),
	};

	return item_read_all(sql_run(&due_messages, values), false, parent);
}

/* The same, of messages of roles, a list of oids; or, behind where the lane was passed, of all others. */
List *
claim_due_of(const NameData *gateway, const Lane *lane, const List *roles, bool others, int limit,
			 TimestampTz now, MemoryContext parent)
{
	bool passed = others && (lane->passed_due > lane->after_due ||
							 (lane->passed_due == lane->after_due && lane->passed_id > lane->after_id));
	Datum *oids = palloc(sizeof(Datum) * list_length(roles));
	int noids = 0;
	Datum values[] = {
		NameGetDatum(gateway),
		Int16GetDatum(lane->priority),
		TimestampTzGetDatum(passed ? lane->passed_due : lane->after_due),
		Int64GetDatum(passed ? lane->passed_id : lane->after_id),
		TimestampTzGetDatum(now),
		Int64GetDatum(home_origin()),
		Int64GetDatum(limit),
		(Datum) 0,
	};
	ListCell *lc;

	foreach (lc, roles)
		oids[noids++] = ObjectIdGetDatum(lfirst_oid(lc));
	values[7] = PointerGetDatum(construct_array(oids, noids, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
	return item_read_all(sql_run(others ? &due_of_others : &due_of_roles, values), false, parent);
}

/* Is a message due here, as of now; "unlocked": and not locked, as of the caller's snapshot? */
static bool
place_has(const DuePlace *place, TimestampTz now, bool unlocked)
{
	Datum values[] = {
		NameGetDatum(&place->gateway),
		Int16GetDatum(place->priority),
		TimestampTzGetDatum(now),
		Int64GetDatum(home_origin()),
	};
	bool any;

	if (unlocked)
		return sql_any(&any_unlocked, values);
	any = sql_read_latest(&any_due, values) > 0;
	sql_done();
	return any;
}

/*
 * Is no message due or on its way, as far as is committed?  Those of paused
 * gateways can be left out of account, and those that another transaction has
 * locked; telling the latter needs row locks of our own, which last until the
 * transaction ends.
 */
bool
claim_is_idle(bool but_paused, bool but_locked)
{
	TimestampTz now = GetCurrentTimestamp();
	DuePlace last;
	DuePlace *found = palloc(sizeof(DuePlace) * PLACES);
	int n;

	/* The cheap question first: the other walks over what an old snapshot keeps. */
	if (lease_any())
		return false;
	claim_after_all(&last, now);
	do
	{
		n = find_due(&last, DT_NOBEGIN, found, PLACES, true);
		for (int i = 0; i < n; i++)
		{
			DuePlace *place = &found[i];

			if (place->priority == last.priority && namestrcmp(&place->gateway, NameStr(last.gateway)) == 0)
				continue;
			if (place_has(place, now, false) && !(but_paused && pause_holds(NameStr(place->gateway))) &&
				!(but_locked && !place_has(place, now, true)))
				return false;
			last = *place;
		}
		if (n > 0)
			last = found[n - 1];
	} while (n == PLACES);
	return true;
}
