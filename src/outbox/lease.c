/*
 * lease.c
 *		Leases: which messages are on their way.
 *
 * A message is claimed by a row in sms_gateway_lease that names its id, not by a
 * change of its own row: one insert for hundreds of messages.  A message is "on
 * its way" while its status is queued and a lease taken after it was due names it.
 * Only one engine drains a database at a time (engine.c), so whoever starts
 * draining knows that every lease it finds belongs to nobody.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/sql.h"
#include "outbox/item.h"
#include "outbox/lease.h"
#include "utils/timestamp.h"

static Statement lease_insert = {
	.sql = "INSERT INTO @sms_gateway_lease (ids, claimed_at) VALUES ($1, $2) RETURNING id",
	.args = {INT8ARRAYOID, TIMESTAMPTZOID},
};
enum
{
	LEASE_ID
};

static Statement lease_delete = {
	.sql = "DELETE FROM @sms_gateway_lease WHERE id = $1",
	.args = {INT8OID},
};

static Statement lease_update = {
	.sql = "UPDATE @sms_gateway_lease SET ids = $2 WHERE id = $1",
	.args = {INT8OID, INT8ARRAYOID},
};

static Statement lease_delete_old = {
	.sql = "DELETE FROM @sms_gateway_lease WHERE id <= $1",
	.args = {INT8OID},
};

static Statement lease_find_newest = {
	.sql = "SELECT id FROM @sms_gateway_lease ORDER BY id DESC LIMIT 1",
};

static Statement lease_find_any = {
	.sql = "SELECT 1 FROM @sms_gateway_lease LIMIT 1",
};

/*
 * They are queued, by what item.h says of a next attempt.  A subquery that locks rows is planned on its
 * own: so each id of a lease is looked up, whatever the statistics say.
 */
static Statement lease_find_orphans = {
	.sql = "SELECT " ITEM_COLUMNS ", l.claimed_at "
		   "FROM @sms_gateway_lease l, unnest(l.ids) AS u(id), "
		   "LATERAL (SELECT * FROM @sms_outbox x WHERE x.id = u.id AND x.next_attempt_at <= l.claimed_at "
		   "AND x.origin = $1 FOR NO KEY UPDATE SKIP LOCKED) o WHERE l.id <= $2",
	.args = {INT8OID, INT8OID},
};

/* The same without locking them; OFFSET 0 has the subquery planned on its own. */
static Statement lease_find_doubtful = {
	.sql = "SELECT o.id, l.id, l.claimed_at FROM @sms_gateway_lease l, unnest(l.ids) AS u(id), "
		   "LATERAL (SELECT x.id FROM @sms_outbox x WHERE x.id = u.id AND x.next_attempt_at <= l.claimed_at "
		   "AND x.origin = $1 OFFSET 0) o WHERE l.id <= $2",
	.args = {INT8OID, INT8OID},
};
enum
{
	DOUBTFUL_ID,
	DOUBTFUL_LEASE,
	DOUBTFUL_CLAIMED_AT
};

static Statement lease_find_last = {
	.sql = "SELECT l.claimed_at, o.next_attempt_at <= l.claimed_at FROM @sms_gateway_lease l, "
		   "@sms_outbox o WHERE o.id = $1 AND o.id = ANY (l.ids) ORDER BY l.claimed_at DESC LIMIT 1",
	.args = {INT8OID},
};
enum
{
	LAST_CLAIMED_AT,
	LAST_ON_ITS_WAY
};

/* Its subquery is planned on its own, as above. */
static Statement lease_find_to = {
	.sql = "SELECT o.id FROM @sms_gateway_lease l, unnest(l.ids) AS u(id), "
		   "LATERAL (SELECT x.id FROM @sms_outbox x WHERE x.id = u.id AND x.next_attempt_at <= l.claimed_at "
		   "AND x.phone = ANY ($1) OFFSET 0) o",
	.args = {TEXTARRAYOID},
};

/* Notes that these messages, OutboxItems, are on their way from now on.  Returns the lease's id. */
int64
lease_add(const List *items, TimestampTz now)
{
	Datum *ids = palloc(sizeof(Datum) * list_length(items));
	Datum values[2];
	int n = 0;
	ListCell *lc;
	int64 lease;

	foreach (lc, items)
		ids[n++] = Int64GetDatum(((const OutboxItem *) lfirst(lc))->row.id);
	values[0] = sql_id_array(ids, n);
	values[1] = TimestampTzGetDatum(now);
	sql_run(&lease_insert, values);
	lease = sql_int64(0, LEASE_ID);
	sql_done();
	return lease;
}

/* Forgets a lease, all of whose messages are settled. */
void
lease_drop(int64 lease)
{
	Datum values[] = {Int64GetDatum(lease)};

	sql_run(&lease_delete, values);
}

/* Names anew the messages of a lease, as some of them went back to the queue. */
void
lease_set(int64 lease, const Datum *ids, int n)
{
	Datum values[] = {Int64GetDatum(lease), sql_id_array(ids, n)};

	sql_run(&lease_update, values);
}

/* Forgets every lease up to one: for who drains alone, and has settled what they named. */
void
lease_clear(int64 up_to)
{
	Datum values[] = {Int64GetDatum(up_to)};

	sql_run(&lease_delete_old, values);
}

/* The lease that was taken last; 0 if there is none. */
int64
lease_newest(void)
{
	int64 newest = sql_run(&lease_find_newest, NULL) > 0 ? sql_int64(0, LEASE_ID) : 0;

	sql_done();
	return newest;
}

/* Is any message on its way, as of now and not as of the caller's snapshot? */
bool
lease_any(void)
{
	bool any = sql_read_latest(&lease_find_any, NULL) > 0;

	sql_done();
	return any;
}

/*
 * Locks and reads the messages that were on their way, by the leases up to one, in an engine that is gone, but for
 * those that somebody else has locked: as a list of OutboxItems.  Each lives in a context below parent, until
 * item_free().
 */
List *
lease_orphans(int64 up_to, MemoryContext parent)
{
	Datum values[] = {Int64GetDatum(home_origin()), Int64GetDatum(up_to)};

	return item_read_all(sql_run(&lease_find_orphans, values), true, parent);
}

/* Puts all such messages into *doubts, palloc'd; returns how many they are. */
int
lease_doubtful(int64 up_to, Doubt **doubts)
{
	Datum values[] = {Int64GetDatum(home_origin()), Int64GetDatum(up_to)};
	int n = (int) sql_run(&lease_find_doubtful, values);

	*doubts = palloc(sizeof(Doubt) * (n + 1));
	for (int i = 0; i < n; i++)
		(*doubts)[i] = (Doubt){
			.id = sql_int64(i, DOUBTFUL_ID),
			.lease = sql_int64(i, DOUBTFUL_LEASE),
			.claimed_at = sql_time(i, DOUBTFUL_CLAIMED_AT, 0),
		};
	sql_done();
	return n;
}

/*
 * When the last lease that names a message was taken, as of now and not as of the caller's
 * snapshot: 0 if none does.  Sets *on_its_way if the message is being sent under it.
 */
TimestampTz
lease_last(int64 id, bool *on_its_way)
{
	Datum values[] = {Int64GetDatum(id)};
	TimestampTz claimed_at = 0;

	*on_its_way = false;
	if (sql_read_latest(&lease_find_last, values) > 0)
	{
		claimed_at = sql_time(0, LAST_CLAIMED_AT, 0);
		*on_its_way = sql_bool(0, LAST_ON_ITS_WAY);
	}
	sql_done();
	return claimed_at;
}

/*
 * How many messages to some phones, a text[], are on their way, as of now; *first is one of them.  Those of an engine
 * that is gone count, too, until another one has settled them.
 */
int
lease_count_to(Datum phones, int64 *first)
{
	int n = (int) sql_read_latest(&lease_find_to, &phones);

	*first = n > 0 ? sql_int64(0, LEASE_ID) : 0;
	sql_done();
	return n;
}
