/*
 * wake.c
 *		How a commit that queued messages wakes the worker, or has one started.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/resowner.h"
#include "wake/slot.h"
#include "wake/wake.h"

/* What this backend's transaction tells when it has committed. */
static struct
{
	bool registered;  /* the callbacks are; once in a process */
	WorkerSlot *slot; /* of this database; NULL: not known, or all are taken */
	bool wake;
	TimestampTz due; /* of the earliest message that was queued, if "wake" */
	bool start;
	bool sweep;
	bool committed; /* and nobody is told yet */
} pending;

/* Tells a worker that something is due, or asks for one.  Nothing here may fail: the transaction is committed. */
static void
wake_worker(WorkerSlot *slot, TimestampTz due)
{
	uint64 known = pg_atomic_read_u64(&slot->wake_due);
	uint32 worker;

	while ((int64) known > due && !pg_atomic_compare_exchange_u64(&slot->wake_due, &known, (uint64) due))
		;
	worker = pg_atomic_read_u32(&slot->worker);
	if (worker != 0)
		slot_set_latch(worker);
	else
		slot_want_worker(slot);
}

static void
on_commit_or_abort(XactEvent event, void *arg)
{
	(void) arg;
	if (event == XACT_EVENT_COMMIT)
		pending.committed = pending.wake || pending.start || pending.sweep;
	else if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		pending.wake = pending.start = pending.sweep = false;
}

/*
 * The transaction has committed, and its invalidation messages are sent and its locks
 * released: whoever is woken now sees all that it did.
 */
static void
on_locks_released(ResourceReleasePhase phase, bool commit, bool top, void *arg)
{
	(void) arg;
	if (!pending.committed || phase != RESOURCE_RELEASE_LOCKS || !commit || !top)
		return;
	if (pending.wake && pending.slot != NULL)
		wake_worker(pending.slot, pending.due);
	if (pending.start && pending.slot != NULL)
	{
		pg_atomic_write_u64(&pending.slot->not_before, 0);
		slot_want_worker(pending.slot);
		slot_set_latch(pg_atomic_read_u32(&slot_table->launcher));
	}
	if (pending.sweep)
		slot_want_sweep();
	pending.wake = pending.start = pending.sweep = pending.committed = false;
}

/* Has the callbacks called; false where no shared memory is, so that nobody can be told. */
static bool
hear_of_commits(void)
{
	if (slot_table == NULL)
		return false;
	if (!pending.registered)
	{
		RegisterXactCallback(on_commit_or_abort, NULL);
		RegisterResourceReleaseCallback(on_locks_released, NULL);
		pending.registered = true;
	}
	return true;
}

/* Finds this database's slot; false as hear_of_commits(). */
static bool
arm(void)
{
	if (!hear_of_commits())
		return false;
	if (pending.slot == NULL || pg_atomic_read_u32(&pending.slot->database) != MyDatabaseId)
		pending.slot = slot_of(MyDatabaseId);
	return true;
}

/* Has the worker look, once this transaction commits, for messages due from then on. */
void
wake_at_commit(TimestampTz due)
{
	if (pending.wake)
		pending.due = Min(pending.due, due);
	else if (arm())
	{
		pending.due = due;
		pending.wake = true;
	}
}

/* Is there a launcher, so that a worker will come? */
bool
wake_is_possible(void)
{
	return slot_table != NULL;
}

/* Has a worker started for this database once this transaction commits, whatever it was held for. */
void
wake_start_at_commit(void)
{
	pending.start = arm();
}

/* Has the launcher look at all databases once this transaction commits, which changes one. */
void
wake_sweep_at_commit(void)
{
	pending.sweep = hear_of_commits();
}
