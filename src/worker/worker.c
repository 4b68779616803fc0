/*
 * worker.c
 *		The background process that drains the outbox of one database.
 */
#include "postgres.h"

#include <signal.h>
#include <time.h>

#include "access/xact.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/encoding.h"
#include "base/wait_event.h"
#include "commands/dbcommands.h"
#include "db/home.h"
#include "engine/engine.h"
#include "engine/sole.h"
#include "miscadmin.h"
#include "outbox/notefile.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "wake/slot.h"

PGDLLEXPORT void sms_gateway_worker_main(Datum arg);

/*
 * A query cancel is not for the worker.  But lock_timeout, on which it relies,
 * arrives as a SIGINT from itself.
 */
static void
on_sigint(SIGNAL_ARGS)
{
	if (get_timeout_indicator(LOCK_TIMEOUT, false))
		StatementCancelHandler(postgres_signal_arg);
}

#define ONE_SIGNAL   1000.0 /* ms within which a second SIGTERM is the same one */
#define LONGEST_END  3500   /* ms that a transaction may go on for when this process is to end */
#define LOOK_PERIOD  250    /* ms between looks at that */
#define LOCK_PERIOD  100    /* ms between looks whether a session still drains … */
#define DRAIN_PERIOD 1000   /* … and by a worker that gave its process away meanwhile */

static volatile sig_atomic_t asked_to_leave = false;
static volatile sig_atomic_t in_transaction = false;
static timer_t look_timer; /* runs from when this process is asked to end */
static double asked_at;    /* of on_sigterm() alone */

/*
 * Asked to end, it lets requests under way come to their end for a while.  Asked again, it ends at
 * the next chance.  The postmaster signals a process and then its process group, which is the same
 * process: who is quick sees two signals where one was meant.
 */
static void
on_sigterm(SIGNAL_ARGS)
{
	static const struct itimerspec when = {.it_value = {LONGEST_END / 1000, LONGEST_END % 1000 * 1000000},
										   .it_interval = {0, LOOK_PERIOD * 1000000}};
	int save_errno = errno;
	double now = now_ms();

	if (!asked_to_leave)
	{
		asked_at = now;
		timer_settime(look_timer, 0, &when, NULL);
	}
	else if (now - asked_at > ONE_SIGNAL)
		die(postgres_signal_arg);
	asked_to_leave = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

/*
 * Comes when this process should have ended, and goes on coming: a transaction that waits, for a
 * synchronous standby that is gone or in a user's trigger, does not hold that up for long.
 */
static void
on_look(SIGNAL_ARGS)
{
	if (in_transaction)
		die(postgres_signal_arg);
}

/*
 * Has on_look() called.  The server's own timeouts would have to be set for each transaction, and their signal
 * comes though the transaction has ended long ago: a process at rest would wake once more for each.
 */
static void
create_look_timer(void)
{
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};

	pqsignal(SIGUSR2, on_look);
	if (timer_create(CLOCK_MONOTONIC, &event, &look_timer) != 0)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES), errmsg("could not create a timer: %m")));
}

/* ------------------------------------------------------------------------
 * What the engine asks of a worker
 * ------------------------------------------------------------------------ */

static void
begin_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, "draining the outbox");
	in_transaction = true;
	StartTransactionCommand();
}

/* What runs at commit does so as the tables' owner still, not as the superuser that a worker is. */
static void
commit_transaction(Oid user, int security)
{
	CommitTransactionCommand();
	SetUserIdAndSecContext(user, security);
}

/* Nobody waits for an answer: the error is logged, and the engine comes back to it. */
static void
log_failure(void)
{
	EmitErrorReport();
	FlushErrorState();
	AbortCurrentTransaction();
}

static void
give_up_commit(void)
{
	FlushErrorState();
	AbortCurrentTransaction();
}

static void
report_idle(void)
{
	in_transaction = false;
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
}

static bool
reload_config(void)
{
	if (!ConfigReloadPending)
		return false;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	return true;
}

static bool
told_to_end(void)
{
	return asked_to_leave;
}

/* A server that stops waits for its workers. */
static double
some_seconds(void)
{
	return 4500;
}

static const EngineHost worker_host = {
	.held_level = LOG,
	.waits_as = WAIT_WORKER,
	.begin = begin_transaction,
	.commit = commit_transaction,
	.failed = log_failure,
	.commit_failed = give_up_commit,
	.ended = report_idle,
	.reload = reload_config,
	.leaving = told_to_end,
	.leave_within = some_seconds,
	.yields = slot_yields,
	.must_hurry = slot_must_hurry,
};

/* A worker's lines in the server's log have no %d: its context says which database it works for. */
static void
name_database(void *name)
{
	errcontext("outbox of database \"%s\"", (const char *) name);
}

/* Finds out, in a transaction, what is needed where none is open: the conversion, the database's name. */
static void
prepare_process(void)
{
	static ErrorContextCallback context = {.callback = name_database};

	encoding_prepare();
	context.arg = MemoryContextStrdup(TopMemoryContext, get_database_name(MyDatabaseId));
	context.previous = error_context_stack;
	error_context_stack = &context;
}

/* What there is to do in this database, in a transaction: SLOT_END_YIELDED if this worker is to go on. */
static SlotEnd
find_outbox(void)
{
	Oid extension;
	Oid schema;

	if (!home_find_extension(&extension, &schema, NULL))
	{
		/* It may have been dropped while no worker was here. */
		if (engine_lock(false))
		{
			notefile_remove();
			engine_unlock();
		}
		return SLOT_END_EMPTY;
	}
	if (!slot_count_in())
		return SLOT_END_BEYOND;
	prepare_process();
	return SLOT_END_YIELDED;
}

/* Takes the engine's lock in a transaction; false if a session has it, which drains. */
static bool
try_to_lock(void)
{
	bool locked;

	StartTransactionCommand();
	locked = engine_lock(false);
	CommitTransactionCommand();
	return locked;
}

/* Waits until no session drains; false if another database needs this process before that. */
static bool
wait_to_lock(void)
{
	while (!try_to_lock())
	{
		if (slot_yields(true))
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOCK_PERIOD,
						 wait_event(WAIT_WORKER));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/*
 * What this process is for: says how it ends.  A database without the extension costs no more than a
 * look; else it waits until no session drains, and then is the engine of its database.
 */
static SlotEnd
serve(TimestampTz *next_due)
{
	SlotEnd found;
	EngineEnd end;

	StartTransactionCommand();
	found = find_outbox();
	CommitTransactionCommand();
	if (found != SLOT_END_YIELDED)
		return found;
	if (!wait_to_lock())
	{
		*next_due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), DRAIN_PERIOD);
		return SLOT_END_YIELDED;
	}

	create_look_timer();
	pqsignal(SIGTERM, on_sigterm); /* from now on there may be requests under way */
	end = engine_run(&worker_host);
	engine_unlock();
	*next_due = end.next_due;
	return end.outbox == OUTBOX_GONE   ? SLOT_END_EMPTY
		   : end.outbox == OUTBOX_HELD ? SLOT_END_HELD
									   : SLOT_END_YIELDED;
}

/* ------------------------------------------------------------------------
 * The process
 * ------------------------------------------------------------------------ */

/* What the database or the role may set, and would stop the worker: as autovacuum does it. */
static void
pin_settings(void)
{
	static const char *const settings[][2] = {
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"}, /* each round has one of its own */
		{"idle_in_transaction_session_timeout", "0"},
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	if (COMPAT_HAS_TRANSACTION_TIMEOUT)
		SetConfigOption("transaction_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
}

/* A worker: drains the outbox of one database, until it is told to end, yields, or has nothing to serve. */
void
sms_gateway_worker_main(Datum arg)
{
	TimestampTz next_due = DT_NOEND;
	SlotEnd end;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, on_sigint);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	pin_settings();
	pgstat_report_appname(MyBgworkerEntry->bgw_type);

	if (!slot_attach())
		proc_exit(0);
	end = serve(&next_due);

	/* After SIGTERM the launcher starts another, unless the server goes down, or the database is not served. */
	slot_detach(asked_to_leave ? SLOT_END_TOLD : end, next_due);
	proc_exit(asked_to_leave ? 1 : 0);
}
