/*
 * slot.h
 *		Shared memory: a slot for each database, through which commits, the launcher and
 *		workers find each other.
 *
 * slot_table->lock guards which database a slot belongs to ("database" is written only under
 * it, exclusively; it may be read without, and is then a hint).  All else is atomic, because it is
 * touched while a transaction commits, when nothing may fail.  A slot that changed hands
 * under somebody's feet wakes a worker for nothing, no more.
 */
#ifndef SMS_SLOT_H
#define SMS_SLOT_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/lwlock.h"

#define MAX_DATABASES 128
#define NO_WAKE       ((uint64) DT_NOEND)

typedef enum SlotState
{
	SLOT_IDLE, /* no worker is wanted */
	SLOT_WANTED,
	SLOT_REFUSED, /* sms_gateway.databases leaves it out */
} SlotState;

/* Processes are named by their number in ProcGlobal + 1, 0 is none: a stale one is a spurious wake. */
typedef struct WorkerSlot
{
	pg_atomic_uint32 database;   /* 0: free */
	pg_atomic_uint32 state;      /* a SlotState */
	pg_atomic_uint32 worker;     /* its process */
	pg_atomic_uint32 left;       /* its last worker ended because there was nothing to do here */
	pg_atomic_uint64 wake_due;   /* earliest due time among newly queued messages */
	pg_atomic_uint64 hurry;      /* until then: somebody wants the database alone, and waits */
	pg_atomic_uint64 not_before; /* no worker is started until then */
} WorkerSlot;

typedef struct SlotTable
{
	LWLock *lock;
	pg_atomic_uint32 launcher; /* its process */
	WorkerSlot slots[MAX_DATABASES];
} SlotTable;

extern SlotTable *slot_table; /* NULL: not in shared_preload_libraries */

extern void slot_init(void);
extern WorkerSlot *slot_of(Oid database);
extern void slot_free(WorkerSlot *slot);
extern void slot_want_worker(WorkerSlot *slot);
extern void slot_set_latch(uint32 process);
extern bool slot_attach(void);
extern void slot_detach(bool held);
extern bool slot_must_hurry(void);
extern bool slot_has_wake(void);
extern TimestampTz slot_take_wake(void);

#endif /* SMS_SLOT_H */
