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
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "db/home.h"
#include "db/limit.h"
#include "miscadmin.h"
#include "outbox/cascade.h"
#include "outbox/firing.h"
#include "storage/ipc.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "wake/slot.h"

/* Above a round's lock_timeout: who meets a lock is told from who takes long. */
#define TIME_LEAST 20.0   /* ms that triggers may take for messages written together, or for one … */
#define TIME_MOST  200.0  /* … as long as they keep to that */
#define TIME_PLAIN 1000.0 /* ms that a change of one message may take which none of them hears of */

/* What triggers may take now: less and less where they take too long, and more again where they do not. */
static double time_for_triggers = TIME_MOST;

static Statement firing_lock_row = {
	.sql = "SELECT 1 FROM @sms_outbox WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED",
	.args = {INT8OID},
};

/* A trigger that cannot be stopped ends the process: then none is called for a while, in no process of the database. */
#define DEAF (10 * USECS_PER_MINUTE)

static WorkerSlot *deaf_slot; /* of this database; NULL: none is known */

static void
note_deadly_trigger(int code, Datum arg)
{
	(void) code;
	(void) arg;
	if (limit_is_deadly() && deaf_slot != NULL)
		pg_atomic_write_u64(&deaf_slot->deaf_until, (uint64) (GetCurrentTimestamp() + DEAF));
}

/* Are triggers of users' passed over now, because one of them could not be stopped? */
static bool
is_deaf(void)
{
	static bool watched = false;
	static TimestampTz told = 0;
	TimestampTz until;

	if (!watched)
	{
		deaf_slot = slot_table != NULL ? slot_of(MyDatabaseId) : NULL;
		before_shmem_exit(note_deadly_trigger, (Datum) 0);
		watched = true;
	}
	until = deaf_slot != NULL ? (TimestampTz) pg_atomic_read_u64(&deaf_slot->deaf_until) : 0;
	if (until <= GetCurrentTimestamp())
		return false;
	if (told != until)
		ereport(WARNING,
				(errmsg("triggers on sms_outbox are passed over until %s", timestamptz_to_str(until)),
				 errdetail("One of them could not be stopped, and the process that ran it was ended.")));
	told = until;
	return true;
}

static TriggerMode
mode_for(bool deletes)
{
	Relation table = table_open(home_relation("sms_outbox"), AccessShareLock);
	Oid owner = table->rd_rel->relowner;
	bool any = sql_fires(table->trigdesc, deletes);

	table_close(table, AccessShareLock);
	if (!any)
		return TRIGGERS_NONE;
	return superuser_arg(owner) ? TRIGGERS_AS_CREATOR : TRIGGERS_AS_OWNER;
}

/* How triggers that UPDATEs of the outbox fire are to be run. */
TriggerMode
firing_mode(void)
{
	return mode_for(false);
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

/* Is it all of superusers', with nothing of whoever made the trigger? */
static bool
is_superusers(const Trigger *trigger)
{
	return trigger->tgnargs == 0 && trigger->tgqual == NULL && belongs_to_superuser(trigger->tgfoid);
}

/*
 * May the outbox's triggers run as this role?  As a superuser only what superusers have
 * written: whoever may create triggers could else become one.  Never as a role of the server's own.
 */
static bool
may_run_triggers(Oid role, bool deletes)
{
	Relation table;
	bool may = true;

	if (!OidIsValid(role))
		return false;
	if (!superuser_arg(role))
		return role >= FirstNormalObjectId;
	table = table_open(home_relation("sms_outbox"), AccessShareLock);
	for (int i = 0; may && table->trigdesc != NULL && i < table->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &table->trigdesc->triggers[i];

		may = !sql_calls(trigger, deletes) || is_superusers(trigger);
	}
	table_close(table, AccessShareLock);
	return may;
}

/* Does anybody's table refer to messages, so that one cannot go without the triggers that see to that? */
static bool
is_referred_to(void)
{
	Relation table = table_open(home_relation("sms_outbox"), AccessShareLock);
	bool referred = false;

	for (int i = 0; !referred && table->trigdesc != NULL && i < table->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &table->trigdesc->triggers[i];

		referred = trigger->tgisinternal && TRIGGER_FOR_DELETE(trigger->tgtype);
	}
	table_close(table, AccessShareLock);
	return referred;
}

/* Would an error, which no trigger of the user's has raised, meet every other message too? */
static bool
is_of_all(int sqlstate)
{
	return sqlstate == ERRCODE_DISK_FULL || sqlstate == ERRCODE_OUT_OF_MEMORY || sqlstate == ERRCODE_IO_ERROR;
}

/* Makes a change that no trigger hears of, unless it is one that is always enabled; errors are the caller's. */
void
firing_run_unheard(const Change *change)
{
	int guc_level = NewGUCNestLevel();

	sql_set("session_replication_role", "replica", GUC_ACTION_SAVE);
	sql_run_firing(change->statement, change->values, change->rows, InvalidOid);
	AtEOXact_GUC(false, guc_level);
}

/* Tells that a role's messages change without the triggers that they have. */
static void
warn_unheard(Oid role)
{
	ereport(WARNING,
			(OidIsValid(role)
				 ? errmsg("skipping triggers on \"sms_outbox\" for messages of role \"%s\"",
						  GetUserNameFromId(role, false))
				 : errmsg("skipping triggers on \"sms_outbox\" for messages of a role that does not exist"),
			 errdetail("They would run as a superuser, but not all of their functions are owned by one.")));
}

/* A change that is tried. */
typedef struct Attempt
{
	const Change *change;
	TriggerMode mode;
	int64 only; /* for this message alone; 0: for all */
	Oid role;
	bool with_triggers;
	bool held; /* somebody else holds its row, or it is no more */
} Attempt;

/* Makes a change, inside a subtransaction.  With an id nothing is done if somebody else holds its row. */
static void
make_change(void *arg)
{
	Attempt *attempt = arg;
	const Change *change = attempt->change;
	Datum id = Int64GetDatum(attempt->only);

	attempt->held = attempt->only != 0 && !sql_any(&firing_lock_row, &id);
	if (attempt->held)
		return;
	if (attempt->with_triggers)
		sql_run_firing(change->statement, change->values, change->rows, attempt->role);
	else
		firing_run_unheard(change);
}

/* How long may a change take?  Without limit, if all that could take long is the server. */
static double
time_to_try(const Attempt *attempt)
{
	if (attempt->mode == TRIGGERS_NONE)
		return 0;
	if (!attempt->with_triggers)
		return attempt->only != 0 ? TIME_PLAIN : 0;
	return time_for_triggers;
}

/* Triggers have kept to their time, or not. */
static void
learn_time(const Attempt *attempt, const ErrorData *error)
{
	if (!attempt->with_triggers || attempt->mode == TRIGGERS_NONE)
		return;
	if (error == NULL)
		time_for_triggers = Min(time_for_triggers * 1.25, TIME_MOST);
	else if (sql_is_late(error))
		time_for_triggers = Max(time_for_triggers / 2, TIME_LEAST);
}

/* What an error of a change of one message means. */
static Fired
judge_error(const ErrorData *error)
{
	switch (error->sqlerrcode)
	{
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_T_R_DEADLOCK_DETECTED:
		case ERRCODE_T_R_SERIALIZATION_FAILURE:
			return FIRED_LATER;
		case ERRCODE_UNIQUE_VIOLATION:
			if (error->constraint_name != NULL &&
				strcmp(error->constraint_name, "sms_outbox_request_id") == 0)
				return FIRED_CLASH;
			return FIRED_FAILED;
		default:
			return FIRED_FAILED;
	}
}

/* Tells that a change of one message has failed, and where: its context names the trigger's function. */
static void
warn_failed(const Attempt *attempt, const ErrorData *error)
{
	long long id = (long long) attempt->only;
	bool of_trigger = attempt->with_triggers && attempt->mode != TRIGGERS_NONE;

	ereport(
		WARNING,
		(errcode(error->sqlerrcode),
		 of_trigger
			 ? errmsg("triggers on sms_outbox failed for message %lld, which is recorded without them: %s",
					  id, error->message)
			 : errmsg("could not record message %lld: %s", id, error->message),
		 of_trigger && error->context != NULL ? errdetail_log("%s", error->context) : 0));
}

/*
 * Tries a change in a subtransaction.  An error is told if it met one message alone, and another try may not
 * go better ("patient"); it is thrown again if no other try can do without.
 */
static Fired
try_change(Attempt *attempt, bool patient)
{
	ErrorData *error = sql_try(make_change, attempt, time_to_try(attempt));
	Fired fired;

	learn_time(attempt, error);
	if (error == NULL)
		return attempt->held ? FIRED_HELD : FIRED_OK;
	if (!attempt->with_triggers && is_of_all(error->sqlerrcode))
		ReThrowError(error);
	fired = judge_error(error);
	if (fired == FIRED_LATER && !patient)
		fired = FIRED_FAILED;
	if (attempt->only != 0 && fired == FIRED_FAILED)
		warn_failed(attempt, error);
	FreeErrorData(error);
	return fired;
}

/* Tries to make a change of any messages; false if it failed, and then nothing is told. */
static bool
try_of_all(const Change *change, TriggerMode mode, Oid role, bool with_triggers)
{
	Attempt attempt = {.change = change, .mode = mode, .role = role, .with_triggers = with_triggers};

	return try_change(&attempt, true) == FIRED_OK;
}

/* Tries to make a change of messages of one creator, or, unless triggers run as the creator, of any. */
bool
firing_try_together(const Change *change, TriggerMode mode, Oid creator)
{
	if (mode != TRIGGERS_NONE && is_deaf())
		return try_of_all(change, mode, InvalidOid, false);
	if (mode != TRIGGERS_AS_CREATOR)
		return try_of_all(change, mode, InvalidOid, true);
	if (may_run_triggers(creator, false))
		return try_of_all(change, mode, creator, true);
	warn_unheard(creator);
	return try_of_all(change, mode, InvalidOid, false);
}

/*
 * Tries to make a change of one message.  A trigger that fails is passed over rather than the outcome lost; one
 * that has met a lock is not yet, if the caller is "patient" and tries again.
 */
Fired
firing_try_alone(const Change *change, int64 id, TriggerMode mode, Oid creator, bool patient)
{
	Attempt attempt = {.change = change, .mode = mode, .only = id};
	Fired fired = FIRED_FAILED;

	if (mode == TRIGGERS_NONE ||
		(!is_deaf() && (mode != TRIGGERS_AS_CREATOR || may_run_triggers(creator, false))))
	{
		attempt.role = mode == TRIGGERS_AS_CREATOR ? creator : InvalidOid;
		attempt.with_triggers = true;
		fired = try_change(&attempt, patient && mode != TRIGGERS_NONE);
	}
	if (fired != FIRED_FAILED)
		return fired;
	attempt.role = InvalidOid;
	attempt.with_triggers = false;
	return try_change(&attempt, false);
}

/*
 * Makes a change for a user: triggers run as that user, where the owner is a superuser.  Their
 * errors are the user's.
 */
void
firing_run(const Change *change, Oid role)
{
	TriggerMode mode = firing_mode();

	if (mode == TRIGGERS_AS_CREATOR && !may_run_triggers(role, false))
	{
		warn_unheard(role);
		firing_run_unheard(change);
	}
	else
		sql_run_firing(change->statement, change->values, change->rows,
					   mode == TRIGGERS_AS_CREATOR ? role : InvalidOid);
}

/*
 * Deletes messages of one creator.  Triggers run as for other changes; their errors are the caller's.  Where a foreign
 * key takes along code that may not run as the same role, all runs as a role that may do nothing.
 * Returns false if triggers must not run, and a foreign key not go without: then nothing is deleted, and a
 * warning says so.
 */
bool
firing_delete(const Change *change, Oid creator)
{
	TriggerMode mode = mode_for(true);
	Oid role = mode == TRIGGERS_AS_CREATOR ? creator : InvalidOid;

	if (!cascade_is_trusted(OidIsValid(role) ? role : GetUserId()))
	{
		sql_run_firing(change->statement, change->values, change->rows, ROLE_PG_STAT_SCAN_TABLES);
		return true;
	}
	if (mode == TRIGGERS_NONE ||
		(!is_deaf() && (mode == TRIGGERS_AS_OWNER || may_run_triggers(creator, true))))
	{
		sql_run_firing(change->statement, change->values, change->rows, role);
		return true;
	}
	if (is_referred_to())
	{
		static bool told = false;

		if (!told)
			ereport(
				WARNING,
				(errmsg("messages of superusers, or of roles that are gone, are not deleted"),
				 errdetail("Triggers on sms_outbox must not run for them, and a foreign key refers to it.")));
		told = true;
		return false;
	}
	firing_run_unheard(change);
	return true;
}
