/*
 * cleanup.h
 *		What the time of which has passed.
 */
#ifndef SMS_CLEANUP_H
#define SMS_CLEANUP_H

#include "postgres.h"

#include "datatype/timestamp.h"

extern int outbox_expire(TimestampTz now, TimestampTz *next);
extern bool outbox_purge(TimestampTz before, int64 *after);
extern void outbox_purge_kept(void);

#endif /* SMS_CLEANUP_H */
