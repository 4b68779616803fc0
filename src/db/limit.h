/*
 * limit.h
 *		How long some work in a transaction may take.
 */
#ifndef SMS_LIMIT_H
#define SMS_LIMIT_H

#include "postgres.h"

/* The limit under which work was, before another began. */
typedef struct TimeLimit
{
	double end; /* monotonic ms; 0: there was none */
	bool over;
} TimeLimit;

extern void limit_begin(TimeLimit *outer, double ms);
extern bool limit_end(const TimeLimit *outer);
extern bool limit_is_deadly(void);

#endif /* SMS_LIMIT_H */
