/*
 * sole.c
 *		One engine for a database.
 *
 * Its lock is an advisory lock of a class of its own, so pg_advisory_lock() cannot take it.  It is the session's, as
 * it outlives transactions.  But triggers of users' run in ours, and one that calls pg_advisory_unlock_all() gives away
 * all that a session holds.  So a transaction in which they may run holds the lock as well, which that leaves alone,
 * and the session's is taken again before the transaction ends.  Their modes differ, as the server tells only by mode
 * what is held.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/extension.h"
#include "engine/sole.h"
#include "miscadmin.h"
#include "storage/lock.h"

#define ENGINE_LOCK_KEY 0x736D7367 /* "smsg" */

/* Each keeps all others out. */
#define SESSIONS_MODE     ExclusiveLock
#define TRANSACTIONS_MODE AccessExclusiveLock

static void
set_tag(LOCKTAG *tag)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, ENGINE_LOCK_KEY, 1, OUR_LOCK_CLASS);
}

/*
 * Takes the lock of this database's engine, beyond the transaction's end, until engine_unlock().  Returns false if another
 * process has it, and it is not to be waited for.
 */
bool
engine_lock(bool wait)
{
	LOCKTAG tag;

	set_tag(&tag);
	return LockAcquire(&tag, SESSIONS_MODE, true, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

/* Releases what engine_lock() took. */
void
engine_unlock(void)
{
	LOCKTAG tag;

	set_tag(&tag);
	LockRelease(&tag, SESSIONS_MODE, true);
}

/* At the begin of a transaction of the engine's: what it holds, triggers cannot give away. */
void
engine_lock_in_transaction(void)
{
	LOCKTAG tag;

	set_tag(&tag);
	LockAcquire(&tag, TRANSACTIONS_MODE, false, false);
}

/*
 * At the end of such a transaction: takes the session's lock again, if it was given away.  After an abort somebody
 * else may have it by then, who takes this engine for dead: it ends (FATAL).
 */
void
engine_lock_again(void)
{
	LOCKTAG tag;

	set_tag(&tag);
	if (compat_lock_held(&tag, SESSIONS_MODE))
		return;
	if (!engine_lock(false))
		ereport(FATAL,
				(errcode(ERRCODE_OBJECT_IN_USE), errmsg("another process drains the outbox of this database"),
				 errdetail("A trigger on sms_outbox has called pg_advisory_unlock_all().")));
}
