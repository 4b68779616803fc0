/*
 * cleanup.h
 *		What the time of which has passed.
 */
#ifndef SMS_CLEANUP_H
#define SMS_CLEANUP_H

#include "postgres.h"

#include "datatype/timestamp.h"

extern int cleanup_expire(TimestampTz now, TimestampTz *next);
extern bool cleanup_purge(TimestampTz before, int64 *after);
extern void cleanup_purge_kept(void);

#endif /* SMS_CLEANUP_H */
