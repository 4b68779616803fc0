/*
 * pace.c
 *		How fast a server that says "too fast" is to be asked: a rate learned from its answers.
 *
 * Where a server refuses what is beyond its limit, what it takes meanwhile is the limit.  So the
 * rate is looked at again and again, with so many answers at hand as make a share of refusals: too many,
 * and the rate falls to what was taken, and a little; none, and it rises, faster the longer there are none.
 * A few refusals are wanted: they tell that there is nothing to gain.
 *
 * A server that wants a rest with each refusal (Retry-After) makes them dear: then the rate falls below
 * what was taken at the first one, and rises so slowly that resting takes a twentieth of the time.
 *
 * Some servers want requests apart from each other, some take many at once: requests that are late may
 * catch up, by less when that is refused.
 */
#include "net/pace.h"

#include <math.h>

#define LEAST_RATE  (1.0 / 60)
#define FIRST_RATE  1000.0 /* at most: it doubles from there */
#define FIRST_SHARE 0.25   /* … and of what made it refuse */
#define LOOK_AFTER  100.0  /* ms at least */
#define ENOUGH      20     /* answers to look at */
#define ENOUGH_SHUT 5      /* … if all are refusals */
#define ENOUGH_RISE 8      /* … while the rate doubles */
#define STALE       60000.0
#define MOST        0.6
#define TOO_MANY    0.18 /* refusals */
#define SOME        0.10
#define FEW         0.03
#define IN_USE      0.6 /* of the rate, at least, as timers are coarse: else it is not the rate that limits */
#define RISE        0.05 /* of the rate at a look without refusals, or in a twentieth of the time */
#define RISE_MORE   3    /* looks after which that doubles */
#define NEAR_TOP    0.97 /* of the last rate that was too much … */
#define STAY        8    /* … looks without refusals, before more is tried */
#define SLACK_MAX   50.0
#define SLACK_FIRST 10.0
#define TICK        2.0 /* ms: requests come no more regularly than that */

static double
larger(double a, double b)
{
	return a > b ? a : b;
}

static double
smaller(double a, double b)
{
	return a < b ? a : b;
}

/* From now on answers to requests that are made from now on count. */
static void
look_from(Pace *pace, double now)
{
	pace->began = now;
	pace->started = pace->taken = pace->refused = 0;
}

static void
slow_down(Pace *pace, double share)
{
	double best = larger(pace->good * (1 + RISE), smaller(pace->sure, pace->rate * 0.95));

	/* One that wants requests apart may refuse half of them for a rate that is hardly too high. */
	if (share < MOST)
		best = larger(best, pace->rate * 0.85);
	pace->settled = true;
	pace->clean = 0;
	pace->sure = 0;
	pace->top = pace->rate;
	pace->rate = larger(larger(smaller(best, pace->rate * 0.95), pace->rate / 4), LEAST_RATE);
	pace->slack /= 4;
}

/* By how much the rate rises, after so many seconds without a refusal. */
static double
rise_of(const Pace *pace, double now, double seconds)
{
	double rest = pace->rest / 1000;
	double quiet = (now - pace->refused_at) / 1000;

	if (!pace->settled)
		return 1;
	if (rest <= 0)
		return smaller(ldexp(RISE, pace->clean / RISE_MORE), 1);
	return smaller(RISE * seconds / (20 * rest) * exp2(smaller(floor(quiet / (40 * rest)), 20)), 1);
}

static void
speed_up(Pace *pace, double now, double seconds)
{
	double next = pace->rate * (1 + rise_of(pace, now, seconds));

	pace->sure = pace->rate;
	if (next > pace->top * NEAR_TOP && pace->top > 0)
	{
		next = larger(pace->rate, pace->top * NEAR_TOP);
		if (pace->clean >= STAY)
			pace->top = pace->clean = 0;
	}
	pace->rate = next;
	pace->slack = smaller(pace->slack + 1, SLACK_MAX);
	pace->clean++;
}

/* A few refusals: the rate is about right. */
static void
keep_on(Pace *pace, double share)
{
	pace->clean = 0;
	pace->slack /= 2;
	if (share <= SOME)
		pace->rate *= 1 + RISE / 4;
}

/* Are there answers enough to judge the rate by? */
static bool
is_enough(const Pace *pace)
{
	int n = pace->taken + pace->refused;

	if (n >= ENOUGH || (pace->taken == 0 && pace->refused >= ENOUGH_SHUT))
		return true;
	return !pace->settled && pace->refused == 0 && pace->taken >= ENOUGH_RISE;
}

/* Looks at the rate, if it is time to. */
static void
look(Pace *pace, double now)
{
	double seconds = (now - pace->began) / 1000;
	double share = (double) pace->refused / (pace->taken + pace->refused);

	if (now - pace->began > larger(STALE, 40000 / pace->rate))
	{
		look_from(pace, now); /* so few requests tell nothing */
		return;
	}
	if (now - pace->began < LOOK_AFTER || !is_enough(pace))
		return;
	pace->shut = pace->taken == 0;
	if (!pace->shut)
		pace->good = pace->started / seconds * (1 - share);
	if (pace->shut)
		pace->rate = larger(pace->rate / 4, LEAST_RATE);
	else if (share > TOO_MANY)
		slow_down(pace, share);
	else if (share > FEW)
		keep_on(pace, share);
	else if (pace->started / seconds >= IN_USE * pace->rate)
		speed_up(pace, now, seconds);
	look_from(pace, now);
}

/* A request is made. */
void
pace_started(Pace *pace)
{
	pace->started++;
}

/* A request that was made at a time was taken, or refused for another reason than its haste. */
void
pace_taken(Pace *pace, double now, double started_at)
{
	if (pace->rate == 0 || started_at < pace->began)
		return;
	pace->taken++;
	pace->took = true;
	if (pace->shut)
	{
		pace->shut = false;
		pace->rate = larger(pace->rate, larger(pace->good, 1));
		look_from(pace, now);
	}
	else
		look(pace, now);
}

/* The first refusal: no more than what has led to it. */
static void
begin(Pace *pace, double now, double started_at, int in_flight)
{
	double latency = larger(now - started_at, 1) / 1000;

	pace->rate = smaller(larger(in_flight, 1) / latency * FIRST_SHARE, FIRST_RATE);
	pace->rate = larger(pace->rate, 1);
	pace->slack = SLACK_FIRST;
	look_from(pace, now);
}

/* A refusal that costs a rest.  How long there was none tells how far the rate is off. */
static void
drop(Pace *pace, double share)
{
	pace->settled = true;
	pace->slack /= 2;
	pace->rate = larger(pace->rate * share, LEAST_RATE);
}

/*
 * A request that was made at a time was refused for its haste, while so many were under way; the server wants a
 * rest of so many milliseconds, 0 if it did not say.
 */
void
pace_refused(Pace *pace, double now, double started_at, int in_flight, double rest)
{
	double before = pace->refused_at;

	pace->refused_at = now;
	pace->rest = rest;
	if (pace->rate == 0)
		begin(pace, now, started_at, in_flight);
	else if (rest > 0 && pace->took && started_at > before)
		drop(pace, now - before < 11 * rest ? 0.7 : 0.95);
	else if (rest <= 0 && started_at >= pace->began)
	{
		pace->refused++;
		look(pace, now);
	}
	pace->took = false;
	if (rest > 0)
		look_from(pace, now + rest);
}

/* How many milliseconds requests may run behind the rate, and catch up. */
double
pace_slack(const Pace *pace)
{
	return pace->rate * TICK > 1000 ? larger(pace->slack, TICK) : pace->slack;
}
