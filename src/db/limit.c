/*
 * limit.c
 *		How long some work in a transaction may take.
 *
 * What users put on the outbox, triggers and foreign keys, runs in the process that sends: while it runs, nothing
 * else is done.  So it is canceled when its time is over, as statement_timeout would do it.  But
 * statement_timeout belongs to a session's user, and this is also for a part of a statement's time.
 */
#include "postgres.h"

#include "base/clock.h"
#include "db/limit.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#define AGAIN 50 /* ms after which work that went on is canceled again: it may have caught the error */
#define MOST  20 /* times that it is canceled; then the process ends, which nothing can catch */
#define OURS  2  /* what QueryCancelPending is by a limit: true, but not as anybody else's cancel has it */

static TimeLimit time_limit;
static volatile sig_atomic_t is_over; /* time_limit.over, as the signal handler tells it */
static volatile sig_atomic_t cancels; /* since then */

static void
on_time_over(void)
{
	/* A cancel that is pending is somebody's own, and its error his: it ends the work as well. */
	is_over = !QueryCancelPending || QueryCancelPending == OURS;
	InterruptPending = true;
	if (is_over)
		QueryCancelPending = OURS;
	if (++cancels > MOST)
		ProcDiePending = true;
	SetLatch(MyLatch);
}

/* Has the timer go off at the end of the current limit, if there is one; else not. */
static void
arm_limit(void)
{
	static bool registered = false;
	static TimeoutId timeout;
	long left;

	if (!registered && time_limit.end == 0)
		return;
	if (!registered)
		timeout = RegisterTimeout(USER_TIMEOUT, on_time_over);
	registered = true;
	if (time_limit.end == 0)
	{
		disable_timeout(timeout, false);
		return;
	}
	left = (long) Max(time_limit.end - now_ms(), 1);
	enable_timeout_every(timeout, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), left), AGAIN);
}

/*
 * From now on work may take so many ms, or as many as an outer limit leaves; 0: no other limit.  When they are over, it
 * is canceled (57014).  Each is followed by a limit_end(), also after an error.
 */
void
limit_begin(TimeLimit *outer, double ms)
{
	double end = ms > 0 ? now_ms() + ms : 0;

	*outer = time_limit;
	outer->over = is_over;
	if (end > 0 && (time_limit.end == 0 || end < time_limit.end))
		time_limit.end = end;
	is_over = false;
	cancels = 0;
	arm_limit();
}

/* Ends what limit_begin() began; was the time over? */
bool
limit_end(const TimeLimit *outer)
{
	bool was_over;

	time_limit.end = 0;
	arm_limit();
	was_over = is_over;
	/* Work that has ended meanwhile is not to be canceled; but somebody may have canceled all, since. */
	if (was_over && QueryCancelPending == OURS)
		QueryCancelPending = false;
	time_limit = *outer;
	is_over = outer->over;
	arm_limit();
	return was_over;
}

/* Is the process ending because work went on after its time, whatever it was told? */
bool
limit_is_deadly(void)
{
	return cancels > MOST;
}
