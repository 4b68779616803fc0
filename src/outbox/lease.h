/*
 * lease.h
 *		Leases: which messages are on their way.
 */
#ifndef SMS_LEASE_H
#define SMS_LEASE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* A message that was on its way, in an engine that is gone. */
typedef struct Doubt
{
	int64 id;
	int64 lease;
	TimestampTz claimed_at;
} Doubt;

extern int64 lease_add(const List *items, TimestampTz now);
extern void lease_drop(int64 lease);
extern void lease_set(int64 lease, const Datum *ids, int n);
extern void lease_clear(int64 up_to);
extern int64 lease_newest(void);
extern bool lease_any(void);
extern List *lease_orphans(int64 up_to, MemoryContext parent);
extern int lease_doubtful(int64 up_to, Doubt **doubts);
extern int lease_count_to(Datum phones, int64 *first);
extern TimestampTz lease_last(int64 id, bool *on_its_way);

#endif /* SMS_LEASE_H */
