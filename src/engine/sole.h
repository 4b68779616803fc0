/*
 * sole.h
 *		One engine for a database.
 */
#ifndef SMS_SOLE_H
#define SMS_SOLE_H

#include "postgres.h"

extern bool engine_lock(bool wait);
extern void engine_lock_in_transaction(void);
extern void engine_lock_again(void);
extern void engine_unlock(void);

#endif /* SMS_SOLE_H */
