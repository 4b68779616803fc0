/*
 * transact.h
 *		The transactions of the engine.
 */
#ifndef SMS_TRANSACT_H
#define SMS_TRANSACT_H

#include "engine/state.h"

/* What is done in a transaction; false if what it did does not count, though it may stand. */
typedef bool (*TransactWork)(Engine *engine, void *arg);

/* In a PG_CATCH block: the commit has met an error. */
typedef void (*TransactCommitError)(Engine *engine, void *arg);

extern bool transact(Engine *engine, TransactWork work, TransactCommitError commit_error, void *arg);
extern void transact_take_error(Engine *engine);

#endif /* SMS_TRANSACT_H */
