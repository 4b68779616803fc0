/*
 * drain.c
 *		Draining in a session, and waiting until all is drained.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "api/args.h"
#include "db/home.h"
#include "db/scope.h"
#include "db/sql.h"
#include "engine/engine.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "outbox/claim.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

PG_FUNCTION_INFO_V1(sms_wait);
PG_FUNCTION_INFO_V1(sms_drain);

/*
 * Waits in steps that grow from 2 to 50 ms: a message usually takes a few.
 */
Datum
sms_wait(PG_FUNCTION_ARGS)
{
	TimestampTz end =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Max(seconds_arg(fcinfo, 0), 0) * INT64CONST(1000));
	long step = 2;

	for (;;)
	{
		OwnerScope scope;
		bool idle;
		long left;

		scope_enter(&scope);
		idle = claim_is_idle(false, false);
		scope_leave(&scope);
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);
		if (idle || left <= 0)
			PG_RETURN_BOOL(idle);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(step, left),
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		step = Min(step * 2, 50);
	}
}

Datum
sms_drain(PG_FUNCTION_ARGS)
{
	CallContext *context = (CallContext *) fcinfo->context;

	if (context == NULL || !IsA(context, CallContext) || context->atomic)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
						errmsg("sms_drain cannot run inside a transaction block"),
						errdetail("It commits what it claims before it sends.")));
	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("a standby sends no messages")));
	home_require();
	sql_connect_to_commit();
	sql_commit();
	engine_run(true);
	sql_disconnect();
	PG_RETURN_VOID();
}
