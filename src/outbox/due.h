/*
 * due.h
 *		Messages that wait to be tried again are due now.
 */
#ifndef SMS_DUE_H
#define SMS_DUE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* How far a gateway's messages were looked at, by the index of due messages. */
typedef struct HurryPlace
{
	int priority; /* below any smallint: nothing yet */
	bool inside;  /* there are more of this priority, behind: */
	TimestampTz next_attempt_at;
	int64 id;
} HurryPlace;

#define HURRY_START ((HurryPlace){.priority = PG_INT16_MIN - 1})

extern bool due_page(const char *gateway, HurryPlace *place);

#endif /* SMS_DUE_H */
