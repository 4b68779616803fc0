/*
 * launcher.c
 *		Starts a worker for each database that has the extension.
 *
 * One launcher, connected to no database.  At its start it sends a worker to every
 * database to look, one after the other; from then on CREATE EXTENSION, or a commit that
 * queued a message, tells it.  Workers that fail are started again, each time
 * after a longer while.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "base/compat.h"
#include "base/extension.h"
#include "base/settings.h"
#include "base/wait_event.h"
#include "catalog/pg_database.h"
#include "db/place.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
#include "wake/slot.h"
#include "worker/launcher.h"

#define RESTART_MIN    1000 /* ms */
#define RESTART_MAX    60000
#define NAP            60000 /* ms between looks for databases that went */
#define RETRY_REGISTER 5000 /* ms until a worker is tried to be started again when there was no room for it */

/* What the launcher itself knows about each slot. */
typedef struct Start
{
	BackgroundWorkerHandle *handle;
	TimestampTz started;
	TimestampTz not_before;
	TimestampTz complained; /* that there is no room for it */
	int pause_ms;
} Start;

PGDLLEXPORT void sms_gateway_launcher_main(Datum arg);

/* Is a database on the list of sms_gateway.databases?  An empty list has all. */
static bool
on_database_list(const char *name)
{
	char *copy = pstrdup(guc_databases != NULL ? guc_databases : "");
	List *names = NIL;
	ListCell *lc;

	if (!SplitIdentifierString(copy, ',', &names) || names == NIL)
		return true;
	foreach (lc, names)
	{
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	}
	return false;
}

static bool
is_served(Form_pg_database database)
{
	return database->datallowconn && !database->datistemplate && database->datconnlimit != -2 &&
		   on_database_list(NameStr(database->datname));
}

/*
 * Looks at all databases: wants a worker for each that may have the extension,
 * and frees the slots of databases that are gone or no longer served.
 */
static void
sweep(bool want_all)
{
	Relation catalog;
	SysScanDesc scan;
	HeapTuple tuple;
	bool served[MAX_DATABASES] = {false};

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	catalog = table_open(DatabaseRelationId, AccessShareLock);
	scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		WorkerSlot *slot = NULL;

		if (!is_served(database))
			continue;
		for (int i = 0; i < MAX_DATABASES && slot == NULL; i++)
		{
			if (pg_atomic_read_u32(&slot_table->slots[i].database) == database->oid)
				slot = &slot_table->slots[i];
		}
		if (slot == NULL && want_all)
			slot = slot_of(database->oid);
		if (slot == NULL)
			continue;
		served[slot - slot_table->slots] = true;
		if (pg_atomic_read_u32(&slot->state) == SLOT_REFUSED)
			pg_atomic_write_u32(&slot->state, SLOT_IDLE);
		if (want_all)
			slot_want_worker(slot);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	PopActiveSnapshot();
	CommitTransactionCommand();

	for (int i = 0; i < MAX_DATABASES; i++)
	{
		WorkerSlot *slot = &slot_table->slots[i];

		if (!served[i] && pg_atomic_read_u32(&slot->database) != InvalidOid)
		{
			pg_atomic_write_u32(&slot->state, SLOT_REFUSED);
			slot_free(slot);
		}
	}
}

/* May a worker be started here?  The database may be *gone since it was wanted. */
static bool
still_served(Oid oid, bool *gone)
{
	HeapTuple tuple;
	bool yes;

	StartTransactionCommand();
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(oid));
	*gone = !HeapTupleIsValid(tuple);
	yes = !*gone && is_served((Form_pg_database) GETSTRUCT(tuple));
	if (!*gone)
		ReleaseSysCache(tuple);
	CommitTransactionCommand();
	return yes;
}

static bool
start_worker(Oid database, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	bool ok;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, EXTENSION_NAME, BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "sms_gateway_worker_main", BGW_MAXLEN);
	strlcpy(worker.bgw_type, EXTENSION_NAME " worker", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, EXTENSION_NAME " worker for database %u", database);
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	ok = RegisterDynamicBackgroundWorker(&worker, handle);
	MemoryContextSwitchTo(old);
	return ok;
}

/* Is the worker that was started for a slot still there, or yet to come? */
static bool
worker_alive(WorkerSlot *slot, Start *start, TimestampTz now)
{
	pid_t pid;
	BgwHandleStatus status;

	if (start->handle == NULL)
		return false;
	status = GetBackgroundWorkerPid(start->handle, &pid);
	if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED)
		return true;
	pfree(start->handle);
	start->handle = NULL;
	if (pg_atomic_exchange_u32(&slot->left, 0) != 0)
		return false;
	if (TimestampDifferenceExceeds(start->started, now, RESTART_MAX))
		start->pause_ms = RESTART_MIN;
	else
		start->pause_ms = Min(Max(start->pause_ms * 2, RESTART_MIN), RESTART_MAX);
	start->not_before = TimestampTzPlusMilliseconds(now, start->pause_ms);
	return false;
}

/*
 * Starts the workers that are wanted, one at a time, so that a sweep over many
 * databases takes one process slot.  Returns the milliseconds to wait at most.
 */
static long
start_workers(Start *starts)
{
	TimestampTz now = GetCurrentTimestamp();
	long nap = NAP;

	for (int i = 0; i < MAX_DATABASES; i++)
	{
		WorkerSlot *slot = &slot_table->slots[i];
		Start *start = &starts[i];
		Oid database = pg_atomic_read_u32(&slot->database);
		bool alive = worker_alive(slot, start, now);
		TimestampTz not_before;
		bool gone;

		if (alive && pg_atomic_read_u32(&slot->worker) == 0)
			return 1000; /* on its way up or down; its latch tells */
		if (database == InvalidOid || pg_atomic_read_u32(&slot->state) != SLOT_WANTED)
		{
			start->not_before = 0;
			continue;
		}
		if (alive || pg_atomic_read_u32(&slot->worker) != 0)
			continue;
		not_before = Max(start->not_before, (TimestampTz) pg_atomic_read_u64(&slot->not_before));
		if (not_before > now)
		{
			nap = Min(nap, TimestampDifferenceMilliseconds(now, not_before) + 1);
			continue;
		}
		if (!still_served(database, &gone))
		{
			pg_atomic_write_u32(&slot->state, SLOT_REFUSED);
			if (gone)
				slot_free(slot);
			continue;
		}
		start->started = now;
		if (start_worker(database, &start->handle))
			return 1000;
		if (TimestampDifferenceExceeds(start->complained, now, RESTART_MAX))
		{
			ereport(WARNING, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
							  errmsg("no background worker is free for the outbox of database %u", database),
							  errhint("Raise max_worker_processes; the launcher goes on trying.")));
			start->complained = now;
		}
		start->handle = NULL;
		start->not_before = TimestampTzPlusMilliseconds(now, RETRY_REGISTER);
		nap = Min(nap, RETRY_REGISTER);
	}
	return nap;
}

static void
on_launcher_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	pg_atomic_write_u32(&slot_table->launcher, 0);
}

/* The launcher: starts a worker where an outbox needs one, and is idle else. */
void
sms_gateway_launcher_main(Datum arg)
{
	Start *starts = MemoryContextAllocZero(TopMemoryContext, sizeof(Start) * MAX_DATABASES);

	(void) arg;
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	before_shmem_exit(on_launcher_exit, (Datum) 0);
	pg_atomic_write_u32(&slot_table->launcher, compat_my_proc_number() + 1);

	place_note_promotion();
	sweep(true);
	for (;;)
	{
		long nap = start_workers(starts);
		int events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, nap,
							   wait_event(WAIT_LAUNCHER));

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			sweep(true);
		}
		else if (events & WL_TIMEOUT && nap == NAP)
			sweep(false);
	}
}

/* Registers the launcher; called while the library is preloaded. */
void
launcher_init(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 5;
	strlcpy(worker.bgw_library_name, EXTENSION_NAME, BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "sms_gateway_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_type, EXTENSION_NAME " launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_name, EXTENSION_NAME " launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
