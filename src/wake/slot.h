/*
 * slot.h
 *		Shared memory: a slot for each database, through which commits, the launcher and
 *		workers find each other.
 *
 * slot_table->lock guards which database a slot belongs to ("database" is written only under
 * it, exclusively; it may be read without, and is then a hint), "pid" and "counted".  All else is
 * atomic, because it is touched while a transaction commits, when nothing may fail.  A slot that
 * changed hands under somebody's feet wakes a worker for nothing, no more.
 */
#ifndef SMS_SLOT_H
#define SMS_SLOT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#define NO_WAKE ((uint64) DT_NOEND)

typedef enum SlotState
{
	SLOT_IDLE, /* no worker is wanted, or none before next_due */
	SLOT_WANTED,
	SLOT_REFUSED, /* it is not served: sms_gateway.databases leaves it out, or nobody may connect */
	SLOT_BEYOND,  /* it has the extension, and sms_gateway.max_databases leaves no room for it */
} SlotState;

/* How a worker ended. */
typedef enum SlotEnd
{
	SLOT_END_BADLY,   /* without a word: by an error */
	SLOT_END_TOLD,    /* by a signal; whether another is wanted is as it was */
	SLOT_END_EMPTY,   /* the extension is not here */
	SLOT_END_HELD,    /* the outbox is not to be drained for now */
	SLOT_END_YIELDED, /* others wanted its process */
	SLOT_END_BEYOND,  /* see SLOT_BEYOND */
} SlotEnd;

/* Whether a worker is to give its process to another database. */
typedef enum SlotYield
{
	YIELD_NOT,
	YIELD_IDLE, /* when it has nothing to do */
	YIELD_SOON, /* when what it has under way is at its end */
} SlotYield;

/* Processes are named by their number in ProcGlobal + 1, 0 is none: a stale one is a spurious wake. */
typedef struct WorkerSlot
{
	pg_atomic_uint32 database;   /* 0: free */
	pg_atomic_uint32 state;      /* a SlotState */
	pg_atomic_uint64 since;      /* it is that, or has had no worker */
	pg_atomic_uint32 worker;     /* its process */
	pg_atomic_uint32 end;        /* a SlotEnd: of its last worker */
	pg_atomic_uint32 yield;      /* a SlotYield */
	pg_atomic_uint64 idle_since; /* its worker has nothing to do; 0: it has */
	pg_atomic_uint64 wake_due;   /* earliest due time among newly queued messages */
	pg_atomic_uint64 next_due;   /* a worker that yielded has something to do then */
	pg_atomic_uint64 hurry;      /* until then: somebody wants the database alone, and waits */
	pg_atomic_uint64 not_before; /* no worker is started until then */
	pg_atomic_uint64
		deaf_until; /* until then no triggers of users' are called: one of them could not be stopped */
	int pid;        /* of its worker, for as long as that may be signalled */
	bool counted;   /* the extension is here: it is one of sms_gateway.max_databases */
} WorkerSlot;

typedef struct SlotTable
{
	LWLock *lock;
	pg_atomic_uint32 launcher; /* its process */
	pg_atomic_uint32 sweep;    /* a database is not what it was: the launcher is to look at all */
	int size;
	WorkerSlot slots[FLEXIBLE_ARRAY_MEMBER];
} SlotTable;

extern SlotTable *slot_table; /* NULL: not in shared_preload_libraries */

extern void slot_init(void);
extern WorkerSlot *slot_of(Oid database);
extern WorkerSlot *slot_find(Oid database);
extern bool slot_is_full(void);
extern bool slot_change(WorkerSlot *slot, SlotState from, SlotState to);
extern void slot_refuse(WorkerSlot *slot);
extern void slot_free(WorkerSlot *slot);
extern void slot_want_worker(WorkerSlot *slot);
extern void slot_want_sweep(void);
extern void slot_set_latch(uint32 process);
extern bool slot_end_worker(WorkerSlot *slot);
extern int slot_room(void);
extern bool slot_attach(void);
extern bool slot_count_in(void);
extern void slot_detach(SlotEnd end, TimestampTz next_due);
extern bool slot_must_hurry(void);
extern bool slot_yields(bool idle);
extern bool slot_goes_on(void);
extern bool slot_has_wake(void);
extern TimestampTz slot_take_wake(void);

#endif /* SMS_SLOT_H */
