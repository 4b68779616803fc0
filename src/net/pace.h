/*
 * pace.h
 *		How fast a server that says "too fast" is to be asked: a rate learned from its answers.
 *
 * It knows neither clock nor network: the caller tells both.  Times are monotonic milliseconds.
 */
#ifndef SMS_PACE_H
#define SMS_PACE_H

#include <stdbool.h>

/* All zero: it never said so, and is asked as fast as it answers. */
typedef struct Pace
{
	double rate;  /* requests a second; 0: no limit is known */
	double slack; /* ms that requests may run behind it and catch up */
	double good;  /* what it took last, a second; 0: not known */
	double sure;  /* a rate without refusals, since the last with too many; 0: none */
	double top;   /* the last rate with too many refusals; 0: forgotten */
	double rest;  /* ms that it wanted when it refused last; 0: it did not say */
	double refused_at;
	bool took;    /* something, since then */
	bool settled; /* the rate is one that it has taken: no more doubling */
	bool shut;    /* it has refused all lately */
	/* since the rate was looked at last: */
	double began;
	int started;
	int taken; /* answers, but for those to requests from before */
	int refused;
	int clean; /* looks without a refusal, in a row */
} Pace;

extern void pace_started(Pace *pace);
extern void pace_taken(Pace *pace, double now, double started_at);
extern void pace_refused(Pace *pace, double now, double started_at, int in_flight, double rest);
extern double pace_slack(const Pace *pace);

#endif /* SMS_PACE_H */
