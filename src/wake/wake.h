/*
 * wake.h
 *		A commit wakes the worker.
 */
#ifndef SMS_WAKE_H
#define SMS_WAKE_H

#include "postgres.h"

#include "datatype/timestamp.h"

/* A due time that wakes the worker without having it look back. */
#define WAKE_ONLY (DT_NOEND - 1)

extern void wake_at_commit(TimestampTz due);
extern void wake_start_at_commit(void);
extern void wake_sweep_at_commit(void);
extern bool wake_is_possible(void);

#endif /* SMS_WAKE_H */
