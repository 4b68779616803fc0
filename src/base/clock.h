/*
 * clock.h
 *		The clock of deadlines: monotonic milliseconds, which no change of the wall
 *		clock moves.
 */
#ifndef SMS_CLOCK_H
#define SMS_CLOCK_H

#include <time.h>

/* Returns milliseconds since some time in the past, which is the same for all processes of a machine that runs. */
static inline double
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000.0 + ts.tv_nsec / 1e6;
}

#endif /* SMS_CLOCK_H */
