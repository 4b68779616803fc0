/*
 * taking.h
 *		What this session's transactions take from counters.
 */
#ifndef SMS_TAKING_H
#define SMS_TAKING_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define TAKING_A_DAY (-1) /* for a number of seconds: to the end of the day */

/* A limit's counter.  All bytes count. */
typedef struct TakingKey
{
	NameData gateway;
	char subject[NAMEDATALEN + 8];
	bool direct; /* for a message that is sent at once, and no rollback takes back */
} TakingKey;

typedef struct Taking Taking;

extern Taking *taking_take(const TakingKey *key, int64 limit, int seconds, int n, TimestampTz *again);
extern bool taking_take_spare(Taking *taking, int n);
extern void taking_put_back(Taking *taking, int n);
extern void taking_give_back(void);
extern void taking_send(void);
extern void taking_sent(bool gone);
extern uint64 taking_generation(void);

#endif /* SMS_TAKING_H */
