/*
 * launcher.c
 *		Starts a worker for each database that has the extension.
 *
 * One launcher, connected to no database.  At its start it sends a worker to every
 * database to look, several at once; from then on CREATE EXTENSION, or a commit that
 * queued a message, tells it.  Workers that fail are started again, each time
 * after a longer while.
 *
 * Where max_worker_processes has no room for all, they take turns.  A worker that is
 * idle gives its process away when others wait, and says when it has something to do next;
 * then, or when a commit tells, it waits for a process itself.  One that is busy does the same
 * when others have waited for TURN, and what it has under way is at its end.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/settings.h"
#include "base/wait_event.h"
#include "db/place.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "wake/slot.h"
#include "worker/launcher.h"
#include "worker/roster.h"

#define RESTART_MIN    1000 /* ms until a worker that failed is started again … */
#define RESTART_MAX    60000
#define FAILURES_TOLD  3     /* in a row, before the log says more than each error */
#define NAP            60000 /* ms between looks for databases that went */
#define LOCKED         200   /* ms until pg_database is looked at again when somebody has locked it */
#define AT_ONCE        16    /* workers that may be starting */
#define STUCK          1000 /* ms after which one that is starting is not counted: somebody has locked its database */
#define RETRY_REGISTER 500  /* ms until a worker is tried to be started again when there was no room for it */
#define TURN           2000 /* ms that a worker has its process for, while others wait */
#define GOING          5000 /* ms in which a worker that is asked for its process should have given it */
#define WORK_FIRST     10000   /* ms by which who has something to do goes before who may have */
#define WAIT_TOLD      5000    /* ms that a database waits for a process before the log says so … */
#define TELL_AFTER     1000    /* ms until it says which databases have no room at all */
#define TELL_AGAIN     3600000 /* … and again */

/* What the launcher itself knows about each slot. */
typedef struct Start
{
	Oid database;
	BackgroundWorkerHandle *handle;
	TimestampTz started;
	TimestampTz not_before;
	TimestampTz waits_since; /* for its process; 0: it does not */
	TimestampTz asked;       /* to give it away */
	int pause_ms;
	int failures; /* in a row */
} Start;

/* What one look at the slots finds. */
typedef struct Pass
{
	TimestampTz now;
	long nap;     /* ms until the next at most */
	int starting; /* workers that are on their way */
	int beyond;   /* databases that sms_gateway.max_databases leaves out */
	int *waiting; /* slots that want a process */
	int nwaiting;
	int *running; /* slots that have one */
	int nrunning;
} Pass;

PGDLLEXPORT void sms_gateway_launcher_main(Datum arg);

static Start *starts;
static TimestampTz enabled_at = 0; /* when sending was switched on */

static WorkerSlot *
slot_at(int i)
{
	return &slot_table->slots[i];
}

/* Was this more than so many ms ago? */
static bool
is_over(const Pass *pass, TimestampTz since, int ms)
{
	return TimestampDifferenceExceeds(since, pass->now, ms);
}

/* ------------------------------------------------------------------------
 * The state of each slot
 * ------------------------------------------------------------------------ */

/* Its worker has ended without a word: the next comes later, and if that goes on, the log says so. */
static void
count_failure(const Pass *pass, Start *start)
{
	if (is_over(pass, start->started, RESTART_MAX))
		start->failures = start->pause_ms = 0;
	start->pause_ms = Min(Max(start->pause_ms * 2, RESTART_MIN), RESTART_MAX);
	if (++start->failures == FAILURES_TOLD)
	{
		char *name = roster_names(&start->database, 1);

		ereport(WARNING, (errmsg("the outbox of database %s has no worker: it ended %d times in a row", name,
								 start->failures),
						  errhint("The log tells above why. It is started again each minute at least.")));
	}
}

/* A worker that yielded while sending was switched off has not looked for messages. */
static void
recall(WorkerSlot *slot)
{
	if ((TimestampTz) pg_atomic_read_u64(&slot->next_due) != DT_NOEND)
		pg_atomic_write_u64(&slot->next_due, (uint64) GetCurrentTimestamp());
}

/* The worker of a slot has ended: how, and when may there be another? */
static void
take_end(const Pass *pass, WorkerSlot *slot, Start *start)
{
	SlotEnd end = pg_atomic_exchange_u32(&slot->end, SLOT_END_BADLY);

	/* It may not have heard yet that sending was switched on; one that was started after that has. */
	if (end == SLOT_END_YIELDED && start->started <= enabled_at)
		recall(slot);
	if (end == SLOT_END_BADLY)
		count_failure(pass, start);
	else
	{
		start->failures = 0;
		start->pause_ms = end == SLOT_END_TOLD ? RESTART_MIN : 0;
	}
	start->not_before = TimestampTzPlusMilliseconds(pass->now, start->pause_ms);
}

/* Is the worker that was started for a slot still there, or yet to come? */
static bool
has_process(const Pass *pass, WorkerSlot *slot, Start *start)
{
	pid_t pid;
	BgwHandleStatus status;

	if (start->handle == NULL)
		return pg_atomic_read_u32(&slot->worker) != 0; /* of the launcher before */
	status = GetBackgroundWorkerPid(start->handle, &pid);
	if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED)
		return true;
	pfree(start->handle);
	start->handle = NULL;
	take_end(pass, slot, start);
	return pg_atomic_read_u32(&slot->worker) != 0;
}

/* Is a worker wanted, though nobody may have said so: the time that the last one named has come? */
static bool
is_wanted(Pass *pass, WorkerSlot *slot)
{
	TimestampTz due = (TimestampTz) pg_atomic_read_u64(&slot->next_due);

	if (pg_atomic_read_u32(&slot->state) == SLOT_IDLE && due != DT_NOEND)
	{
		if (due <= pass->now)
			slot_change(slot, SLOT_IDLE, SLOT_WANTED);
		else
			pass->nap = Min(pass->nap, TimestampDifferenceMilliseconds(pass->now, due) + 1);
	}
	return pg_atomic_read_u32(&slot->state) == SLOT_WANTED;
}

static void
survey_slot(Pass *pass, int i)
{
	WorkerSlot *slot = slot_at(i);
	Start *start = &starts[i];
	Oid database = pg_atomic_read_u32(&slot->database);
	TimestampTz not_before;

	if (has_process(pass, slot, start))
	{
		if (pg_atomic_read_u32(&slot->worker) != 0)
			pass->running[pass->nrunning++] = i;
		else if (!is_over(pass, start->started, STUCK))
			pass->starting++;
		start->waits_since = 0;
		return;
	}
	if (start->database != database)
		*start = (Start){.database = database};
	pass->beyond += database != InvalidOid && pg_atomic_read_u32(&slot->state) == SLOT_BEYOND;
	if (database == InvalidOid || !is_wanted(pass, slot))
	{
		start->waits_since = 0;
		return;
	}
	not_before = Max(start->not_before, (TimestampTz) pg_atomic_read_u64(&slot->not_before));
	if (not_before > pass->now)
	{
		pass->nap = Min(pass->nap, TimestampDifferenceMilliseconds(pass->now, not_before) + 1);
		return;
	}
	if (start->waits_since == 0)
		start->waits_since = pass->now;
	pass->waiting[pass->nwaiting++] = i;
}

/* ------------------------------------------------------------------------
 * Starting
 * ------------------------------------------------------------------------ */

/* When it was a slot's turn, or is: that is earlier for one that is known to have something to do. */
static TimestampTz
turn_of(int i, TimestampTz now)
{
	WorkerSlot *slot = slot_at(i);
	bool work = (TimestampTz) pg_atomic_read_u64(&slot->wake_due) <= now ||
				(TimestampTz) pg_atomic_read_u64(&slot->next_due) <= now;

	return TimestampTzPlusMilliseconds(starts[i].waits_since, work ? -WORK_FIRST : 0);
}

static int
compare_turns(const void *a, const void *b, void *now)
{
	TimestampTz x = turn_of(*(const int *) a, *(TimestampTz *) now);
	TimestampTz y = turn_of(*(const int *) b, *(TimestampTz *) now);

	return x < y ? -1 : x > y ? 1 : 0;
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
	if (!ok)
		*handle = NULL;
	return ok;
}

/*
 * Starts the workers that are wanted, in their turn, as many at once as are not too many.  Returns how many are
 * dealt with: those after them wait for a process.
 */
static int
start_waiting(Pass *pass, bool *full)
{
	int done = 0;

	*full = false;
	qsort_arg(pass->waiting, pass->nwaiting, sizeof(int), compare_turns, &pass->now);
	for (; done < pass->nwaiting && pass->starting < AT_ONCE; done++)
	{
		WorkerSlot *slot = slot_at(pass->waiting[done]);
		Start *start = &starts[pass->waiting[done]];
		bool locked;

		if (!roster_serves(start->database, &locked))
		{
			if (locked)
			{
				pass->nap = Min(pass->nap, LOCKED);
				break;
			}
			slot_refuse(slot); /* the next sweep frees it */
			continue;
		}
		if (!start_worker(start->database, &start->handle))
		{
			*full = true;
			break;
		}
		start->started = pass->now;
		start->waits_since = start->asked = 0;
		pass->starting++;
	}
	return done;
}

/* ------------------------------------------------------------------------
 * Taking turns
 * ------------------------------------------------------------------------ */

/* Who goes first: the one that is idle longest, and of busy ones the one that runs longest. */
static int
compare_runs(const void *a, const void *b)
{
	int i = *(const int *) a;
	int k = *(const int *) b;
	uint64 x = pg_atomic_read_u64(&slot_at(i)->idle_since);
	uint64 y = pg_atomic_read_u64(&slot_at(k)->idle_since);

	if ((x == 0) != (y == 0))
		return x == 0 ? 1 : -1;
	if (x == 0)
	{
		x = (uint64) starts[i].started;
		y = (uint64) starts[k].started;
	}
	return x < y ? -1 : x > y ? 1 : 0;
}

/* Asks up to "wanted" workers that run for their process; who was asked lately, and has not given it yet, counts. */
static void
ask_for_processes(Pass *pass, int wanted, SlotYield how)
{
	for (int k = 0; k < pass->nrunning; k++)
	{
		Start *start = &starts[pass->running[k]];

		if (pg_atomic_read_u32(&slot_at(pass->running[k])->yield) >= how &&
			!is_over(pass, start->asked, GOING))
			wanted--;
	}
	for (int k = 0; k < pass->nrunning && wanted > 0; k++)
	{
		WorkerSlot *slot = slot_at(pass->running[k]);
		Start *start = &starts[pass->running[k]];

		if (pg_atomic_read_u32(&slot->yield) >= how ||
			(how == YIELD_SOON && !is_over(pass, start->started, TURN)))
			continue;
		pg_atomic_write_u32(&slot->yield, how);
		slot_set_latch(pg_atomic_read_u32(&slot->worker));
		start->asked = pass->now;
		wanted--;
	}
}

/* Nobody waits any more: those who were asked for their process may keep it. */
static void
let_stay(Pass *pass)
{
	for (int k = 0; k < pass->nrunning; k++)
		pg_atomic_write_u32(&slot_at(pass->running[k])->yield, YIELD_NOT);
}

/* There is no process for those from "first" on. */
static void
make_way(Pass *pass, int first)
{
	static TimestampTz told = 0;
	int long_waiting = 0;
	int too_long = 0;
	char *name;

	for (int k = first; k < pass->nwaiting; k++)
	{
		long_waiting += is_over(pass, starts[pass->waiting[k]].waits_since, TURN);
		too_long += is_over(pass, starts[pass->waiting[k]].waits_since, WAIT_TOLD);
	}
	pass->nap = Min(pass->nap, RETRY_REGISTER);
	qsort(pass->running, pass->nrunning, sizeof(int), compare_runs);
	ask_for_processes(pass, pass->nwaiting - first, YIELD_IDLE);
	ask_for_processes(pass, long_waiting, YIELD_SOON);
	if (too_long == 0 || (told != 0 && !is_over(pass, told, TELL_AGAIN)))
		return;
	told = pass->now;
	name = roster_names(&starts[pass->waiting[first]].database, 1);
	ereport(WARNING, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					  errmsg("no background worker is free for the outbox of database %s", name),
					  errdetail("%d databases wait for one of %d workers; they take turns.",
								pass->nwaiting - first, pass->nrunning),
					  errhint("Raise max_worker_processes.")));
}

/* ------------------------------------------------------------------------
 * More databases than sms_gateway.max_databases
 * ------------------------------------------------------------------------ */

/* Those that have some now are wanted; returns how many others there are, and which. */
static int
find_beyond(const Pass *pass, Oid *databases)
{
	int room = pass->beyond > 0 ? slot_room() : 0;
	int n = 0;

	for (int i = 0; i < slot_table->size && n < pass->beyond; i++)
	{
		if (pg_atomic_read_u32(&slot_at(i)->state) != SLOT_BEYOND)
			continue;
		if (room-- > 0 && slot_change(slot_at(i), SLOT_BEYOND, SLOT_WANTED))
			SetLatch(MyLatch);
		else
			databases[n++] = pg_atomic_read_u32(&slot_at(i)->database);
	}
	return n;
}

/*
 * Says which databases have no room, when there are more than were told of.  So many more
 * have no slot, and are not looked at.
 */
static void
care_for_beyond(Pass *pass, int unseen)
{
	static int told = 0;
	static TimestampTz since = 0; /* there are more */
	Oid *databases = palloc(sizeof(Oid) * Max(pass->beyond, 1));
	int n = find_beyond(pass, databases);
	char *names;

	if (n + unseen <= told)
	{
		told = n + unseen;
		since = 0;
		return;
	}
	if (since == 0)
		since = pass->now;
	if (!is_over(pass, since, TELL_AFTER))
	{
		/* There may be still more of them in a moment. */
		pass->nap = Min(pass->nap, TELL_AFTER);
		return;
	}
	names = roster_names(databases, n);
	ereport(WARNING,
			(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
			 errmsg_plural("%d database has an outbox that is not drained: sms_gateway.max_databases is %d",
						   "%d databases have an outbox that is not drained: sms_gateway.max_databases is %d",
						   n, n, guc_max_databases),
			 unseen > 0 ? errdetail("Without a worker: %s; %d more have not been looked at.", names, unseen)
						: errdetail("Without a worker: %s.", names),
			 errhint("Raise sms_gateway.max_databases, and restart the server.")));
	told = n + unseen;
	since = 0;
}

/* ------------------------------------------------------------------------
 * The process
 * ------------------------------------------------------------------------ */

/*
 * Looks at all slots, and does what they want; so many databases have none.  Returns the
 * milliseconds to wait at most.
 */
static long
look_at_slots(int unseen)
{
	Pass pass = {.now = GetCurrentTimestamp(), .nap = NAP};
	bool full;
	int done;

	pass.waiting = palloc(sizeof(int) * slot_table->size);
	pass.running = palloc(sizeof(int) * slot_table->size);
	for (int i = 0; i < slot_table->size; i++)
		survey_slot(&pass, i);
	done = start_waiting(&pass, &full);
	if (full)
		make_way(&pass, done);
	else
		let_stay(&pass);
	if (pass.starting > 0)
		pass.nap = Min(pass.nap, STUCK);
	care_for_beyond(&pass, unseen);
	return pass.nap;
}

static void
on_launcher_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	pg_atomic_write_u32(&slot_table->launcher, 0);
}

static void
reload(void)
{
	bool enabled = guc_enabled;

	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	if (!guc_enabled || enabled)
		return;
	enabled_at = GetCurrentTimestamp();
	for (int i = 0; i < slot_table->size; i++)
		recall(slot_at(i));
}

/* Is it time to look at all databases?  "swept": when that was done last. */
static bool
wants_sweep(TimestampTz swept)
{
	bool wanted = pg_atomic_exchange_u32(&slot_table->sweep, 0) != 0;

	if (ConfigReloadPending)
	{
		reload();
		wanted = true;
	}
	return wanted || TimestampDifferenceExceeds(swept, GetCurrentTimestamp(), NAP);
}

/* The launcher: starts a worker where an outbox needs one, and is idle else. */
void
sms_gateway_launcher_main(Datum arg)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "sms_gateway launcher", ALLOCSET_DEFAULT_SIZES);
	TimestampTz swept = 0;
	bool sweep = true;

	(void) arg;
	starts = MemoryContextAllocZero(TopMemoryContext, sizeof(Start) * slot_table->size);
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	before_shmem_exit(on_launcher_exit, (Datum) 0);
	pg_atomic_write_u32(&slot_table->launcher, compat_my_proc_number() + 1);

	place_note_promotion();
	for (;;)
	{
		long nap;

		MemoryContextReset(context);
		MemoryContextSwitchTo(context);
		sweep = wants_sweep(swept) || sweep;
		if (sweep && roster_sweep())
		{
			sweep = false;
			swept = GetCurrentTimestamp();
		}
		MemoryContextSwitchTo(context);
		nap = look_at_slots(roster_feed());
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 sweep ? Min(nap, LOCKED) : nap, wait_event(WAIT_LAUNCHER));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
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
