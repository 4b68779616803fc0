/*
 * room.c
 *		Makes room for those who want a database alone: DROP, RENAME, SET TABLESPACE,
 *		CREATE DATABASE from it; and for ALTER EXTENSION UPDATE.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/extension.h"
#include "base/wait_event.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "tcop/utility.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "wake/slot.h"
#include "wake/wake.h"
#include "worker/room.h"

#define ROOM        6000 /* ms that a command waits at most for other sessions, and one more second */
#define GENTLE_EXIT 5000 /* ms that a worker takes at most to end while its requests do */

static object_access_hook_type previous_access_hook = NULL;
static ProcessUtility_hook_type previous_utility_hook = NULL;

/*
 * Ends the worker of a database for a while: long enough for a command that
 * waits up to 5 s for other sessions to go.  What was on its way is settled by
 * the next worker, if there is a database for it then; or, if there is no hurry, the worker
 * lets it come to its end.  Returns the slot, or NULL if nobody ran.
 */
static WorkerSlot *
make_room(Oid database, bool hurry)
{
	TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ROOM);
	WorkerSlot *slot;

	if (slot_table == NULL || !OidIsValid(database))
		return NULL;
	slot = slot_find(database);
	if (slot == NULL)
		return NULL;
	if (hurry)
		pg_atomic_write_u64(&slot->hurry, (uint64) until);
	pg_atomic_write_u64(&slot->not_before, (uint64) until);
	return slot_end_worker(slot) ? slot : NULL;
}

/* The tables are about to change: lets the worker finish what it has under way, and go. */
static void
await_worker_exit(void)
{
	WorkerSlot *slot = make_room(MyDatabaseId, false);
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), GENTLE_EXIT);

	while (slot != NULL && pg_atomic_read_u32(&slot->worker) != 0 && GetCurrentTimestamp() < end)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10,
						 wait_event(WAIT_WORKER_EXIT));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* DROP DATABASE: called after its permission check, before it counts sessions. */
static void
on_object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (previous_access_hook)
		previous_access_hook(access, class, object, sub, arg);
	if (access != OAT_DROP || class != DatabaseRelationId)
		return;
	make_room(object, true);
	wake_sweep_at_commit(); /* its place is free then */
}

static bool
may_create_databases(Oid role)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool may = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return may || superuser_arg(role);
}

/*
 * Other commands that need a database without sessions have no hook of their own.  Returns the database
 * that such a command will have alone, by the checks that the server makes itself before it
 * waits for sessions to go: who is refused ends no worker.
 */
static Oid
database_wanted_alone(Node *statement)
{
	const char *name = NULL;
	bool creates = true; /* it takes CREATEDB */
	ListCell *lc;
	Oid database;

	if (IsA(statement, RenameStmt) && ((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
		name = ((RenameStmt *) statement)->subname;
	else if (IsA(statement, AlterDatabaseStmt))
	{
		foreach (lc, ((AlterDatabaseStmt *) statement)->options)
		{
			if (strcmp(((DefElem *) lfirst(lc))->defname, "tablespace") == 0)
				name = ((AlterDatabaseStmt *) statement)->dbname;
		}
		creates = false;
	}
	else if (IsA(statement, CreatedbStmt))
	{
		foreach (lc, ((CreatedbStmt *) statement)->options)
		{
			DefElem *option = lfirst(lc);

			if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
				name = defGetString(option);
		}
	}
	database = name != NULL ? get_database_oid(name, true) : InvalidOid;
	/* A session may copy the database that it is in, and do nothing else of this to it. */
	if (!OidIsValid(database) || (database == MyDatabaseId && !IsA(statement, CreatedbStmt)))
		return InvalidOid;
	/* What is marked as a template may be copied by others, but no worker is there. */
	if (compat_owns_database(database, GetUserId()) && (!creates || may_create_databases(GetUserId())))
		return database;
	return InvalidOid;
}

/*
 * A prepared transaction has committed, and what it was to tell is forgotten: it may have queued messages,
 * due since long ago, or have brought the extension.
 */
static void
wake_for_prepared(void)
{
	if (!OidIsValid(get_extension_oid(EXTENSION_NAME, true)))
		return;
	wake_at_commit(DT_NOBEGIN);
	wake_start_at_commit();
}

static void
on_utility(PlannedStmt *statement, const char *query, bool read_only_tree, ProcessUtilityContext context,
		   ParamListInfo params, QueryEnvironment *environment, DestReceiver *receiver,
		   QueryCompletion *completion)
{
	Node *node = statement->utilityStmt;
	bool prepared =
		IsA(node, TransactionStmt) && ((TransactionStmt *) node)->kind == TRANS_STMT_COMMIT_PREPARED;
	bool update = IsA(node, AlterExtensionStmt) &&
				  strcmp(((AlterExtensionStmt *) node)->extname, EXTENSION_NAME) == 0 && superuser();

	if (IsA(node, RenameStmt) || IsA(node, AlterDatabaseStmt) || IsA(node, CreatedbStmt))
		make_room(database_wanted_alone(node), true);
	/* It may be one that is served now, or not any more. */
	if (IsA(node, AlterDatabaseStmt) ||
		(IsA(node, RenameStmt) && ((RenameStmt *) node)->renameType == OBJECT_DATABASE))
		wake_sweep_at_commit();
	if (update)
		await_worker_exit();
	if (previous_utility_hook)
		previous_utility_hook(statement, query, read_only_tree, context, params, environment, receiver,
							  completion);
	else
		standard_ProcessUtility(statement, query, read_only_tree, context, params, environment, receiver,
								completion);
	if (prepared)
		wake_for_prepared();
	if (update)
		wake_start_at_commit();
}

/* Has DROP DATABASE and its like make room; called while the library is preloaded. */
void
room_init(void)
{
	previous_access_hook = object_access_hook;
	object_access_hook = on_object_access;
	previous_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = on_utility;
}
