/*
 * slot.h
 *		Shared memory: a slot for each database, through which commits, the launcher and
 *		workers find each other.
 *
 * "lock" guards only which database a slot belongs to; all else is atomic, because it
 * is touched while a transaction commits, when nothing may fail.
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

typedef struct WorkerSlot
{
	pg_atomic_uint32 database; /* 0: free */
	pg_atomic_uint32 state;
	pg_atomic_uint32 worker;     /* its process's number + 1; 0: none */
	pg_atomic_uint32 left;       /* its last worker ended because there was nothing to do here */
	pg_atomic_uint64 wake_due;   /* earliest due time among newly queued messages */
	pg_atomic_uint64 hurry;      /* until then: somebody wants the database alone, and waits */
	pg_atomic_uint64 not_before; /* no worker is started until then */
} WorkerSlot;

typedef struct Shared
{
	LWLock *lock;
	pg_atomic_uint32 launcher; /* its process's number + 1; 0: none */
	WorkerSlot slots[MAX_DATABASES];
} Shared;

extern Shared *shared; /* NULL: not in shared_preload_libraries */

extern void slot_init(void);
extern WorkerSlot *find_slot(Oid database);
extern void free_slot(WorkerSlot *slot);
extern void want_worker(WorkerSlot *slot);
extern void set_latch_of(uint32 number_plus_one);
extern bool worker_attach(void);
extern void worker_detach(bool held);
extern bool worker_must_hurry(void);
extern TimestampTz worker_take_wake(void);

#endif /* SMS_SLOT_H */
