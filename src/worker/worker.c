/*
 * worker.c
 *		The background process that drains the outbox of one database.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/encoding.h"
#include "commands/dbcommands.h"
#include "engine/engine.h"
#include "miscadmin.h"
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

#define ONE_SIGNAL  1000.0 /* ms within which a second SIGTERM is the same one */
#define LONGEST_END 3500.0 /* ms that a transaction may go on for when this process is to end */
#define LOOK_PERIOD 1000   /* ms between looks at that */

static volatile sig_atomic_t asked_to_leave = false;
static double asked_at; /* of on_sigterm() alone */

/*
 * Asked to end, it lets requests under way come to their end for a while.  Asked again, it ends at
 * the next chance.  The postmaster signals a process and then its process group, which is the same
 * process: who is quick sees two signals where one was meant.
 */
static void
on_sigterm(SIGNAL_ARGS)
{
	int save_errno = errno;
	double now = now_ms();

	if (!asked_to_leave)
		asked_at = now;
	else if (now - asked_at > ONE_SIGNAL)
		die(postgres_signal_arg);
	asked_to_leave = true;
	SetLatch(MyLatch);
	errno = save_errno;
}

static TimeoutId look_timeout;

/*
 * Comes now and then while a transaction is open: one that waits, for a synchronous standby that is
 * gone or in a user's trigger, does not hold up the end of this process for long.
 */
static void
on_look(void)
{
	if (asked_to_leave && now_ms() - asked_at > LONGEST_END)
		die(SIGTERM);
}

/* ------------------------------------------------------------------------
 * What the engine asks of a worker
 * ------------------------------------------------------------------------ */

static void
begin_transaction(void)
{
	SetCurrentStatementStartTimestamp();
	pgstat_report_activity(STATE_RUNNING, "draining the outbox");
	StartTransactionCommand();
	enable_timeout_every(look_timeout, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOOK_PERIOD),
						 LOOK_PERIOD);
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
	disable_timeout(look_timeout, false);
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

/* Waits until no session drains, and then is the engine of this database. */
static bool
drain_for_good(void)
{
	StartTransactionCommand();
	prepare_process();
	engine_lock(true);
	CommitTransactionCommand();
	pqsignal(SIGTERM, on_sigterm); /* from now on there may be requests under way */
	return engine_run(&worker_host);
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

/* A worker: drains the outbox of one database, until it is told to end or has nothing to serve. */
void
sms_gateway_worker_main(Datum arg)
{
	bool held;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, on_sigint);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	pin_settings();
	look_timeout = RegisterTimeout(USER_TIMEOUT, on_look);
	pgstat_report_appname(MyBgworkerEntry->bgw_type);

	if (!slot_attach())
		proc_exit(0);
	held = drain_for_good();
	engine_unlock();

	/* As after any SIGTERM: the launcher starts another, unless the server goes down. */
	if (asked_to_leave)
		proc_exit(1);

	/* The engine returns when the extension is gone, or never was here, or is held. */
	slot_detach(held);
	proc_exit(0);
}
