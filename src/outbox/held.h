/*
 * held.h
 *		Why nothing is sent from this database, whatever its gateways are.
 */
#ifndef SMS_HELD_H
#define SMS_HELD_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* Why, in words for a view; NULL: it is sent.  And since when; 0: nobody knows. */
typedef struct Held
{
	const char *why;
	TimestampTz since;
} Held;

/* Something that sending needs. */
typedef struct HeldCheck
{
	const char *name;
	Held (*look)(void);
	bool holds; /* without it nothing is sent, and no later check counts */
} HeldCheck;

#define HELD_CHECKS 6

extern const HeldCheck held_checks[HELD_CHECKS];
extern void held_tell_once(void);

#endif /* SMS_HELD_H */
