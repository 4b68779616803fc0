/*
 * lock.h
 *		Tables that somebody may have locked.
 */
#ifndef SMS_LOCK_H
#define SMS_LOCK_H

#include "postgres.h"

#include "storage/lockdefs.h"

extern void lock_table(Oid table, const char *name, LOCKMODE mode);

#endif /* SMS_LOCK_H */
