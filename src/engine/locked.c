/*
 * locked.c
 *		What a transaction of the engine does where somebody has locked a table.
 */
#include "postgres.h"

#include "db/lock.h"
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
 * In a PG_CATCH block: a transaction of the engine has met an error.  That somebody has locked a table is told by a
 * worker once, until a round succeeds.
 */
void
locked_take_error(Engine *engine)
{
	bool locked = geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE;
	bool told = locked && engine->lock_told;

	engine->lock_told = locked;
	if (told && !engine->host->ends_when_done)
		engine->host->commit_failed();
	else
		engine->host->failed();
}
