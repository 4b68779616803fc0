/*
 * lock.c
 *		Tables that somebody may have locked.
 */
#include "postgres.h"

#include "base/compat.h"
#include "db/lock.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"

#define TRIES 10 /* 1 ms apart: VACUUM takes the whole table for a moment */

/* The process that keeps a lock on a table from us; 0: a prepared transaction, or it only waits for one. */
static int
holder(Oid table, LOCKMODE mode)
{
	LOCKTAG tag;
	VirtualTransactionId *holders;
	int n;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, table);
	holders = GetLockConflicts(&tag, mode, &n);
	return n > 0 ? compat_pid_of(holders[0]) : 0;
}

/* Locks a table until the transaction ends.  Raises 55P03, which says who has it, rather than wait. */
void
lock_table(Oid table, const char *name, LOCKMODE mode)
{
	int pid;

	for (int i = 0; i < TRIES; i++)
	{
		if (ConditionalLockRelationOid(table, mode))
			return;
		pg_usleep(1000);
	}
	pid = holder(table, mode);
	ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					pid != 0 ? errmsg("table \"%s\" is locked by process %d", name, pid)
							 : errmsg("table \"%s\" is locked", name),
					errdetail("No message is sent or recorded until that ends.")));
}
