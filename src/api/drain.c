/*
 * drain.c
 *		Draining in a session, and waiting until all is drained.
 */
#include "postgres.h"

#include <errno.h>
#include <signal.h>

#include "access/xlog.h"
#include "api/args.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/wait_event.h"
#include "db/home.h"
#include "db/scope.h"
#include "db/sql.h"
#include "engine/engine.h"
#include "engine/sole.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "outbox/claim.h"
#include "pgstat.h"
#include "replication/syncrep.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
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
 * What may end a call before its time
 * ------------------------------------------------------------------------ */

/* libpq/libpq.h has it, which wants headers of GSSAPI that need not be there. */
extern bool pq_check_connection(void);

#define ONE_SIGNAL     300.0   /* ms within which a second SIGINT is the same one */
#define WITHIN_CANCEL  4500.0  /* ms for what was answered to be recorded … */
#define WITHIN_FAILURE 30000.0 /* … where nobody waits, and somebody else's lock may end */

/* Of the call under way: has it been told to end? */
static volatile sig_atomic_t told;       /* by a query cancel or a time-out */
static volatile sig_atomic_t told_again; /* … at once */
static double told_at;                   /* of on_cancel() alone */
static int look_interval;                /* ms between looks for the client; 0: none */
static double looked_at;
static bool client_gone;
static ErrorData
	*failure; /* that met a round: what was under way is recorded first; lives in the portal's context */

/*
 * A query cancel: what is under way comes to its end, and is recorded, before the call ends with the cancel's
 * error; a second one ends it at once.  The postmaster and time-outs signal a process and then its process
 * group, which is the same process.  Two others are what they always are: lock_timeout, which is a
 * statement's own; and a cancel while a commit waits for a standby, which ends that wait and raises nothing.
 */
static void
on_cancel(SIGNAL_ARGS)
{
	int save_errno = errno;
	double now = now_ms();

	if (get_timeout_indicator(LOCK_TIMEOUT, false))
	{
		StatementCancelHandler(postgres_signal_arg);
		return;
	}
	if (!told)
		told_at = now;
	else if (now - told_at > ONE_SIGNAL)
		told_again = true;
	told = true;
	if (told_again || MyProc->syncRepState == SYNC_REP_WAITING)
		StatementCancelHandler(postgres_signal_arg);
	SetLatch(MyLatch);
	errno = save_errno;
}

/* Begins to take query cancels as on_cancel() does.  The caller puts back what was before. */
static void
take_cancels(struct sigaction *before)
{
	struct sigaction action = {.sa_handler = on_cancel, .sa_flags = SA_RESTART};

	told = told_again = client_gone = false;
	failure = NULL;
	look_interval = MyProcPort != NULL ? client_connection_check_interval : 0;
	looked_at = now_ms();
	sigemptyset(&action.sa_mask);
	sigaction(SIGINT, &action, before);
}

/*
 * Two timers would end the session at once: that of a transaction, which here is one in name only while the
 * network is awaited; and that which looks for the client, as is_told_to_end() does.
 */
static void
pin_timers(void)
{
	if (COMPAT_HAS_TRANSACTION_TIMEOUT)
		sql_set("transaction_timeout", "0", GUC_ACTION_LOCAL);
	if (look_interval > 0)
		sql_set("client_connection_check_interval", "0", GUC_ACTION_LOCAL);
}

/* Nothing new is started, and what is under way comes to its end. */
static bool
is_told_to_end(void)
{
	double now = now_ms();

	if (look_interval > 0 && !client_gone && now - looked_at >= look_interval)
	{
		looked_at = now;
		client_gone = !pq_check_connection();
	}
	return told || client_gone || failure != NULL;
}

static double
time_to_end(void)
{
	return told || client_gone ? WITHIN_CANCEL : WITHIN_FAILURE;
}

/* Takes the first error of a round: the call ends with that, when what is under way is recorded. */
static void
keep_failure(ErrorData *error)
{
	MemoryContext context = CurrentMemoryContext;

	if (failure != NULL)
		return;
	PG_TRY();
	{
		ReThrowError(error);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(PortalContext);
		failure = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
}

/* Raises what the call was told, if anything: the error of a cancel, or the end of the session; else that of a round. */
static void
end_as_told(void)
{
	if (client_gone)
		ClientConnectionLost = true;
	if (told)
		QueryCancelPending = true;
	if (told || client_gone)
		InterruptPending = true;
	CHECK_FOR_INTERRUPTS();
	if (failure != NULL)
		ReThrowError(failure);
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
	/* Nothing is sent on the strength of this commit: it waits for no standby, of which nobody knows when it comes. */
	if (told)
		sql_set("synchronous_commit", "local", GUC_ACTION_LOCAL);
	sql_commit();
	/* A cancel may have been meant for that wait and come late, or have been used up by it. */
	if (told)
		QueryCancelPending = false;
	if (told_again)
		QueryCancelPending = InterruptPending = true;
}

/* This process is interrupted, at once: the user is told, and his session aborts the transaction. */
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

/* Settings are reread between statements; SIGTERM and a second cancel end a call at once. */
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
	.awaits_answers = true,
	.waits_as = WAIT_DRAIN,
	.begin = begin_nothing,
	.commit = commit_session,
	.keep = keep_failure,
	.failed = throw_failure,
	.commit_failed = forget_error,
	.ended = pin_timers,
	.reload = never,
	.leaving = is_told_to_end,
	.leave_within = time_to_end,
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
	struct sigaction before;

	if (!wait_for_turn())
		return;
	take_cancels(&before);
	PG_TRY();
	{
		pin_timers();
		engine_run(&session_host);
	}
	PG_FINALLY();
	{
		sigaction(SIGINT, &before, NULL);
		engine_unlock();
	}
	PG_END_TRY();
	end_as_told();
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
