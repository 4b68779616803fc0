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
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static Statement lane_next = {
	.sql = "SELECT o.gateway, o.priority FROM @sms_outbox o "
		   "WHERE o.status = 'queued' AND (o.gateway, o.priority) > ($1, $2) "
		   "AND (o.gateway, o.priority) < ($3, $4) "
		   "ORDER BY o.gateway, o.priority LIMIT 1",
	.args = {NAMEOID, INT2OID, NAMEOID, INT2OID},
};
enum
{
	LANE_GATEWAY,
	LANE_PRIORITY
};

/*
 * sms_gateway_claimed() keeps out what this engine has in its hands already: rows whose lane is looked
 * at anew from the start.  It is a function, not an array of ids: it is asked only of rows that are about
 * to be locked, by a look-up in the engine's hash table, while an array of all that is in flight, thousands,
 * would be built for each claim and searched for each row.  It reads what the process holds and no
 * table, so the plan does not depend on it.
 */
static Statement due_messages = {
	.sql = "SELECT " ITEM_COLUMNS " FROM @sms_outbox o "
		   "WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $2 "
		   "AND (o.next_attempt_at, o.id) > ($3, $4) AND o.next_attempt_at <= $5 "
		   "AND o.origin = $6 AND NOT @sms_gateway_claimed(o.id) "
		   "ORDER BY o.next_attempt_at, o.id LIMIT $7 FOR NO KEY UPDATE OF o SKIP LOCKED",
	.args = {NAMEOID, INT2OID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID},
};

static Statement lane_next_due = {
	.sql = "SELECT o.next_attempt_at FROM @sms_outbox o "
		   "WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $2 "
		   "AND o.next_attempt_at > $3 ORDER BY o.next_attempt_at LIMIT 1",
	.args = {NAMEOID, INT2OID, TIMESTAMPTZOID},
};

/* Of this database's own: nobody sends here what a logical subscription brought. */
static Statement any_due = {
	.sql = "SELECT 1 FROM @sms_outbox o "
		   "WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $2 "
		   "AND o.next_attempt_at <= $3 AND o.origin = $4 LIMIT 1",
	.args = {NAMEOID, INT2OID, TIMESTAMPTZOID, INT8OID},
};

static Statement lane_any_free = {
	.sql = "SELECT 1 FROM @sms_outbox o "
		   "WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $2 "
		   "AND o.next_attempt_at <= $3 AND o.origin = $4 LIMIT 1 FOR SHARE OF o SKIP LOCKED",
	.args = {NAMEOID, INT2OID, TIMESTAMPTZOID, INT8OID},
};

/* Makes a bound that every lane is before: no name sorts after this. */
void
claim_lane_end(LaneKey *end)
{
	memset(end, 0xFF, sizeof(*end));
	NameStr(end->gateway)[NAMEDATALEN - 1] = '\0';
}

/* What claim_next_lane() does; "latest": as of now, and not as of the caller's snapshot. */
static bool
next_lane(LaneKey *lane, const LaneKey *end, bool latest)
{
	Datum values[] = {
		NameGetDatum(&lane->gateway),
		Int16GetDatum(lane->priority),
		NameGetDatum(&end->gateway),
		Int16GetDatum(end->priority),
	};
	bool found = (latest ? sql_read_latest(&lane_next, values) : sql_run(&lane_next, values)) > 0;

	if (found)
	{
		namestrcpy(&lane->gateway, sql_name(0, LANE_GATEWAY));
		lane->priority = sql_int16(0, LANE_PRIORITY);
	}
	sql_done();
	return found;
}

/*
 * Finds the first lane with queued messages after *lane and before *end, and
 * puts it into *lane; false if there is none.
 */
bool
claim_next_lane(LaneKey *lane, const LaneKey *end)
{
	return next_lane(lane, end, false);
}

/*
 * Locks and reads up to limit due messages of a lane, in order, as a list of OutboxItems; the
 * lane's bounds are not moved, as the transaction may yet fail.  Each message lives in
 * a context below parent, until item_free().
 */
List *
claim_due(const Lane *lane, int limit, TimestampTz now, MemoryContext parent)
{
	Datum values[] = {
		NameGetDatum(&lane->gateway),  Int16GetDatum(lane->priority), TimestampTzGetDatum(lane->after_due),
		Int64GetDatum(lane->after_id), TimestampTzGetDatum(now),      Int64GetDatum(home_origin()),
		Int64GetDatum(limit),
	};

	return item_read_all(sql_run(&due_messages, values), false, parent);
}

/* When the next message of a lane is due; DT_NOEND if none waits. */
TimestampTz
claim_lane_due(const Lane *lane, TimestampTz now)
{
	Datum values[] = {
		NameGetDatum(&lane->gateway),
		Int16GetDatum(lane->priority),
		TimestampTzGetDatum(now),
	};

	return sql_find_time(&lane_next_due, values);
}

/* Is a message of this lane due, as of now; "unlocked": and not locked, as of the caller's snapshot? */
static bool
lane_has(const LaneKey *lane, TimestampTz now, bool unlocked)
{
	Datum values[] = {
		NameGetDatum(&lane->gateway),
		Int16GetDatum(lane->priority),
		TimestampTzGetDatum(now),
		Int64GetDatum(home_origin()),
	};
	bool any;

	if (unlocked)
		return sql_any(&lane_any_free, values);
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
	LaneKey lane = {{{0}}, PG_INT16_MIN};
	LaneKey end;
	bool idle;
	TimestampTz now = GetCurrentTimestamp();

	claim_lane_end(&end);
	/* The cheap question first: the other walks over what an old snapshot keeps. */
	idle = !lease_any();
	while (idle && next_lane(&lane, &end, true))
		idle = !lane_has(&lane, now, false) || (but_paused && pause_holds(NameStr(lane.gateway))) ||
			   (but_locked && !lane_has(&lane, now, true));
	return idle;
}
