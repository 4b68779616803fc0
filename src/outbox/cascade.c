/*
 * cascade.c
 *		What else happens when messages are deleted.
 *
 * A foreign key of somebody's table to sms_outbox, with ON DELETE CASCADE or SET NULL, changes that table, and its
 * triggers are called: not as the table's owner, but as whoever deletes the message.  So these are as much
 * others' code as the triggers on sms_outbox itself; and so on, from table to table.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/sql.h"
#include "outbox/cascade.h"
#include "storage/lmgr.h"

/* The tables that change with a deleted message, theirs, and so on. */
#define CHANGED                                                                                              \
	"WITH RECURSIVE changed(rel) AS ("                                                                       \
	"SELECT c.conrelid FROM pg_constraint c WHERE c.contype = 'f' AND c.confrelid = $1 "                     \
	"AND c.confdeltype IN ('c', 'n', 'd') "                                                                  \
	"UNION SELECT x.rel FROM changed t, LATERAL ("                                                           \
	"SELECT c.conrelid FROM pg_constraint c WHERE c.contype = 'f' AND c.confrelid = t.rel "                  \
	"AND (c.confdeltype IN ('c', 'n', 'd') OR c.confupdtype IN ('c', 'n', 'd')) "                            \
	"UNION ALL SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = t.rel) x(rel)) "

static Statement cascade_find = {
	.sql = CHANGED "SELECT rel FROM changed ORDER BY rel",
	.args = {OIDOID},
};

/* As firing.c has it of the triggers on sms_outbox. */
static Statement cascade_find_untrusted = {
	.sql = CHANGED "SELECT 1 FROM changed t JOIN pg_trigger g ON g.tgrelid = t.rel "
				   "JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_roles r ON r.oid = p.proowner "
				   "WHERE NOT g.tgisinternal AND g.tgenabled <> 'D' "
				   "AND (g.tgnargs > 0 OR g.tgqual IS NOT NULL OR NOT r.rolsuper) LIMIT 1",
	.args = {OIDOID},
};

/* Locks the tables that change, so that nobody adds a trigger or a key meanwhile; returns how many they are. */
static int
lock_changed(Datum outbox)
{
	int n = (int) sql_run(&cascade_find, &outbox);
	Oid *tables = palloc(sizeof(Oid) * (n + 1));
	bool isnull;

	for (int i = 0; i < n; i++)
		tables[i] = DatumGetObjectId(sql_datum(i, 0, &isnull));
	sql_done();
	for (int i = 0; i < n; i++)
		LockRelationOid(tables[i], RowExclusiveLock);
	return n;
}

/*
 * Is no trigger called when a message is deleted, but those on sms_outbox itself, or only superusers'?  It stays so to the
 * end of the transaction.
 */
bool
cascade_is_trusted(void)
{
	Oid table = home_relation("sms_outbox");
	Datum outbox = ObjectIdGetDatum(table);
	int n;

	LockRelationOid(table, RowExclusiveLock);
	n = lock_changed(outbox);
	if (n == 0)
		return true;
	return lock_changed(outbox) == n && !sql_any(&cascade_find_untrusted, &outbox);
}
