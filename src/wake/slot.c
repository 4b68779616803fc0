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

Shared *shared = NULL;
static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;
static WorkerSlot *my_slot = NULL; /* of this worker */

static void
request_shmem(void)
{
	if (previous_request_hook)
		previous_request_hook();
	RequestAddinShmemSpace(MAXALIGN(sizeof(Shared)));
	RequestNamedLWLockTranche(EXTENSION_NAME, 1);
}

static void
startup_shmem(void)
{
	bool found;

	if (previous_startup_hook)
		previous_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct(EXTENSION_NAME, sizeof(Shared), &found);
	if (!found)
	{
		shared->lock = &(GetNamedLWLockTranche(EXTENSION_NAME))->lock;
		pg_atomic_init_u32(&shared->launcher, 0);
		for (int i = 0; i < MAX_DATABASES; i++)
		{
			pg_atomic_init_u32(&shared->slots[i].database, 0);
			pg_atomic_init_u32(&shared->slots[i].state, SLOT_IDLE);
			pg_atomic_init_u32(&shared->slots[i].worker, 0);
			pg_atomic_init_u32(&shared->slots[i].left, 0);
			pg_atomic_init_u64(&shared->slots[i].wake_due, NO_WAKE);
			pg_atomic_init_u64(&shared->slots[i].hurry, 0);
			pg_atomic_init_u64(&shared->slots[i].not_before, 0);
		}
	}
	LWLockRelease(AddinShmemInitLock);
}

/* The slot of a database, made if there is none; NULL if all are taken. */
WorkerSlot *
find_slot(Oid database)
{
	WorkerSlot *slot = NULL;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_DATABASES; i++)
	{
		Oid owner = pg_atomic_read_u32(&shared->slots[i].database);

		if (owner == database)
		{
			slot = &shared->slots[i];
			break;
		}
		if (owner == InvalidOid && slot == NULL)
			slot = &shared->slots[i];
	}
	if (slot != NULL && pg_atomic_read_u32(&slot->database) != database)
	{
		pg_atomic_write_u32(&slot->state, SLOT_IDLE);
		pg_atomic_write_u64(&slot->wake_due, NO_WAKE);
		pg_atomic_write_u64(&slot->hurry, 0);
		pg_atomic_write_u64(&slot->not_before, 0);
		pg_atomic_write_u32(&slot->database, database);
	}
	LWLockRelease(shared->lock);
	return slot;
}

/*
 * Gives a slot without a worker to whoever needs one.  Who still points at it only wakes another
 * database's worker.
 */
void
free_slot(WorkerSlot *slot)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&slot->worker) == 0)
		pg_atomic_write_u32(&slot->database, InvalidOid);
	LWLockRelease(shared->lock);
}

void
set_latch_of(uint32 number_plus_one)
{
	/* A stale number wakes somebody for nothing, no more. */
	if (number_plus_one > 0)
		SetLatch(&ProcGlobal->allProcs[number_plus_one - 1].procLatch);
}

void
want_worker(WorkerSlot *slot)
{
	uint32 idle = SLOT_IDLE;

	if (pg_atomic_compare_exchange_u32(&slot->state, &idle, SLOT_WANTED))
		set_latch_of(pg_atomic_read_u32(&shared->launcher));
}

static void
on_worker_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	if (my_slot != NULL)
		pg_atomic_write_u32(&my_slot->worker, 0);
	set_latch_of(pg_atomic_read_u32(&shared->launcher));
}

/* Makes this process the worker of its database; false if there is one. */
bool
worker_attach(void)
{
	uint32 none = 0;

	my_slot = find_slot(MyDatabaseId);
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
worker_must_hurry(void)
{
	return my_slot != NULL && (TimestampTz) pg_atomic_read_u64(&my_slot->hurry) > GetCurrentTimestamp();
}

/*
 * Says that this database needs no worker any more, or that it is held and needs none for a
 * while; the caller exits.
 */
void
worker_detach(bool held)
{
	WorkerSlot *slot = my_slot;

	my_slot = NULL;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	pg_atomic_write_u32(&slot->state, SLOT_IDLE);
	pg_atomic_write_u32(&slot->left, 1);
	pg_atomic_write_u32(&slot->worker, 0);
	if (held)
		pg_atomic_write_u64(&slot->not_before,
							(uint64) TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HOLD));
	else
		pg_atomic_write_u32(&slot->database, InvalidOid);
	LWLockRelease(shared->lock);
}

/*
 * The earliest due time of messages queued since the last call; DT_NOEND if
 * none was.  Without shared memory nobody tells.
 */
TimestampTz
worker_take_wake(void)
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
