/*
 * claim.h
 *		Claims messages: lanes of due ones.
 */
#ifndef SMS_CLAIM_H
#define SMS_CLAIM_H

#include "outbox/item.h"

/* Messages of one gateway and priority are due since then. */
typedef struct DuePlace
{
	TimestampTz due;
	NameData gateway;
	int16 priority;
} DuePlace;

/* A priority that messages of a gateway have, and since when the first is due; DT_NOEND: none is. */
typedef struct FoundPriority
{
	int16 priority;
	TimestampTz due;
} FoundPriority;

/* The messages of one gateway and priority, and how far they have been claimed. */
typedef struct Lane
{
	int16 priority;
	bool drained;          /* nothing due was left at the last look */
	TimestampTz after_due; /* claimed up to here … */
	int64 after_id;
	TimestampTz
		passed_due; /* … and, but for those of roles whose messages wait, up to here, if that is later */
	int64 passed_id;
} Lane;

extern void claim_after_all(DuePlace *place, TimestampTz due);
extern int claim_find_due(const DuePlace *before, TimestampTz after, DuePlace *found, int limit);
extern TimestampTz claim_next_due(TimestampTz now);
extern bool claim_next_gateway(NameData *gateway, const NameData *before);
extern int claim_find_priorities(const NameData *gateway, int below, int above, TimestampTz now,
								 FoundPriority *found, int limit);
extern List *claim_due(const NameData *gateway, const Lane *lane, int limit, TimestampTz now,
					   MemoryContext parent);
extern List *claim_due_of(const NameData *gateway, const Lane *lane, const List *roles, bool others,
						  int limit, TimestampTz now, MemoryContext parent);
extern bool claim_is_idle(bool but_paused, bool but_locked);

#endif /* SMS_CLAIM_H */
