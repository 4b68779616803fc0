/*
 * worker.c
 *		The background process that drains the outbox of one database.
 */
#include "postgres.h"

#include "access/xact.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "sms_gateway.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
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

void
sms_gateway_worker_main(Datum arg)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, on_sigint);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	pgstat_report_appname(MyBgworkerEntry->bgw_type);

	if (!worker_attach())
		proc_exit(0);
	engine_run(false);

	/* As after any SIGTERM: the launcher starts another, unless the server goes down. */
	if (asked_to_leave)
		proc_exit(1);

	/* The engine returns when the extension is gone, or never was here. */
	worker_detach();
	proc_exit(0);
}
