/*
 * scope.c
 *		As whom, and with which settings, the extension's own SQL is run: as the
 *		owner of the tables, with settings that the plans were made for.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "base/settings.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "commands/trigger.h"
#include "db/home.h"
#include "db/scope.h"
#include "db/sql.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#define PINNED_PATH "pg_catalog, pg_temp"

/* Each plan has one good form, whatever the statistics say. */
static void
pin_planner(GucAction action)
{
	static const char *const off[] = {
		"enable_seqscan",  "enable_bitmapscan", "enable_sort", "enable_incremental_sort",
		"enable_hashjoin", "enable_mergejoin",  "jit",
	};

	for (int i = 0; i < (int) lengthof(off); i++)
		sql_set(off[i], "off", action);
	sql_set("plan_cache_mode", "force_generic_plan", action);
	sql_set("search_path", PINNED_PATH, action);
}

static Oid
outbox_owner(Oid schema)
{
	Oid table = get_relname_relid("sms_outbox", schema);
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table sms_outbox does not exist")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Tells that the tables here are of another version than the library. */
static void
tell_version(int elevel, const char *version)
{
	ereport(elevel,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("sms_gateway %s in this database is not served by the library of version %s", version,
					SMS_GATEWAY_VERSION),
			 errhint("Update it with ALTER EXTENSION sms_gateway UPDATE; restart the server if the library "
					 "was replaced.")));
}

/*
 * Begins the worker's part of a transaction, if it is OUTBOX_READY; why it is held is
 * reported at the given level.
 * Locks the extension, so that DROP EXTENSION waits for this transaction only.
 */
OutboxState
scope_enter_worker(int elevel)
{
	Oid extension;
	Oid schema;
	char *version;

	/* Nobody else's lock holds us up for long: we come back. */
	sql_set("lock_timeout", "200ms", GUC_ACTION_LOCAL);
	if (!home_find_extension(&extension, &schema, &version))
		return OUTBOX_GONE;
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	if (!home_find_extension(&extension, &schema, &version))
		return OUTBOX_GONE;
	if (strcmp(version, SMS_GATEWAY_VERSION) != 0)
	{
		tell_version(elevel, version);
		return OUTBOX_HELD;
	}
	home_forget(); /* a dump may be loaded while we run: that adds a row, and invalidates nothing */
	if (!home_is_ours())
	{
		home_complain(elevel);
		return OUTBOX_HELD;
	}
	sql_forget_plans(extension, schema);
	sql_connect();
	pin_planner(GUC_ACTION_LOCAL);
	sql_set("session_replication_role", "origin", GUC_ACTION_LOCAL);
	/* Deferred triggers would run at commit, as whoever we are then. */
	AfterTriggerSetState(makeNode(ConstraintsSetStmt));
	/* Claims have to be durable; remote_apply, if that is set, stays. */
	if (synchronous_commit < SYNCHRONOUS_COMMIT_ON)
		sql_set("synchronous_commit", "on", GUC_ACTION_LOCAL);
	SetUserIdAndSecContext(outbox_owner(schema), SECURITY_LOCAL_USERID_CHANGE);
	return OUTBOX_READY;
}

/* Ends what scope_enter_worker() began; the caller restores the user after commit. */
void
scope_leave_worker(void)
{
	sql_disconnect();
}

/*
 * Begins work on behalf of a user; the caller's rights have been checked.  Raises 42704 where the extension is not;
 * where "served" is asked for, also 55000 where it is of another version.
 */
static void
enter(OwnerScope *scope, bool served)
{
	Oid extension;
	Oid schema;
	char *version;

	if (!home_find_extension(&extension, &schema, &version))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("extension sms_gateway is not in this database")));
	if (served && strcmp(version, SMS_GATEWAY_VERSION) != 0)
		tell_version(ERROR, version);
	sql_forget_plans(extension, schema);
	GetUserIdAndSecContext(&scope->user, &scope->security);
	SetUserIdAndSecContext(outbox_owner(schema), scope->security | SECURITY_LOCAL_USERID_CHANGE);
	scope->guc_level = NewGUCNestLevel();
	pin_planner(GUC_ACTION_SAVE);
	sql_connect();
}

/* Raises 55000 where the tables are of another version: what is not queued needs them. */
void
scope_require_served(void)
{
	Oid extension;
	Oid schema;
	char *version;

	if (home_find_extension(&extension, &schema, &version) && strcmp(version, SMS_GATEWAY_VERSION) != 0)
		tell_version(ERROR, version);
}

/* Begins work on behalf of a user, as enter() says, with tables of this version. */
void
scope_enter(OwnerScope *scope)
{
	enter(scope, true);
}

/* The same with tables of any version: for what all have alike. */
void
scope_enter_any(OwnerScope *scope)
{
	enter(scope, false);
}

/* Ends what scope_enter() began; after an error the transaction's end does. */
void
scope_leave(OwnerScope *scope)
{
	sql_disconnect();
	AtEOXact_GUC(true, scope->guc_level);
	SetUserIdAndSecContext(scope->user, scope->security);
}
