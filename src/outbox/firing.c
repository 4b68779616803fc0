/*
 * firing.c
 *		Changes of messages, and the triggers that users put on the outbox.
 *
 * Such triggers run as who queued the message where the table's owner is a superuser, and one that
 * fails costs no outcome.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "db/home.h"
#include "miscadmin.h"
#include "outbox/firing.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

static Statement firing_lock_row = {
	.sql = "SELECT 1 FROM @sms_outbox WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED",
	.args = {INT8OID},
};

/* How triggers that UPDATEs of the outbox fire are to be run. */
TriggerMode
firing_mode(void)
{
	Relation table = table_open(home_relation("sms_outbox"), AccessShareLock);
	TriggerDesc *triggers = table->trigdesc;
	Oid owner = table->rd_rel->relowner;
	bool any =
		triggers != NULL && (triggers->trig_update_before_row || triggers->trig_update_after_row ||
							 triggers->trig_update_before_statement || triggers->trig_update_after_statement);

	table_close(table, AccessShareLock);
	if (!any)
		return TRIGGERS_NONE;
	return superuser_arg(owner) ? TRIGGERS_AS_CREATOR : TRIGGERS_AS_OWNER;
}

static bool
belongs_to_superuser(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool super;

	if (!HeapTupleIsValid(tuple))
		return false;
	super = superuser_arg(((Form_pg_proc) GETSTRUCT(tuple))->proowner);
	ReleaseSysCache(tuple);
	return super;
}

/*
 * May the outbox's triggers run as this role?  As a superuser only what superusers have
 * written: whoever may create triggers could else become one.
 */
static bool
may_run_triggers(Oid role)
{
	Relation table;
	bool may = true;

	if (!OidIsValid(role))
		return false;
	if (!superuser_arg(role))
		return true;
	table = table_open(home_relation("sms_outbox"), AccessShareLock);
	for (int i = 0; may && table->trigdesc != NULL && i < table->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &table->trigdesc->triggers[i];

		may = !TRIGGER_FOR_UPDATE(trigger->tgtype) || belongs_to_superuser(trigger->tgfoid);
	}
	table_close(table, AccessShareLock);
	return may;
}

/* Would an error, which no trigger of the user's has raised, meet every other message too? */
static bool
is_of_all(int sqlstate)
{
	return sqlstate == ERRCODE_DISK_FULL || sqlstate == ERRCODE_OUT_OF_MEMORY || sqlstate == ERRCODE_IO_ERROR;
}

/*
 * Makes a change, inside a subtransaction.  With an id it is for this message alone: false, and
 * nothing is done, if somebody else holds its row, or it is no more.
 */
static bool
make_change(const Change *change, int64 only, Oid role, bool with_triggers)
{
	Datum id = Int64GetDatum(only);

	if (only != 0 && !sql_any(&firing_lock_row, &id))
		return false;
	if (!with_triggers)
		sql_set("session_replication_role", "replica", GUC_ACTION_LOCAL);
	sql_run_firing(change->statement, change->values, change->rows, role);
	if (!with_triggers)
		sql_set("session_replication_role", "origin", GUC_ACTION_LOCAL);
	return true;
}

/*
 * The error of a change that failed: told if it met one message alone, thrown again if it is none
 * that another try can do without.
 */
static void
take_error(ErrorData *error, int64 only, bool with_triggers)
{
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN ||
		(!with_triggers && is_of_all(error->sqlerrcode)))
		ReThrowError(error);
	if (only != 0)
		ereport(WARNING, (errcode(error->sqlerrcode),
						  errmsg("could not record message %lld%s: %s", (long long) only,
								 with_triggers ? "" : ", even without triggers", error->message)));
	FreeErrorData(error);
}

/*
 * Makes a change in a subtransaction; false if it failed.  With an id it is for this message
 * alone: then a row that somebody holds makes this one wait, not everybody else.
 */
static bool
try_change(const Change *change, int64 only, Oid role, bool with_triggers)
{
	MemoryContext caller = CurrentMemoryContext;
	/* A statement that fails leaves its executor behind. */
	MemoryContext context = AllocSetContextCreate(caller, "sms_gateway statement", ALLOCSET_DEFAULT_SIZES);
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		ok = make_change(change, only, role, with_triggers);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		/* A copy that is thrown again is pointed to until it is reported: no context of ours lives as long. */
		MemoryContextSwitchTo(TopTransactionContext);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		take_error(error, only, with_triggers);
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	CurrentResourceOwner = owner;
	return ok;
}

/* Tries to make a change of messages of one creator, or, unless triggers run as the creator, of any. */
bool
firing_try_together(const Change *change, TriggerMode mode, Oid creator)
{
	if (mode != TRIGGERS_AS_CREATOR)
		return try_change(change, 0, InvalidOid, true);
	if (may_run_triggers(creator))
		return try_change(change, 0, creator, true);
	ereport(WARNING,
			(errmsg("triggers on sms_outbox are passed over for messages of role \"%s\"",
					OidIsValid(creator) ? GetUserNameFromId(creator, false) : "that is no more"),
			 errdetail("They would run as a superuser, and not all of their functions belong to one.")));
	return try_change(change, 0, InvalidOid, false);
}

/*
 * Tries to make a change of one message: a trigger that fails is passed over rather than the outcome
 * lost.  False if that failed too, or somebody else holds the row: a warning told of an error.
 */
bool
firing_try_alone(const Change *change, int64 id, TriggerMode mode, Oid creator)
{
	Oid role = mode == TRIGGERS_AS_CREATOR ? creator : InvalidOid;
	bool with_triggers = mode != TRIGGERS_AS_CREATOR || may_run_triggers(creator);

	return (with_triggers && try_change(change, id, role, true)) || try_change(change, id, InvalidOid, false);
}

/* Tries to make a change that no trigger hears of; false if it failed. */
bool
firing_try_without(const Change *change)
{
	return try_change(change, 0, InvalidOid, false);
}

/*
 * Makes a change for a user: triggers run as that user, where the owner is a superuser.  Their
 * errors are the user's.
 */
void
firing_run(const Change *change, Oid role)
{
	TriggerMode mode = firing_mode();

	if (mode == TRIGGERS_AS_CREATOR && !may_run_triggers(role))
		firing_try_together(change, mode, role);
	else
		sql_run_firing(change->statement, change->values, change->rows,
					   mode == TRIGGERS_AS_CREATOR ? role : InvalidOid);
}
