/*
 * counter.h
 *		Counters that stay counted when the transaction rolls back.
 */
#ifndef SMS_COUNTER_H
#define SMS_COUNTER_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* The first columns of sms_gateway_usage, all NOT NULL. */
typedef struct Counter
{
	int64 count;
	TimestampTz until; /* DT_NOBEGIN in a new one */
	int64 code;        /* the one-time password that tries are counted for */
	int64 tries;
} Counter;

/* Looks at a counter and changes it; false if nothing is to be written. */
typedef bool (*CounterChange)(Counter *counter, void *arg);

extern Oid counter_table(void);
extern void counter_change(const char *gateway, const char *subject, CounterChange change, void *arg);
extern void counter_change_now(Oid oid, const char *gateway, const char *subject, CounterChange change,
							   void *arg);
extern void counter_flush(void);

#endif /* SMS_COUNTER_H */
