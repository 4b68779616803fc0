/*
 * claim.h
 *		Claims messages: lanes of due ones, and the leases that name those on their way.
 */
#ifndef SMS_CLAIM_H
#define SMS_CLAIM_H

#include "outbox/item.h"

typedef struct LaneKey
{
	NameData gateway;
	int16 priority;
} LaneKey;

/* One range of the due index, and how far it has been claimed. */
typedef struct Lane
{
	NameData gateway;
	int16 priority;
	TimestampTz after_due; /* claimed up to here … */
	int64 after_id;
	TimestampTz next_due; /* when the next waiting message is due; DT_NOEND: none */
	bool drained;         /* nothing due was left at the last look */
} Lane;

extern void outbox_lane_end(LaneKey *end);
extern bool outbox_next_lane(LaneKey *lane, const LaneKey *end);
extern List *outbox_claim(Lane *lane, int limit, TimestampTz now, MemoryContext parent);
extern void outbox_free_item(OutboxItem *item);
extern TimestampTz outbox_lane_due(const Lane *lane, TimestampTz now);
extern int64 outbox_lease_add(List *items, TimestampTz now);
extern void outbox_lease_drop(int64 lease);
extern void outbox_lease_set(int64 lease, const Datum *ids, int n);
extern void outbox_lease_clear(void);
extern List *outbox_orphans(MemoryContext parent);
extern char *outbox_join_routerule(ArrayType *array);
extern bool outbox_idle(bool but_paused, bool but_locked);

#endif /* SMS_CLAIM_H */
