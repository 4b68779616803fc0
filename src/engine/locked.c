/*
 * locked.c
 *		What a transaction of the engine does where somebody has locked a table, or another error meets it.
 */
#include "postgres.h"

#include "db/lock.h"
#include "db/sql.h"
#include "engine/locked.h"
#include "utils/syscache.h"

/* In a transaction, before it enters the worker's scope, which reads this table: raises 55P03 if somebody has locked it. */
void
locked_check(const Engine *engine)
{
	if (OidIsValid(engine->identity) && SearchSysCacheExists1(RELOID, ObjectIdGetDatum(engine->identity)))
		lock_table(engine->identity, "sms_gateway_identity", AccessShareLock);
}

/*
 * Does the work of a transaction of the engine.  A host that keeps errors has its own transaction go on after one: false
 * then, and the work is undone.  Else, and where this process is interrupted, errors are raised.
 */
bool
locked_try(Engine *engine, void (*work)(void *), void *arg)
{
	ErrorData *error;

	if (engine->host->keep == NULL)
	{
		work(arg);
		return true;
	}
	error = sql_try(work, arg, 0);
	if (error == NULL)
		return true;
	engine->locked = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	engine->host->keep(error);
	return false;
}

/*
 * In a PG_CATCH block: a transaction of the engine has met an error.  That somebody has locked a table is told by a
 * worker once, until a round succeeds.
 */
void
locked_take_error(Engine *engine)
{
	bool locked = geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE;
	bool told = locked && engine->locked;

	engine->locked = locked;
	if (told && !engine->host->ends_when_done)
		engine->host->commit_failed();
	else
		engine->host->failed();
}

/* The same of a round's commit, and in a host that keeps errors. */
void
locked_take_commit_error(Engine *engine)
{
	MemoryContext context = MemoryContextSwitchTo(engine->scratch);
	ErrorData *error = CopyErrorData();

	if (engine->host->keep == NULL || error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		locked_take_error(engine);
	else
	{
		engine->host->commit_failed();
		engine->host->keep(error);
	}
	MemoryContextSwitchTo(context);
}
