/*
 * cleanup.h
 *		What the time of which has passed.
 */
#ifndef SMS_CLEANUP_H
#define SMS_CLEANUP_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* How far retention has come, by the index of what ended when. */
typedef struct PurgePlace
{
	TimestampTz ended_at;
	int64 id;
} PurgePlace;

/* A message that is to be deleted. */
typedef struct Old
{
	int64 id;
	Oid creator;
	bool taken; /* cleanup_delete()'s */
} Old;

extern bool cleanup_delete(Old *olds, int n);
extern void cleanup_expire(TimestampTz now, TimestampTz *next);
extern bool cleanup_purge(TimestampTz before, int page, PurgePlace *place, PurgePlace *tried);
extern bool cleanup_purge_reports(void);
extern bool cleanup_purge_codes(void);
extern bool cleanup_purge_counters(void);

#endif /* SMS_CLEANUP_H */
