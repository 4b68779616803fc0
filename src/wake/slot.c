/*
 * slot.c
 *		The slots in shared memory, and what a worker does with its own.
 */
#include "postgres.h"

#include <signal.h>

#include "base/compat.h"
#include "base/extension.h"
#include "base/settings.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"
#include "wake/slot.h"

#define HOLD 60000 /* ms until a worker looks again at an outbox that is not to be drained */
#define AWAY                                                                                                 \
	300000       /* ms until a worker that yielded comes back at the latest: nobody tells of old messages */
#define SPARE 64 /* slots for databases that are looked at, or have no room, beside one for each that has */

SlotTable *slot_table = NULL;
static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;
static WorkerSlot *my_slot = NULL; /* of this worker */
static bool goes_on = false;       /* … whose last one yielded */

static int
table_size(void)
{
	return 2 * guc_max_databases + SPARE;
}

static Size
table_bytes(void)
{
	return add_size(offsetof(SlotTable, slots), mul_size(table_size(), sizeof(WorkerSlot)));
}

/* Asks for memory and a lock, when the server counts what its libraries need. */
static void
request_shmem(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(MAXALIGN(table_bytes()));
	RequestNamedLWLockTranche(EXTENSION_NAME, 1);
}

static void
init_slot(WorkerSlot *slot)
{
	pg_atomic_init_u32(&slot->database, InvalidOid);
	pg_atomic_init_u32(&slot->state, SLOT_IDLE);
	pg_atomic_init_u64(&slot->since, 0);
	pg_atomic_init_u32(&slot->worker, 0);
	pg_atomic_init_u32(&slot->end, SLOT_END_BADLY);
	pg_atomic_init_u32(&slot->yield, YIELD_NOT);
	pg_atomic_init_u64(&slot->idle_since, 0);
	pg_atomic_init_u64(&slot->wake_due, NO_WAKE);
	pg_atomic_init_u64(&slot->next_due, (uint64) DT_NOEND);
	pg_atomic_init_u64(&slot->hurry, 0);
	pg_atomic_init_u64(&slot->not_before, 0);
	pg_atomic_init_u64(&slot->deaf_until, 0);
	slot->pid = 0;
	slot->counted = false;
}

/* Finds the table in shared memory; the first process makes it. */
static void
startup_shmem(void)
{
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	slot_table = ShmemInitStruct(EXTENSION_NAME, table_bytes(), &found);
	if (!found)
	{
		slot_table->lock = &(GetNamedLWLockTranche(EXTENSION_NAME))->lock;
		pg_atomic_init_u32(&slot_table->launcher, 0);
		pg_atomic_init_u32(&slot_table->sweep, 0);
		slot_table->size = table_size();
		for (int i = 0; i < slot_table->size; i++)
			init_slot(&slot_table->slots[i]);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* The slot of a database; NULL if it has none.  Without the lock, that is a hint. */
WorkerSlot *
slot_find(Oid database)
{
	for (int i = 0; i < slot_table->size; i++)
	{
		if (pg_atomic_read_u32(&slot_table->slots[i].database) == database)
			return &slot_table->slots[i];
	}
	return NULL;
}

/* Is no slot left for another database?  Without the lock, that is a hint. */
bool
slot_is_full(void)
{
	return slot_find(InvalidOid) == NULL;
}

/* A slot's state is another, or its worker is gone, from now on. */
static void
note_time(WorkerSlot *slot)
{
	pg_atomic_write_u64(&slot->since, (uint64) GetCurrentTimestamp());
}

/* Changes a slot's state, if it is a certain one; returns whether it was.  Cannot fail. */
bool
slot_change(WorkerSlot *slot, SlotState from, SlotState to)
{
	uint32 expected = from;

	if (pg_atomic_read_u32(&slot->state) != from)
		return false;
	/* before that: who sees the state is not to take it for an old one */
	note_time(slot);
	return pg_atomic_compare_exchange_u32(&slot->state, &expected, to);
}

/* A slot's database is not served: nobody is to ask for a worker. */
void
slot_refuse(WorkerSlot *slot)
{
	if (pg_atomic_exchange_u32(&slot->state, SLOT_REFUSED) != SLOT_REFUSED)
		note_time(slot);
}

/* The slot of a database, made if there is none; NULL if all are taken. */
WorkerSlot *
slot_of(Oid database)
{
	WorkerSlot *slot;

	LWLockAcquire(slot_table->lock, LW_EXCLUSIVE);
	slot = slot_find(database);
	if (slot == NULL && (slot = slot_find(InvalidOid)) != NULL)
	{
		pg_atomic_write_u32(&slot->state, SLOT_IDLE);
		note_time(slot);
		pg_atomic_write_u32(&slot->end, SLOT_END_BADLY);
		pg_atomic_write_u64(&slot->wake_due, NO_WAKE);
		pg_atomic_write_u64(&slot->next_due, (uint64) DT_NOEND);
		pg_atomic_write_u64(&slot->hurry, 0);
		pg_atomic_write_u64(&slot->not_before, 0);
		pg_atomic_write_u64(&slot->deaf_until, 0);
		slot->counted = false;
		pg_atomic_write_u32(&slot->database, database);
	}
	LWLockRelease(slot_table->lock);
	return slot;
}

/*
 * Gives a slot without a worker to whoever needs one.  Who still points at it only wakes another
 * database's worker.
 */
void
slot_free(WorkerSlot *slot)
{
	LWLockAcquire(slot_table->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&slot->worker) == 0)
	{
		slot->counted = false;
		pg_atomic_write_u32(&slot->database, InvalidOid);
	}
	LWLockRelease(slot_table->lock);
}

/* How many more databases with the extension sms_gateway.max_databases allows; the caller holds the lock. */
static int
room_left(void)
{
	int room = guc_max_databases;

	for (int i = 0; i < slot_table->size; i++)
		room -= slot_table->slots[i].counted;
	return room;
}

/* The same for those who do not hold it. */
int
slot_room(void)
{
	int room;

	LWLockAcquire(slot_table->lock, LW_SHARED);
	room = room_left();
	LWLockRelease(slot_table->lock);
	return room;
}

/* Asks the worker of a slot to end; false if there is none.  Its process cannot go, or be another, meanwhile. */
bool
slot_end_worker(WorkerSlot *slot)
{
	bool told;

	LWLockAcquire(slot_table->lock, LW_SHARED);
	told = slot->pid != 0 && kill(slot->pid, SIGTERM) == 0;
	LWLockRelease(slot_table->lock);
	return told;
}

/* Wakes a process, as a slot or the table names it.  Cannot fail. */
void
slot_set_latch(uint32 process)
{
	if (process > 0)
		SetLatch(&ProcGlobal->allProcs[process - 1].procLatch);
}

/* Asks the launcher for a worker, unless somebody has, or none may be started.  Cannot fail. */
void
slot_want_worker(WorkerSlot *slot)
{
	if (slot_change(slot, SLOT_IDLE, SLOT_WANTED))
		slot_set_latch(pg_atomic_read_u32(&slot_table->launcher));
}

/* Has the launcher look at all databases.  Cannot fail. */
void
slot_want_sweep(void)
{
	pg_atomic_write_u32(&slot_table->sweep, 1);
	slot_set_latch(pg_atomic_read_u32(&slot_table->launcher));
}

static void
on_worker_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	if (my_slot != NULL)
	{
		LWLockAcquire(slot_table->lock, LW_EXCLUSIVE);
		my_slot->pid = 0;
		note_time(my_slot);
		pg_atomic_write_u32(&my_slot->worker, 0);
		LWLockRelease(slot_table->lock);
	}
	slot_set_latch(pg_atomic_read_u32(&slot_table->launcher));
}

/* Makes this process the worker of its database; false if there is one, or somebody wants the database alone. */
bool
slot_attach(void)
{
	WorkerSlot *slot = slot_of(MyDatabaseId);
	bool ours = false;

	before_shmem_exit(on_worker_exit, (Datum) 0);
	if (slot == NULL)
		return false;
	LWLockAcquire(slot_table->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&slot->worker) == 0 && pg_atomic_read_u32(&slot->database) == MyDatabaseId &&
		(TimestampTz) pg_atomic_read_u64(&slot->hurry) <= GetCurrentTimestamp())
	{
		ours = true;
		my_slot = slot;
		goes_on = (TimestampTz) pg_atomic_read_u64(&slot->next_due) != DT_NOEND;
		slot->pid = MyProcPid;
		pg_atomic_write_u32(&slot->end, SLOT_END_BADLY);
		pg_atomic_write_u32(&slot->yield, YIELD_NOT);
		pg_atomic_write_u64(&slot->idle_since, 0);
		pg_atomic_write_u64(&slot->next_due, (uint64) DT_NOEND);
		pg_atomic_write_u32(&slot->worker, compat_my_proc_number() + 1);
	}
	else if (pg_atomic_read_u32(&slot->worker) == 0)
		pg_atomic_write_u32(&slot->end, SLOT_END_TOLD); /* to make way is no failure */
	LWLockRelease(slot_table->lock);
	slot_set_latch(pg_atomic_read_u32(&slot_table->launcher)); /* it may start another */
	return ours;
}

/* The extension is here: takes one of the places of sms_gateway.max_databases; false if none is left. */
bool
slot_count_in(void)
{
	LWLockAcquire(slot_table->lock, LW_EXCLUSIVE);
	if (!my_slot->counted && room_left() > 0)
		my_slot->counted = true;
	LWLockRelease(slot_table->lock);
	return my_slot->counted;
}

/* Does somebody want this database alone, and wait for its worker to end? */
bool
slot_must_hurry(void)
{
	return my_slot != NULL && (TimestampTz) pg_atomic_read_u64(&my_slot->hurry) > GetCurrentTimestamp();
}

/* Tells the launcher whether this worker is idle; is it to give its process to another database? */
bool
slot_yields(bool idle)
{
	SlotYield yield = pg_atomic_read_u32(&my_slot->yield);

	if (idle != (pg_atomic_read_u64(&my_slot->idle_since) != 0))
		pg_atomic_write_u64(&my_slot->idle_since, idle ? (uint64) GetCurrentTimestamp() : 0);
	return yield == YIELD_SOON || (yield == YIELD_IDLE && idle);
}

/* Does this worker take up what one left that yielded? */
bool
slot_goes_on(void)
{
	return goes_on;
}

/*
 * Says how this worker ends, and when it would have something to do next, if it yielded; the
 * caller exits.
 */
void
slot_detach(SlotEnd end, TimestampTz next_due)
{
	WorkerSlot *slot = my_slot;

	my_slot = NULL;
	LWLockAcquire(slot_table->lock, LW_EXCLUSIVE);
	pg_atomic_write_u32(&slot->end, end);
	if (end == SLOT_END_HELD)
		pg_atomic_write_u64(&slot->not_before,
							(uint64) TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HOLD));
	if (end == SLOT_END_YIELDED)
		pg_atomic_write_u64(&slot->next_due,
							(uint64) Min(next_due, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), AWAY)));
	if (end != SLOT_END_TOLD)
		pg_atomic_write_u32(&slot->state, end == SLOT_END_BEYOND ? SLOT_BEYOND : SLOT_IDLE);
	slot->pid = 0;
	note_time(slot);
	(void) pg_atomic_exchange_u32(&slot->worker, 0); /* a barrier */
	/* A commit that came meanwhile has woken us, who did not look any more. */
	if (end == SLOT_END_YIELDED && pg_atomic_read_u64(&slot->wake_due) != NO_WAKE)
		slot_want_worker(slot);
	if (end == SLOT_END_EMPTY)
	{
		slot->counted = false;
		pg_atomic_write_u32(&slot->database, InvalidOid);
	}
	LWLockRelease(slot_table->lock);
}

/* Has somebody queued a message since slot_take_wake()?  A wait for a lock may have reset the latch that told. */
bool
slot_has_wake(void)
{
	return my_slot != NULL && pg_atomic_read_u64(&my_slot->wake_due) != NO_WAKE;
}

/*
 * The earliest due time of messages queued since the last call; DT_NOEND if
 * none was.  Without shared memory nobody tells.
 */
TimestampTz
slot_take_wake(void)
{
	if (my_slot == NULL)
		return DT_NOEND;
	if (pg_atomic_read_u64(&my_slot->wake_due) == NO_WAKE)
		return DT_NOEND;
	return (TimestampTz) pg_atomic_exchange_u64(&my_slot->wake_due, NO_WAKE);
}

/* Has shared memory made; called while the library is preloaded. */
void
slot_init(void)
{
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
}
