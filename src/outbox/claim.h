/*
 * claim.h
 *		Claims messages: lanes of due ones.
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

extern void claim_lane_end(LaneKey *end);
extern bool claim_next_lane(LaneKey *lane, const LaneKey *end);
extern List *claim_due(const Lane *lane, int limit, TimestampTz now, MemoryContext parent);
extern TimestampTz claim_lane_due(const Lane *lane, TimestampTz now);
extern bool claim_is_idle(bool but_paused, bool but_locked);

#endif /* SMS_CLAIM_H */
