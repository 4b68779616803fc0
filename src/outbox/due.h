/*
 * due.h
 *		Messages that wait to be tried again are due now.
 */
#ifndef SMS_DUE_H
#define SMS_DUE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* How far a gateway's messages were looked at, in the order in which they become due. */
typedef struct HurryPlace
{
	TimestampTz until; /* they are looked at; 0: nothing was yet */
	TimestampTz next_attempt_at;
	int16 priority;
	bool inside; /* there are more of this time and priority, behind: */
	int64 id;
	bool more; /* there are more after these */
} HurryPlace;

#define HURRY_START ((HurryPlace){.until = 0})

extern bool due_page(const char *gateway, Oid role, const List *but, HurryPlace *place);

#endif /* SMS_DUE_H */
