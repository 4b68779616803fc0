/*
 * drain.c
 *		Draining in a session, and waiting until all is drained.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "api/args.h"
#include "base/wait_event.h"
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
						 wait_event(WAIT_IDLE));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		step = Min(step * 2, 50);
	}
}

/* ------------------------------------------------------------------------
 * What the engine asks of a session
 * ------------------------------------------------------------------------ */

/* SPI has begun one: at the start, and after each commit. */
static void
begin_nothing(void)
{
}

/*
 * The user before the commit: SPI begins the next transaction at once, and as whom that begins,
 * he comes back after an abort.
 */
static void
commit_session(Oid user, int security)
{
	SetUserIdAndSecContext(user, security);
	sql_commit();
}

/* The user is told; his session aborts the transaction. */
static void
throw_failure(void)
{
	PG_RE_THROW();
}

/* SPI has aborted the transaction then, and begun the next. */
static void
forget_error(void)
{
	FlushErrorState();
}

static void
end_nothing(void)
{
}

/* Settings are reread between statements, and SIGTERM ends a session at once. */
static bool
never(void)
{
	return false;
}

static bool
stays(bool idle)
{
	(void) idle;
	return false;
}

static const EngineHost session_host = {
	.held_level = ERROR,
	.ends_when_done = true,
	.waits_as = WAIT_DRAIN,
	.begin = begin_nothing,
	.commit = commit_session,
	.failed = throw_failure,
	.commit_failed = forget_error,
	.ended = end_nothing,
	.reload = never,
	.leaving = never,
	.yields = stays,
	.must_hurry = never,
};

/*
 * Beside another engine: waits until that has done the work, or is gone.  Returns true with the
 * engine's lock; false, without it, when nothing is left to do.
 */
static bool
wait_for_turn(void)
{
	int all_locked = 0;

	for (int steps = 1; !engine_lock(false); steps++)
	{
		OwnerScope scope;
		bool idle;

		/*
		 * A message of a paused gateway, or that somebody is canceling, is not waited for.  But who
		 * has locked all that is due may be the worker, which claims it: so look twice, a second apart.
		 */
		scope_enter(&scope);
		idle = claim_is_idle(true, false);
		if (!idle && steps % 50 == 0)
			idle = claim_is_idle(true, true) && ++all_locked == 2;
		scope_leave(&scope);
		sql_commit();
		if (idle)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20, wait_event(WAIT_TURN));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/* Drains until nothing is due or on its way; the caller is connected to SPI in a way that lets it commit. */
static void
drain_session(void)
{
	if (!wait_for_turn())
		return;
	PG_TRY();
	{
		engine_run(&session_host);
	}
	PG_FINALLY();
	{
		engine_unlock();
	}
	PG_END_TRY();
}

/* sms_drain(): sends what is due, in transactions of its own, until nothing is due or on its way. */
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
	drain_session();
	sql_disconnect();
	PG_RETURN_VOID();
}
