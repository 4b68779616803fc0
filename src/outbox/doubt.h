/*
 * doubt.h
 *		Messages in doubt that are to be looked for in what the provider's account has sent.
 */
#ifndef SMS_DOUBT_H
#define SMS_DOUBT_H

#include "outbox/item.h"

/* A message that its provider may have. */
typedef struct Doubtful
{
	OutboxItem *item;     /* the caller's to free */
	char *given_id;       /* its request_id as it is on the row */
	TimestampTz since;    /* its first attempt that may have been accepted */
	TimestampTz ended_at; /* when it was given up */
} Doubtful;

extern List *doubt_due(const char *gateway, TimestampTz now, int limit, MemoryContext parent);
extern TimestampTz doubt_next_due(const char *gateway);

#endif /* SMS_DOUBT_H */
