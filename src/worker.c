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

/* SIGTERM ends it at the next wait. */
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

	/* The engine returns when the extension is gone, or never was here. */
	worker_detach();
	proc_exit(0);
}
