/*
 * due.c
 *		Messages that wait to be tried again are due now: the gateway is said to be well.
 *
 * A queued message waits for its send_after, or, where that has passed, to be tried again.  Nothing has
 * happened to it, so nobody's triggers are called.
 *
 * It is looked at in pages, by the index of what becomes due when, from now on to where the longest back-off ends.
 * So the cost is in proportion to what becomes due within that time, however much is queued for later, and
 * in whatever priorities: a row is read of the gateway's own, an entry of the index is passed over of others'.  A
 * million take many short transactions.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/sql.h"
#include "outbox/due.h"
#include "outbox/firing.h"
#include "outbox/item.h"
#include "utils/array.h"
#include "utils/timestamp.h"

#define PAGE 500
#define LONGEST                                                                                              \
	(30 * INT64CONST(3600) * USECS_PER_SEC) /* sms_gateway.retry_max is a day at most, and a jitter */

/* Of one role, or of any (0); but not of some. */
#define OF_ROLES "($7 = 0 OR o.creator = $7) AND coalesce(o.creator, 0) <> ALL ($8)"

static Statement due_find_page = {
	.sql =
		"SELECT o.id, o.send_after <= $6 AND o.origin = $5 AND " OF_ROLES ", o.next_attempt_at, o.priority "
		"FROM @sms_outbox o "
		"WHERE o.status = 'queued' AND o.gateway = $1 "
		"AND (o.next_attempt_at, o.gateway, o.priority) > ($2, $1, $3) AND o.next_attempt_at <= $4 "
		"ORDER BY o.next_attempt_at, o.gateway, o.priority LIMIT " CppAsString2(PAGE),
	.args = {NAMEOID, TIMESTAMPTZOID, INT2OID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, OIDOID, OIDARRAYOID},
};

/* Of one time and priority: what was queued together may be more than a page. */
static Statement due_find_at_once = {
	.sql = "SELECT o.id, o.send_after <= $6 AND o.origin = $5 AND " OF_ROLES " FROM @sms_outbox o "
		   "WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $3 AND o.next_attempt_at = $2 "
		   "AND o.id > $4 ORDER BY o.next_attempt_at, o.id LIMIT " CppAsString2(PAGE),
	.args = {NAMEOID, TIMESTAMPTZOID, INT2OID, INT8OID, INT8OID, TIMESTAMPTZOID, OIDOID, OIDARRAYOID},
};
enum
{
	DUE_ID,
	DUE_WAITS, /* to be tried again */
	DUE_NEXT_ATTEMPT_AT,
	DUE_PRIORITY,
};

/* What somebody holds stays as it is; what is in our hands is not there. */
static Statement due_update = {
	.sql = "WITH page AS MATERIALIZED (SELECT o.id FROM @sms_outbox o "
		   "WHERE o.id OPERATOR(pg_catalog.=) ANY ($1) AND " IS_QUEUED " "
		   "AND o.next_attempt_at OPERATOR(pg_catalog.>) $2 AND NOT @sms_gateway_claimed(o.id) "
		   "FOR NO KEY UPDATE SKIP LOCKED) "
		   "UPDATE @sms_outbox o SET next_attempt_at = $2 FROM page p "
		   "WHERE o.id OPERATOR(pg_catalog.=) p.id",
	.args = {INT8ARRAYOID, TIMESTAMPTZOID},
};

/* Are two rows of a page of one time and priority? */
static bool
same_place(int a, int b)
{
	return sql_time(a, DUE_NEXT_ATTEMPT_AT, DT_NOEND) == sql_time(b, DUE_NEXT_ATTEMPT_AT, DT_NOEND) &&
		   sql_int16(a, DUE_PRIORITY) == sql_int16(b, DUE_PRIORITY);
}

/* Oids as an array, palloc'd. */
static Datum
oid_array(const List *oids)
{
	Datum *values = palloc(sizeof(Datum) * Max(list_length(oids), 1));
	ListCell *lc;
	int n = 0;

	foreach (lc, oids)
		values[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	return PointerGetDatum(construct_array(values, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/* Puts those of the first rows that wait to be tried again into ids; returns how many. */
static int
pick(int rows, Datum *ids)
{
	int n = 0;

	for (int i = 0; i < rows; i++)
	{
		if (sql_bool(i, DUE_WAITS))
			ids[n++] = Int64GetDatum(sql_int64(i, DUE_ID));
	}
	return n;
}

/* Reads a page of one time and priority, and moves the place; returns how many wait. */
static int
read_at_once(Datum *values, HurryPlace *place, Datum *ids)
{
	int rows;
	int n;

	values[3] = Int64GetDatum(place->id);
	rows = (int) sql_run(&due_find_at_once, values);
	n = pick(rows, ids);
	place->inside = rows == PAGE;
	if (place->inside)
		place->id = sql_int64(rows - 1, DUE_ID);
	sql_done();
	return n;
}

/*
 * Reads a page, and moves the place; returns how many wait.  The index does not tell those of one time and
 * priority apart: a page ends before such as may go on behind it.
 */
static int
read_page(Datum *values, HurryPlace *place, Datum *ids)
{
	int rows;
	int whole;
	int n;

	values[3] = TimestampTzGetDatum(place->until);
	rows = whole = (int) sql_run(&due_find_page, values);
	place->more = rows == PAGE;
	while (place->more && whole > 0 && same_place(whole - 1, rows - 1))
		whole--;
	place->inside = rows > 0 && whole == 0;
	place->id = 0;
	if (rows > 0)
	{
		int last = place->inside ? 0 : whole - 1;

		place->next_attempt_at = sql_time(last, DUE_NEXT_ATTEMPT_AT, DT_NOEND);
		place->priority = sql_int16(last, DUE_PRIORITY);
	}
	n = pick(whole, ids);
	sql_done();
	return n;
}

/*
 * Makes a page of those messages of a gateway due that wait to be tried again, and moves the place behind it; only a
 * role's, unless that is InvalidOid, and not those of others, a list of oids.
 * Returns false when there are no more.
 */
bool
due_page(const char *gateway, Oid role, const List *but, HurryPlace *place)
{
	TimestampTz now = GetCurrentTimestamp();
	NameData name;
	Datum values[8];
	Datum ids[PAGE];
	int n;

	if (place->until == 0)
		*place = (HurryPlace){.until = now + LONGEST, .next_attempt_at = now, .priority = PG_INT16_MAX};
	namestrcpy(&name, gateway);
	values[0] = NameGetDatum(&name);
	values[1] = TimestampTzGetDatum(place->next_attempt_at);
	values[2] = Int16GetDatum(place->priority);
	values[4] = Int64GetDatum(home_origin());
	values[5] = TimestampTzGetDatum(now);
	values[6] = ObjectIdGetDatum(role);
	values[7] = oid_array(but);
	n = place->inside ? read_at_once(values, place, ids) : read_page(values, place, ids);
	if (n > 0)
	{
		Datum change_values[] = {sql_id_array(ids, n), TimestampTzGetDatum(now)};
		Change change = {.statement = &due_update, .values = change_values};

		firing_run_unheard(&change);
	}
	return place->inside || place->more;
}
