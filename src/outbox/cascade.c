/*
 * cascade.c
 *		What else happens when messages are deleted.
 *
 * A foreign key of somebody's table to sms_outbox looks into that table, as the table's owner: so its functions run,
 * those of its constraints, columns, indexes and casts.  With ON DELETE CASCADE or SET NULL it changes that table, and its
 * triggers are called: not as the table's owner, but as whoever deletes the message.  All of these are as much
 * others' code as the triggers on sms_outbox itself; and so on, from table to table.
 *
 * That the former run as the table's owner is not enough: what they SET is there still when the next trigger runs.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/sql.h"
#include "outbox/cascade.h"
#include "storage/lmgr.h"

/* The tables that refer to messages, and whether they change with one that is deleted; then theirs, and so on. */
#define REACHED                                                                                              \
	"WITH RECURSIVE reached(rel, changed) AS ("                                                              \
	"SELECT c.conrelid, c.confdeltype IN ('c', 'n', 'd') FROM pg_constraint c "                              \
	"WHERE c.contype = 'f' AND c.confrelid = $1 "                                                            \
	"UNION SELECT x.rel, x.changed FROM reached t, LATERAL ("                                                \
	"SELECT c.conrelid, c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd') "               \
	"FROM pg_constraint c WHERE c.contype = 'f' AND c.confrelid = t.rel "                                    \
	"UNION ALL SELECT i.inhrelid, true FROM pg_inherits i WHERE i.inhparent = t.rel) x(rel, changed) "       \
	"WHERE t.changed) "

static Statement cascade_find = {
	.sql = REACHED "SELECT t.rel, t.changed FROM reached t ORDER BY t.rel, t.changed",
	.args = {OIDOID},
};

/* A table that is neither a superuser's nor the runner's; or triggers, as firing.c has it of those on sms_outbox. */
static Statement cascade_find_untrusted = {
	.sql = REACHED
	"SELECT 1 FROM reached t JOIN pg_class c ON c.oid = t.rel JOIN pg_roles r ON r.oid = c.relowner "
	"WHERE NOT r.rolsuper AND c.relowner <> $2 "
	"UNION ALL SELECT 1 FROM reached t JOIN pg_trigger g ON g.tgrelid = t.rel "
	"JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_roles r ON r.oid = p.proowner "
	"WHERE t.changed AND NOT g.tgisinternal AND g.tgenabled <> 'D' "
	"AND (g.tgnargs > 0 OR g.tgqual IS NOT NULL OR NOT r.rolsuper) LIMIT 1",
	.args = {OIDOID, OIDOID},
};

/*
 * Locks the tables, so that nobody takes one over meanwhile, or adds a trigger or a key to one that changes; returns how
 * many they are.
 */
static int
lock_reached(const Datum *outbox)
{
	int n = (int) sql_run(&cascade_find, outbox);
	Oid *tables = palloc(sizeof(Oid) * (n + 1));
	bool *changed = palloc(sizeof(bool) * (n + 1));
	bool isnull;

	for (int i = 0; i < n; i++)
	{
		tables[i] = DatumGetObjectId(sql_datum(i, 0, &isnull));
		changed[i] = sql_bool(i, 1);
	}
	sql_done();
	for (int i = 0; i < n; i++)
		LockRelationOid(tables[i], changed[i] ? RowExclusiveLock : AccessShareLock);
	return n;
}

/*
 * May messages be deleted as "runner": do all that this calls, but for the triggers on sms_outbox itself, belong to
 * superusers or to the runner?  It stays so to the end of the transaction.
 */
bool
cascade_is_trusted(Oid runner)
{
	Oid table = home_relation("sms_outbox");
	Datum values[] = {ObjectIdGetDatum(table), ObjectIdGetDatum(runner)};
	int n;

	LockRelationOid(table, RowExclusiveLock);
	n = lock_reached(values);
	if (n == 0)
		return true;
	return lock_reached(values) == n && !sql_any(&cascade_find_untrusted, values);
}
