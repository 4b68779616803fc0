/*
 * launcher.c
 *		Which database has a worker, and how a commit wakes it.
 *
 * One launcher, connected to no database, starts a worker for each database
 * that has the extension.  At its start it sends a worker to every database to
 * look, one after the other; from then on CREATE EXTENSION, or a commit that
 * queued a message, tells it.  Workers that fail are started again, each time
 * after a longer while.
 *
 * Shared memory holds a slot per database.  "lock" guards only which database a
 * slot belongs to; all else is atomic, because it is touched while a
 * transaction commits, when nothing may fail.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "sms_gateway.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#define MAX_DATABASES  128
#define NO_WAKE        ((uint64) DT_NOEND)
#define RESTART_MIN    1000 /* ms */
#define RESTART_MAX    60000
#define NAP            60000 /* ms between looks for databases that went */
#define ROOM           6000  /* ms that a command waits at most for other sessions, and one more second */
#define GENTLE_EXIT    5000  /* ms that a worker takes at most to end while its requests do */
#define HOLD           60000 /* ms until a worker looks again at an outbox that is not to be drained */
#define RETRY_REGISTER 5000 /* ms until a worker is tried to be started again when there was no room for it */

enum
{
	SLOT_IDLE, /* no worker is wanted */
	SLOT_WANTED,
	SLOT_REFUSED, /* sms_gateway.databases leaves it out */
};

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

static Shared *shared = NULL; /* NULL: not in shared_preload_libraries */
static shmem_request_hook_type previous_request_hook = NULL;
static shmem_startup_hook_type previous_startup_hook = NULL;
static object_access_hook_type previous_access_hook = NULL;
static ProcessUtility_hook_type previous_utility_hook = NULL;

/* Of this backend's transaction. */
static bool callback_registered = false;
static WorkerSlot *my_slot = NULL;
static bool wake_armed = false;
static bool start_armed = false;
static bool committed = false; /* and not told yet */
static TimestampTz armed_due;

/* ------------------------------------------------------------------------
 * Shared memory
 * ------------------------------------------------------------------------ */

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
static WorkerSlot *
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

static void
set_latch_of(uint32 number_plus_one)
{
	/* A stale number wakes somebody for nothing, no more. */
	if (number_plus_one > 0)
		SetLatch(&ProcGlobal->allProcs[number_plus_one - 1].procLatch);
}

static void
want_worker(WorkerSlot *slot)
{
	uint32 idle = SLOT_IDLE;

	if (pg_atomic_compare_exchange_u32(&slot->state, &idle, SLOT_WANTED))
		set_latch_of(pg_atomic_read_u32(&shared->launcher));
}

/* ------------------------------------------------------------------------
 * Waking at commit
 * ------------------------------------------------------------------------ */

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

/* ------------------------------------------------------------------------
 * What the worker calls
 * ------------------------------------------------------------------------ */

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

/* ------------------------------------------------------------------------
 * Making room for those who want a database alone
 * ------------------------------------------------------------------------ */

/*
 * Ends the worker of a database for a while: long enough for a command that
 * waits up to 5 s for other sessions to go.  What was on its way is settled by
 * the next worker, if there is a database for it then; or, if there is no hurry, the worker
 * lets it come to its end.  Returns the slot, or NULL if nobody ran.
 */
static WorkerSlot *
make_room(Oid database, bool hurry)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ROOM);

	if (shared == NULL || !OidIsValid(database))
		return NULL;
	for (int i = 0; i < MAX_DATABASES; i++)
	{
		WorkerSlot *slot = &shared->slots[i];
		uint32 worker = pg_atomic_read_u32(&slot->worker);
		int pid;

		if (pg_atomic_read_u32(&slot->database) != database)
			continue;
		if (hurry)
			pg_atomic_write_u64(&slot->hurry, (uint64) until);
		pg_atomic_write_u64(&slot->not_before, (uint64) until);
		pid = worker != 0 ? ProcGlobal->allProcs[worker - 1].pid : 0;
		if (pid != 0)
			kill(pid, SIGTERM);
		return pid != 0 ? slot : NULL;
	}
	return NULL;
}

/* The tables are about to change: lets the worker finish what it has under way, and go. */
static void
await_worker_exit(void)
{
	WorkerSlot *slot = make_room(MyDatabaseId, false);
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), GENTLE_EXIT);

	while (slot != NULL && pg_atomic_read_u32(&slot->worker) != 0 && GetCurrentTimestamp() < end)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* DROP DATABASE: called after its permission check, before it counts sessions. */
static void
on_object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (previous_access_hook)
		previous_access_hook(access, class, object, sub, arg);
	if (access == OAT_DROP && class == DatabaseRelationId)
		make_room(object, true);
}

static bool
may_create_databases(Oid role)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool may = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return may || superuser_arg(role);
}

/* Other commands that need a database without sessions have no hook of their own. */
static Oid
database_wanted_alone(Node *statement)
{
	const char *name = NULL;
	bool owner_only = true;
	ListCell *lc;
	Oid database;

	if (IsA(statement, RenameStmt) && ((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
		name = ((RenameStmt *) statement)->subname;
	else if (IsA(statement, AlterDatabaseStmt))
	{
		foreach (lc, ((AlterDatabaseStmt *) statement)->options)
		{
			if (strcmp(((DefElem *) lfirst(lc))->defname, "tablespace") == 0)
				name = ((AlterDatabaseStmt *) statement)->dbname;
		}
	}
	else if (IsA(statement, CreatedbStmt))
	{
		foreach (lc, ((CreatedbStmt *) statement)->options)
		{
			DefElem *option = lfirst(lc);

			if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
				name = defGetString(option);
		}
		owner_only = false;
	}
	database = name != NULL ? get_database_oid(name, true) : InvalidOid;
	if (!OidIsValid(database) || database == MyDatabaseId)
		return InvalidOid;
	if (compat_owns_database(database, GetUserId()) || (!owner_only && may_create_databases(GetUserId())))
		return database;
	return InvalidOid;
}

static void
on_utility(PlannedStmt *statement, const char *query, bool read_only_tree, ProcessUtilityContext context,
		   ParamListInfo params, QueryEnvironment *environment, DestReceiver *receiver,
		   QueryCompletion *completion)
{
	Node *node = statement->utilityStmt;
	bool update = IsA(node, AlterExtensionStmt) &&
				  strcmp(((AlterExtensionStmt *) node)->extname, EXTENSION_NAME) == 0 && superuser();

	if (IsA(node, RenameStmt) || IsA(node, AlterDatabaseStmt) || IsA(node, CreatedbStmt))
		make_room(database_wanted_alone(node), true);
	if (update)
		await_worker_exit();
	if (previous_utility_hook)
		previous_utility_hook(statement, query, read_only_tree, context, params, environment, receiver,
							  completion);
	else
		standard_ProcessUtility(statement, query, read_only_tree, context, params, environment, receiver,
								completion);
	if (update)
		start_worker_at_commit();
}

/* ------------------------------------------------------------------------
 * The launcher
 * ------------------------------------------------------------------------ */

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
 * Gives a slot without a worker to whoever needs one.  Who still points at it only wakes another
 * database's worker.
 */
static void
free_slot(WorkerSlot *slot)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (pg_atomic_read_u32(&slot->worker) == 0)
		pg_atomic_write_u32(&slot->database, InvalidOid);
	LWLockRelease(shared->lock);
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
			if (pg_atomic_read_u32(&shared->slots[i].database) == database->oid)
				slot = &shared->slots[i];
		}
		if (slot == NULL && want_all)
			slot = find_slot(database->oid);
		if (slot == NULL)
			continue;
		served[slot - shared->slots] = true;
		if (pg_atomic_read_u32(&slot->state) == SLOT_REFUSED)
			pg_atomic_write_u32(&slot->state, SLOT_IDLE);
		if (want_all)
			want_worker(slot);
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	PopActiveSnapshot();
	CommitTransactionCommand();

	for (int i = 0; i < MAX_DATABASES; i++)
	{
		WorkerSlot *slot = &shared->slots[i];

		if (!served[i] && pg_atomic_read_u32(&slot->database) != InvalidOid)
		{
			pg_atomic_write_u32(&slot->state, SLOT_REFUSED);
			free_slot(slot);
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
		WorkerSlot *slot = &shared->slots[i];
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
				free_slot(slot);
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
	pg_atomic_write_u32(&shared->launcher, 0);
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
	pg_atomic_write_u32(&shared->launcher, compat_my_proc_number() + 1);

	sweep(true);
	for (;;)
	{
		long nap = start_workers(starts);
		int events =
			WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, nap, PG_WAIT_EXTENSION);

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

/* Called while the library is loaded. */
void
launcher_init(void)
{
	BackgroundWorker worker;

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	previous_request_hook = shmem_request_hook;
	shmem_request_hook = request_shmem;
	previous_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup_shmem;
	previous_access_hook = object_access_hook;
	object_access_hook = on_object_access;
	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = on_utility;

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
