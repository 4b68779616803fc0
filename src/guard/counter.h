/*
 * counter.h
 *		Counters that stay counted when the transaction rolls back.
 */
#ifndef SMS_COUNTER_H
#define SMS_COUNTER_H

#include "postgres.h"

#include "access/htup.h"
#include "datatype/timestamp.h"
#include "storage/itemptr.h"
#include "utils/relcache.h"

/* The first two columns of a row that counts. */
typedef struct Counter
{
	int64 count;
	TimestampTz until;
} Counter;

typedef bool (*CounterChange)(Counter *counter, void *arg);

extern HeapTuple counter_find(Relation table, const char *index_name, const char *gateway, const char *text);
extern void counter_make(Relation table, const char *index_name, const char *gateway, const char *text);
extern bool counter_change(Relation table, ItemPointer tid, bool durable, CounterChange change, void *arg);

#endif /* SMS_COUNTER_H */
