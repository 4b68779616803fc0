/*
 * worker.c
 *		The background process that drains the outbox of one database.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/compat.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "engine/engine.h"
#include "wake/slot.h"
#include "worker/worker.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/timeout.h"

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

static volatile sig_atomic_t asked_to_leave = false;

/*
 * Asked to end, it lets requests under way come to their end for a while.  Asked again, it ends at
 * the next chance.
 */
static void
on_sigterm(SIGNAL_ARGS)
{
	if (asked_to_leave)
		die(postgres_signal_arg);
	asked_to_leave = true;
	SetLatch(MyLatch);
}

/* From now on there may be requests under way. */
void
worker_leaves_gently(void)
{
	pqsignal(SIGTERM, on_sigterm);
}

/* Has this worker been told to end? */
bool
worker_asked_to_leave(void)
{
	return asked_to_leave;
}

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
	pgstat_report_appname(MyBgworkerEntry->bgw_type);

	if (!worker_attach())
		proc_exit(0);
	held = engine_run(false);

	/* As after any SIGTERM: the launcher starts another, unless the server goes down. */
	if (asked_to_leave)
		proc_exit(1);

	/* The engine returns when the extension is gone, or never was here, or is held. */
	worker_detach(held);
	proc_exit(0);
}
