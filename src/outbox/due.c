/*
 * due.c
 *		Messages that wait to be tried again are due now: the gateway is said to be well.
 *
 * A queued message waits for its send_after, or, where that has passed, to be tried again.  Nothing has
 * happened to it, so nobody's triggers are called.  It is looked at in pages, by the index of due messages, so
 * that a million take many short transactions.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/sql.h"
#include "outbox/due.h"
#include "outbox/firing.h"
#include "outbox/item.h"
#include "utils/timestamp.h"

#define PAGE       500
#define PRIORITIES 50 /* without a message that waits, in one page */

static Statement due_next_priority = {
	.sql = "SELECT o.priority FROM @sms_outbox o "
		   "WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority > $2 ORDER BY o.priority LIMIT 1",
	.args = {NAMEOID, INT4OID},
};

static Statement due_find_page = {
	.sql = "SELECT o.id, o.next_attempt_at, o.send_after <= $6 AND o.origin = $5 FROM @sms_outbox o "
		   "WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $2 "
		   "AND (o.next_attempt_at, o.id) > ($3, $4) "
		   "ORDER BY o.next_attempt_at, o.id LIMIT " CppAsString2(PAGE),
	.args = {NAMEOID, INT2OID, TIMESTAMPTZOID, INT8OID, INT8OID, TIMESTAMPTZOID},
};
enum
{
	DUE_ID,
	DUE_NEXT_ATTEMPT_AT,
	DUE_WAITS, /* to be tried again */
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

/* Goes on to the next priority; false if there is none. */
static bool
next_priority_of(const char *gateway, HurryPlace *place, TimestampTz now)
{
	NameData name;
	Datum values[2];
	bool found;

	namestrcpy(&name, gateway);
	values[0] = NameGetDatum(&name);
	values[1] = Int32GetDatum(place->priority);
	found = sql_run(&due_next_priority, values) > 0;
	if (found)
		*place = (HurryPlace){.priority = sql_int16(0, 0), .inside = true, .next_attempt_at = now};
	sql_done();
	return found;
}

/* Reads a page of a priority: those that wait to be tried again into *ids; returns how many it has read. */
static int
read_page(const char *gateway, HurryPlace *place, TimestampTz now, Datum *ids, int *n)
{
	NameData name;
	Datum values[] = {
		NameGetDatum(&name),      Int16GetDatum(place->priority), TimestampTzGetDatum(place->next_attempt_at),
		Int64GetDatum(place->id), Int64GetDatum(home_origin()),   TimestampTzGetDatum(now)};
	int read;

	namestrcpy(&name, gateway);
	read = (int) sql_run(&due_find_page, values);
	for (int i = 0; i < read; i++)
	{
		place->id = sql_int64(i, DUE_ID);
		place->next_attempt_at = sql_time(i, DUE_NEXT_ATTEMPT_AT, DT_NOEND);
		if (sql_bool(i, DUE_WAITS))
			ids[(*n)++] = Int64GetDatum(place->id);
	}
	sql_done();
	place->inside = read == PAGE;
	return read;
}

/*
 * Makes a page of those messages of a gateway due that wait to be tried again, and moves the place behind it.
 * Returns false when there are no more.
 */
bool
due_page(const char *gateway, HurryPlace *place)
{
	TimestampTz now = GetCurrentTimestamp();
	Datum ids[PAGE];
	int n = 0;
	int read = 0;

	for (int i = 0; read == 0; i++)
	{
		if (i == PRIORITIES)
			return true;
		if (!place->inside && !next_priority_of(gateway, place, now))
			return false;
		read = read_page(gateway, place, now, ids, &n);
	}
	if (n > 0)
	{
		Datum values[] = {sql_id_array(ids, n), TimestampTzGetDatum(now)};
		Change change = {.statement = &due_update, .values = values};

		firing_run_unheard(&change);
	}
	return true;
}
