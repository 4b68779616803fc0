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

/* Of this backend's transaction. */
static bool callback_registered = false;
static WorkerSlot *my_slot = NULL;
static bool wake_armed = false;
static bool start_armed = false;
static bool committed = false; /* and not told yet */
static TimestampTz armed_due;

/* Nothing here may fail: the transaction is committed already. */
static void
wake_worker(WorkerSlot *slot, TimestampTz due)
{
	uint64 known = pg_atomic_read_u64(&slot->wake_due);
	uint32 worker;

	while ((int64) known > due && !pg_atomic_compare_exchange_u64(&slot->wake_due, &known, (uint64) due))
		;
	worker = pg_atomic_read_u32(&slot->worker);
	if (worker != 0)
		set_latch_of(worker);
	else
		want_worker(slot);
}

static void
on_transaction_end(XactEvent event, void *arg)
{
	(void) arg;
	if (event == XACT_EVENT_COMMIT)
		committed = wake_armed || start_armed;
	else if (event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		wake_armed = start_armed = false;
}

/*
 * The transaction has committed, and its invalidation messages are sent and its locks
 * released: whoever is woken now sees all that it did.
 */
static void
on_locks_released(ResourceReleasePhase phase, bool commit, bool top, void *arg)
{
	(void) arg;
	if (!committed || phase != RESOURCE_RELEASE_LOCKS || !commit || !top)
		return;
	if (wake_armed && my_slot != NULL)
		wake_worker(my_slot, armed_due);
	if (start_armed && my_slot != NULL)
	{
		pg_atomic_write_u64(&my_slot->not_before, 0);
		want_worker(my_slot);
		set_latch_of(pg_atomic_read_u32(&shared->launcher));
	}
	wake_armed = start_armed = committed = false;
}

static bool
arm(void)
{
	if (shared == NULL)
		return false;
	if (!callback_registered)
	{
		RegisterXactCallback(on_transaction_end, NULL);
		RegisterResourceReleaseCallback(on_locks_released, NULL);
		callback_registered = true;
	}
	if (my_slot == NULL || pg_atomic_read_u32(&my_slot->database) != MyDatabaseId)
		my_slot = find_slot(MyDatabaseId);
	return true;
}

/* Has the worker look, once this transaction commits, for messages due from then on. */
void
wake_at_commit(TimestampTz due)
{
	if (wake_armed)
		armed_due = Min(armed_due, due);
	else if (arm())
	{
		armed_due = due;
		wake_armed = true;
	}
}

/* Is there a launcher, so that a worker will come? */
bool
launcher_is_there(void)
{
	return shared != NULL;
}

/* Has a worker started for this database once this transaction commits, whatever it was held for. */
void
start_worker_at_commit(void)
{
	start_armed = arm();
}
