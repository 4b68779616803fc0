/*
 * slot.c
 *		The slots in shared memory, and what a worker does with its own.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/extension.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"
#include "wake/slot.h"

#define HOLD 60000 /* ms until a worker looks again at an outbox that is not to be drained */

SlotTable *slot_table = NULL;
static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;
static WorkerSlot *my_slot = NULL; /* of this worker */

/* Asks for memory and a lock, when the server counts what its libraries need. */
static void
request_shmem(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(SlotTable)));
	RequestNamedLWLockTranche(EXTENSION_NAME, 1);
}

static void
init_slot(WorkerSlot *slot)
{
	pg_atomic_init_u32(&slot->database, InvalidOid);
	pg_atomic_init_u32(&slot->state, SLOT_IDLE);
	pg_atomic_init_u32(&slot->worker, 0);
	pg_atomic_init_u32(&slot->left, 0);
	pg_atomic_init_u64(&slot->wake_due, NO_WAKE);
	pg_atomic_init_u64(&slot->hurry, 0);
	pg_atomic_init_u64(&slot->not_before, 0);
}

/* Finds the table in shared memory; the first process makes it. */
static void
startup_shmem(void)
{
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	slot_table = ShmemInitStruct(EXTENSION_NAME, sizeof(SlotTable), &found);
	if (!found)
	{
		slot_table->lock = &(GetNamedLWLockTranche(EXTENSION_NAME))->lock;
		pg_atomic_init_u32(&slot_table->launcher, 0);
		for (int i = 0; i < MAX_DATABASES; i++)
			init_slot(&slot_table->slots[i]);
	}
	LWLockRelease(AddinShmemInitLock);
}

/* The slot of a database, made if there is none; NULL if all are taken. */
WorkerSlot *
slot_of(Oid database)
{
	WorkerSlot *slot = NULL;

	LWLockAcquire(slot_table->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_DATABASES; i++)
	{
		Oid owner = pg_atomic_read_u32(&slot_table->slots[i].database);

		if (owner == database)
		{
			slot = &slot_table->slots[i];
			break;
		}
		if (owner == InvalidOid && slot == NULL)
			slot = &slot_table->slots[i];
	}
	if (slot != NULL && pg_atomic_read_u32(&slot->database) != database)
	{
		pg_atomic_write_u32(&slot->state, SLOT_IDLE);
		pg_atomic_write_u64(&slot->wake_due, NO_WAKE);
		pg_atomic_write_u64(&slot->hurry, 0);
		pg_atomic_write_u64(&slot->not_before, 0);
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
		pg_atomic_write_u32(&slot->database, InvalidOid);
	LWLockRelease(slot_table->lock);
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
	uint32 idle = SLOT_IDLE;

	if (pg_atomic_compare_exchange_u32(&slot->state, &idle, SLOT_WANTED))
		slot_set_latch(pg_atomic_read_u32(&slot_table->launcher));
}

static void
on_worker_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	if (my_slot != NULL)
		pg_atomic_write_u32(&my_slot->worker, 0);
	slot_set_latch(pg_atomic_read_u32(&slot_table->launcher));
}

/* Makes this process the worker of its database; false if there is one. */
bool
slot_attach(void)
{
	uint32 none = 0;

	my_slot = slot_of(MyDatabaseId);
	if (my_slot == NULL ||
		!pg_atomic_compare_exchange_u32(&my_slot->worker, &none, compat_my_proc_number() + 1))
	{
		my_slot = NULL;
		return false;
	}
	before_shmem_exit(on_worker_exit, (Datum) 0);
	return true;
}

/* Does somebody want this database alone, and wait for its worker to end? */
bool
slot_must_hurry(void)
{
	return my_slot != NULL && (TimestampTz) pg_atomic_read_u64(&my_slot->hurry) > GetCurrentTimestamp();
}

/*
 * Says that this database needs no worker any more, or that it is held and needs none for a
 * while; the caller exits.
 */
void
slot_detach(bool held)
{
	WorkerSlot *slot = my_slot;

	my_slot = NULL;
	LWLockAcquire(slot_table->lock, LW_EXCLUSIVE);
	pg_atomic_write_u32(&slot->state, SLOT_IDLE);
	pg_atomic_write_u32(&slot->left, 1);
	pg_atomic_write_u32(&slot->worker, 0);
	if (held)
		pg_atomic_write_u64(&slot->not_before,
							(uint64) TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HOLD));
	else
		pg_atomic_write_u32(&slot->database, InvalidOid);
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
