/*
 * pace.c
 *		The rate at which a server that says "too fast" is asked, against servers with all kinds of
 *		limits, in simulated time.
 */
#include <math.h>

#include "net/pace.h"
#include "unit.h"

#define WAYS 64 /* requests under way at once */

/* A server that takes so many a second, and "burst" at once; and what asks it. */
typedef struct World
{
	double limit;
	double burst;   /* tokens it keeps */
	double latency; /* ms */
	double rest;    /* ms that it wants after a refusal; 0: it does not say */
	double option;  /* requests a second at most, whatever it takes; 0: none */
	bool shut;      /* takes nothing */
	Pace pace;
	double now;
	double tokens;
	double held_until;
	double next_start;
	double started[WAYS];
	bool refused[WAYS];
	int first; /* of those under way */
	int n;
	long ntaken;
	long nrefused;
} World;

static bool
takes(World *w)
{
	if (w->shut || w->tokens < 1)
		return false;
	w->tokens -= 1;
	return true;
}

/* A millisecond passes: answers come in, requests go out. */
static void
tick(World *w)
{
	w->now += 1;
	w->tokens = fmin(w->tokens + w->limit / 1000, fmax(w->burst, 1));
	while (w->n > 0 && w->started[w->first] + w->latency <= w->now)
	{
		double at = w->started[w->first];

		if (w->refused[w->first])
		{
			pace_refused(&w->pace, w->now, at, w->n, w->rest);
			w->held_until = fmax(w->held_until, w->now + w->rest);
			w->next_start = fmax(w->next_start, w->held_until);
			w->nrefused++;
		}
		else
		{
			pace_taken(&w->pace, w->now, at);
			if (w->pace.rate > 0)
				w->next_start = fmin(w->next_start, w->now + 1000 / w->pace.rate);
			w->ntaken++;
		}
		w->first = (w->first + 1) % WAYS;
		w->n--;
	}
	while (w->n < WAYS && w->held_until <= w->now)
	{
		double rate = w->pace.rate;

		if (w->option > 0)
			rate = rate > 0 ? fmin(rate, w->option) : w->option;
		if (rate > 0 && w->next_start > w->now)
			break;
		if (rate > 0)
			w->next_start = fmax(w->next_start, w->now - pace_slack(&w->pace)) + 1000 / rate;
		w->started[(w->first + w->n) % WAYS] = w->now;
		w->refused[(w->first + w->n) % WAYS] = !takes(w);
		w->n++;
		pace_started(&w->pace);
	}
}

/* Seconds pass; returns the share of the limit that was taken. */
static double
pass(World *w, double seconds)
{
	w->ntaken = w->nrefused = 0;
	if (w->now == 0)
		w->tokens = w->burst;
	for (double end = w->now + seconds * 1000; w->now < end;)
		tick(w);
	if (getenv("PACE_TRACE"))
		printf(
			"# limit %.1f burst %.0f latency %.0f rest %.0f: taken %.2f refused %.2f rate %.1f slack %.1f\n",
			w->limit, w->burst, w->latency, w->rest, w->ntaken / (w->limit * seconds),
			(double) w->nrefused / (w->ntaken + w->nrefused + 1), w->pace.rate, w->pace.slack);
	return w->ntaken / (w->limit * seconds);
}

/* The share of refusals in what passed last. */
static double
refusals(const World *w)
{
	return (double) w->nrefused / (w->ntaken + w->nrefused + 1);
}

static void
assert_above(double value, double bound)
{
	if (value <= bound)
		fail_msg("%.3f is not above %.3f", value, bound);
}

static void
test_limits(void **state)
{
	static const World worlds[] = {
		{.limit = 500, .burst = 1, .latency = 1},    {.limit = 500, .burst = 20, .latency = 1},
		{.limit = 500, .burst = 500, .latency = 5},  {.limit = 500, .burst = 20, .latency = 50},
		{.limit = 5000, .burst = 100, .latency = 5}, {.limit = 50, .burst = 1, .latency = 20},
		{.limit = 5, .burst = 1, .latency = 20},     {.limit = 100, .burst = 100, .latency = 300},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(worlds) / sizeof(worlds[0]); i++)
	{
		World w = worlds[i];

		assert_above(pass(&w, 10), worlds[i].limit < 10 ? 0.5 : 0.9);
		assert_above(pass(&w, 60), 0.85);
		assert_above(0.2, refusals(&w));
	}
}

static void
test_one_a_second(void **state)
{
	World w = {.limit = 1, .burst = 1, .latency = 20};

	(void) state;
	pass(&w, 10);
	assert_above(1500, (double) w.nrefused);
	assert_above(pass(&w, 600), 0.75);
	assert_above(0.2, refusals(&w));
}

static void
test_retry_after(void **state)
{
	World w = {.limit = 500, .burst = 20, .latency = 5, .rest = 1000};
	World slow = {.limit = 2, .burst = 5, .latency = 5, .rest = 1000};

	(void) state;
	pass(&w, 30);
	assert_above(pass(&w, 120), 0.8);
	pass(&slow, 120);
	assert_above(pass(&slow, 600), 0.7);
}

static void
test_change(void **state)
{
	World w = {.limit = 500, .burst = 20, .latency = 5};

	(void) state;
	pass(&w, 10);
	w.limit = 50;
	pass(&w, 3);
	assert_above(pass(&w, 20), 0.9);
	w.limit = 2000;
	pass(&w, 15);
	assert_above(pass(&w, 20), 0.9);
}

static void
test_shut(void **state)
{
	World w = {.limit = 500, .burst = 20, .latency = 5};

	(void) state;
	pass(&w, 5);
	w.shut = true;
	pass(&w, 60);
	assert_above(200, (double) w.nrefused);
	pass(&w, 600);
	assert_above(30, (double) w.nrefused);
	w.shut = false;
	pass(&w, 90);
	assert_above(pass(&w, 10), 0.9);
}

static void
test_option(void **state)
{
	World w = {.limit = 500, .burst = 20, .latency = 5, .option = 300};

	(void) state;
	pass(&w, 10);
	assert_int_equal(w.nrefused, 0);
	w.option = 5000;
	pass(&w, 5);
	assert_above(pass(&w, 20), 0.9);
}

int
run_pace_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_limits),      cmocka_unit_test(test_one_a_second),
		cmocka_unit_test(test_retry_after), cmocka_unit_test(test_change),
		cmocka_unit_test(test_shut),        cmocka_unit_test(test_option),
	};

	return cmocka_run_group_tests_name("pace", tests, NULL, NULL);
}
