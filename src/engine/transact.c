/*
 * transact.c
 *		The transactions of the engine: rounds and chores are run in one each, which holds the engine's lock.
 *
 * Somebody may have locked a table that all need; a worker tells that once, until a round succeeds.
 */
#include "postgres.h"

#include "db/lock.h"
#include "db/sql.h"
#include "engine/sole.h"
#include "engine/transact.h"
#include "miscadmin.h"
#include "outbox/event.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* A transaction that is being run. */
typedef struct Transaction
{
	Engine *engine;
	TransactWork work;
	void *arg;
	bool done;
} Transaction;

static void
do_work(void *arg)
{
	Transaction *transaction = arg;
	Engine *engine = transaction->engine;

	/* The worker's scope, which is entered next, reads this table. */
	if (OidIsValid(engine->identity) && SearchSysCacheExists1(RELOID, ObjectIdGetDatum(engine->identity)))
		lock_table(engine->identity, "sms_gateway_identity", AccessShareLock);
	transaction->done = transaction->work(engine, transaction->arg);
}

/*
 * Does the work.  A host that keeps errors has its own transaction go on after one: false then, and the work is undone.
 * Else, and where this process is interrupted, errors are raised.
 */
static bool
try_work(Transaction *transaction)
{
	Engine *engine = transaction->engine;
	ErrorData *error;

	if (engine->host->keep == NULL)
	{
		do_work(transaction);
		return transaction->done;
	}
	error = sql_try(do_work, transaction, 0);
	if (error == NULL)
		return transaction->done;
	engine->locked = error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	engine->host->keep(error);
	return false;
}

/* In a PG_CATCH block: a transaction of the engine has met an error, which goes where its host lets it go. */
void
transact_take_error(Engine *engine)
{
	bool locked = geterrcode() == ERRCODE_LOCK_NOT_AVAILABLE;
	bool told = locked && engine->locked;

	engine->locked = locked;
	if (told && !engine->host->ends_when_done)
		engine->host->commit_failed();
	else
		engine->host->failed();
}

/*
 * Runs work in one transaction of the host's.  Returns whether it committed, and counts; if not, and the host goes on, its
 * events have not happened.
 */
bool
transact(Engine *engine, TransactWork work, TransactCommitError commit_error, void *arg)
{
	const EngineHost *host = engine->host;
	Transaction transaction = {.engine = engine, .work = work, .arg = arg};
	volatile bool committing = false;
	volatile bool committed = false;
	Oid user;
	int security;

	GetUserIdAndSecContext(&user, &security);
	host->begin();
	PG_TRY();
	{
		bool done;

		engine_lock_in_transaction();
		PushActiveSnapshot(GetTransactionSnapshot());
		done = try_work(&transaction);
		PopActiveSnapshot();
		committing = true;
		engine_lock_again();
		host->commit(user, security);
		committed = done;
		event_settle(done);
	}
	PG_CATCH();
	{
		event_settle(false);
		if (committing)
			commit_error(engine, arg);
		else
			transact_take_error(engine);
	}
	PG_END_TRY();
	engine_lock_again();
	MemoryContextSwitchTo(engine->scratch);
	host->ended();
	return committed;
}
