/*
 * outbox_record.c
 *		What has become of messages is written onto their rows, and told.
 *
 * Users may have triggers on the outbox.  They run as who queued the message where
 * the table's owner is a superuser, and one that fails costs no outcome.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "miscadmin.h"
#include "base/encoding.h"
#include "db/home.h"
#include "db/sql.h"
#include "outbox/cleanup.h"
#include "outbox/record.h"
#include "provider/table.h"
#include "base/extension.h"
#include "text/details.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(sms_gateway_results);
PG_FUNCTION_INFO_V1(sms_gateway_reports);
PG_FUNCTION_INFO_V1(sms_gateway_redacts);

/* What the statement under way writes: see write_rows(). */
static struct
{
	Statement plan; /* PLAN_RECORD: OutboxItems; PLAN_FOLLOW: FollowUps */
	dlist_head *rows;
	const RowWrite *only; /* NULL: all of "creator" */
	const Oid *creator;   /* NULL: anybody's */
} writing;

/* ------------------------------------------------------------------------
 * Triggers
 * ------------------------------------------------------------------------ */

/* How triggers of the user's on the outbox are to be run. */
typedef enum TriggerMode
{
	TRIGGERS_NONE, /* there are none */
	TRIGGERS_AS_OWNER,
	TRIGGERS_AS_CREATOR, /* the owner is a superuser */
} TriggerMode;

static TriggerMode
trigger_mode(void)
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
	for (int i = 0; table->trigdesc != NULL && i < table->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &table->trigdesc->triggers[i];
		HeapTuple function = SearchSysCache1(PROCOID, ObjectIdGetDatum(trigger->tgfoid));

		if (!TRIGGER_FOR_UPDATE(trigger->tgtype))
		{
			if (HeapTupleIsValid(function))
				ReleaseSysCache(function);
			continue;
		}
		may = may && HeapTupleIsValid(function) &&
			  superuser_arg(((Form_pg_proc) GETSTRUCT(function))->proowner);
		if (HeapTupleIsValid(function))
			ReleaseSysCache(function);
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
 * Runs a statement that writes onto messages, in a subtransaction; false if it
 * failed.  With an id it is for this message alone: then a row that somebody holds
 * makes this one wait, not everybody else.
 */
static bool
try_statement(Statement plan, Datum *values, int64 only, Oid role, bool with_triggers)
{
	MemoryContext caller = CurrentMemoryContext;
	/* A statement that fails leaves its executor behind. */
	MemoryContext context = AllocSetContextCreate(caller, "sms_gateway statement", ALLOCSET_DEFAULT_SIZES);
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		bool present = true;

		if (only != 0)
		{
			Datum id = Int64GetDatum(only);

			sql_run(PLAN_ROW_FREE, &id);
			present = SPI_processed > 0;
			SPI_freetuptable(SPI_tuptable);
		}
		if (!with_triggers)
			sql_set("session_replication_role", "replica", GUC_ACTION_LOCAL);
		if (present)
			sql_run_firing(plan, values, role);
		if (!with_triggers)
			sql_set("session_replication_role", "origin", GUC_ACTION_LOCAL);
		ok = present;
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
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN ||
			(!with_triggers && is_of_all(error->sqlerrcode)))
			ReThrowError(error);
		if (only != 0)
			ereport(WARNING, (errcode(error->sqlerrcode),
							  errmsg("could not record message %lld%s: %s", (long long) only,
									 with_triggers ? "" : ", even without triggers", error->message)));
		FreeErrorData(error);
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	CurrentResourceOwner = owner;
	return ok;
}

/* The same for all messages of one creator, or all of them. */
static bool
try_together(Statement plan, Datum *values, TriggerMode mode, Oid creator)
{
	if (mode != TRIGGERS_AS_CREATOR)
		return try_statement(plan, values, 0, InvalidOid, true);
	if (may_run_triggers(creator))
		return try_statement(plan, values, 0, creator, true);
	ereport(WARNING,
			(errmsg("triggers on sms_outbox are passed over for messages of role \"%s\"",
					OidIsValid(creator) ? GetUserNameFromId(creator, false) : "that is no more"),
			 errdetail("They would run as a superuser, and not all of their functions belong to one.")));
	return try_statement(plan, values, 0, InvalidOid, false);
}

/* And for one message: a trigger that fails is passed over rather than the outcome lost. */
static bool
try_alone(Statement plan, int64 id, TriggerMode mode, Oid creator)
{
	Oid role = mode == TRIGGERS_AS_CREATOR ? creator : InvalidOid;
	bool with_triggers = mode != TRIGGERS_AS_CREATOR || may_run_triggers(creator);

	return (with_triggers && try_statement(plan, NULL, id, role, true)) ||
		   try_statement(plan, NULL, id, InvalidOid, false);
}

/* Changes a message for a user: triggers run as that user, where the owner is a superuser. */
void
outbox_fire(Statement plan, Datum *values, Oid role)
{
	TriggerMode mode = trigger_mode();

	if (mode == TRIGGERS_AS_CREATOR && !may_run_triggers(role))
		try_together(plan, values, mode, role);
	else
		sql_run_firing(plan, values, mode == TRIGGERS_AS_CREATOR ? role : InvalidOid);
}

/* ------------------------------------------------------------------------
 * What the statements read
 * ------------------------------------------------------------------------ */

static void
set_text(Datum *value, bool *isnull, const char *text)
{
	*isnull = text == NULL || text[0] == '\0';
	*value = *isnull ? (Datum) 0 : CStringGetTextDatum(from_utf8(text));
}

static void
set_time(Datum *value, bool *isnull, TimestampTz time)
{
	*isnull = time == 0;
	*value = TimestampTzGetDatum(time);
}

/* Is the text of a message blanked by its outcome? */
static bool
is_blanked(const OutboxItem *item)
{
	return item->new_status != STATUS_QUEUED && item->new_status != STATUS_UNCERTAIN &&
		   item->gateway != NULL && (item->gateway->redact || item->prepared.message.call == CALL_OTP);
}

/* Adds one outcome. */
static void
put_outcome(ReturnSetInfo *rsinfo, const OutboxItem *item)
{
	Datum values[16] = {0};
	bool nulls[16] = {0};
	NameData gateway;
	const Answer *answer = item->answer;

	values[0] = Int64GetDatum(item->row.id);
	values[1] = status_value(item->new_status, TupleDescAttr(rsinfo->setDesc, 1)->atttypid);
	values[2] = name_datum(&gateway, item->new_gateway ? item->new_gateway : item->gateway_name);
	values[3] = Int32GetDatum(item->attempts);
	set_time(&values[4], &nulls[4], item->next_attempt_at);
	set_text(&values[5], &nulls[5], answer->smsid);
	set_text(&values[6], &nulls[6], answer->id_omni_mess);
	set_text(&values[7], &nulls[7], answer->referent_id);
	set_text(&values[8], &nulls[8], answer->code);
	set_text(&values[9], &nulls[9], answer->message);
	values[10] = Int32GetDatum(answer->http_status);
	nulls[10] = answer->http_status == 0;
	set_time(&values[11], &nulls[11], item->sent_at);
	nulls[12] = item->new_details == NULL;
	if (!nulls[12])
		values[12] = DirectFunctionCall1(jsonb_in, CStringGetDatum(item->new_details));
	set_time(&values[13], &nulls[13], item->unsure_since);
	set_time(&values[14], &nulls[14], item->poll_at);
	values[15] = BoolGetDatum(is_blanked(item));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* Is this row among what the statement under way writes? */
static bool
is_written(const RowWrite *row)
{
	if (row->unchanged)
		return false;
	return writing.only != NULL ? row == writing.only
								: writing.creator == NULL || row->role == *writing.creator;
}

/* The outcomes that outbox_record() is recording, as rows; else none. */
Datum
sms_gateway_results(PG_FUNCTION_ARGS)
{
	dlist_iter iter;

	InitMaterializedSRF(fcinfo, 0);
	if (writing.plan != PLAN_RECORD || writing.rows == NULL)
		return (Datum) 0;
	dlist_foreach (iter, writing.rows)
	{
		const OutboxItem *item = dlist_container(OutboxItem, row.node, iter.cur);

		if (is_written(&item->row))
			put_outcome((ReturnSetInfo *) fcinfo->resultinfo, item);
	}
	return (Datum) 0;
}

/* Is it a number that numeric takes, and no expense to convert? */
static bool
is_decimal(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	const char *rest = text + digits;

	if (digits == 0 || digits > 15)
		return false;
	return *rest == '\0' || (*rest == '.' && rest[1] && rest[1 + strspn(rest + 1, "0123456789")] == '\0');
}

static void
put_followup(ReturnSetInfo *rsinfo, const FollowUp *followup)
{
	const Report *report = followup->report;
	Oid status_type = TupleDescAttr(rsinfo->setDesc, 1)->atttypid;
	Datum values[10] = {0};
	bool nulls[10] = {false, true, true, true, true, true, true, true, true, false};
	char *details;

	values[0] = Int64GetDatum(followup->row.id);
	if (report != NULL)
	{
		nulls[1] = false;
		values[1] = status_value(report->delivery == DELIVERY_DELIVERED     ? STATUS_DELIVERED
								 : report->delivery == DELIVERY_UNDELIVERED ? STATUS_UNDELIVERED
																			: STATUS_SENT,
								 status_type);
		set_time(&values[2], &nulls[2], report->delivery == DELIVERY_DELIVERED ? GetCurrentTimestamp() : 0);
		nulls[3] = !is_decimal(report->price);
		if (!nulls[3])
			values[3] = DirectFunctionCall3(numeric_in, CStringGetDatum(report->price),
											ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
		nulls[4] = report->parts == 0;
		values[4] = Int32GetDatum(report->parts);
		set_text(&values[5], &nulls[5], report->smsid);
		set_text(&values[6], &nulls[6], report->id_omni_mess);
		set_text(&values[7], &nulls[7], report->referent_id);
		details = details_of_report(report);
		nulls[8] = details == NULL;
		if (details != NULL)
			values[8] = DirectFunctionCall1(jsonb_in, CStringGetDatum(from_utf8(details)));
		free(details);
	}
	set_time(&values[9], &nulls[9], followup->poll_at);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* What outbox_follow() is recording, as rows; else none. */
Datum
sms_gateway_reports(PG_FUNCTION_ARGS)
{
	dlist_iter iter;

	InitMaterializedSRF(fcinfo, 0);
	if (writing.plan != PLAN_FOLLOW || writing.rows == NULL)
		return (Datum) 0;
	dlist_foreach (iter, writing.rows)
	{
		const FollowUp *followup = dlist_container(FollowUp, row.node, iter.cur);

		if (is_written(&followup->row))
			put_followup((ReturnSetInfo *) fcinfo->resultinfo, followup);
	}
	return (Datum) 0;
}

Datum
sms_gateway_redacts(PG_FUNCTION_ARGS)
{
	char *kind = TextDatumGetCString(PG_GETARG_DATUM(1));

	PG_RETURN_BOOL(strcmp(kind, kind_name(CALL_OTP)) == 0 || gateway_redacts(NameStr(*PG_GETARG_NAME(0))));
}

/* ------------------------------------------------------------------------
 * Events
 * ------------------------------------------------------------------------ */

/* Tells an end of a message to those who LISTEN, if such ends are to be told. */
void
outbox_notify(Events events, Status status, int64 id, const char *gateway, const char *code)
{
	bool failure = status == STATUS_FAILED || status == STATUS_UNDELIVERED || status == STATUS_UNCERTAIN ||
				   status == STATUS_EXPIRED;
	bool final = failure || status == STATUS_DELIVERED || status == STATUS_CANCELED;
	char *text;

	if (events == EVENTS_OFF || !(failure || (events == EVENTS_FINAL && final)))
		return;
	text = event_text(id, gateway, status_label(status), code != NULL ? from_utf8(code) : NULL);
	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	Async_Notify(EXTENSION_NAME, pstrdup(text));
	free(text);
}

/* The messages that end by what is recorded next, as rows of (id, gateway, status, code). */
static void
tell_ends(void)
{
	bool isnull;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		const char *gateway = NameStr(*DatumGetName(sql_column((int) i, 2, &isnull)));

		outbox_notify(gateway_events(gateway), sql_status((int) i, 3),
					  DatumGetInt64(sql_column((int) i, 1, &isnull)), gateway, sql_text((int) i, 4));
	}
}

/* ------------------------------------------------------------------------
 * Recording
 * ------------------------------------------------------------------------ */

/* Who queued these rows, each once. */
static List *
creators_of(dlist_head *rows)
{
	List *creators = NIL;
	dlist_iter iter;

	dlist_foreach (iter, rows)
		creators = list_append_unique_oid(creators, dlist_container(RowWrite, node, iter.cur)->role);
	return creators;
}

/* Writes rows of one creator together, or all; else one by one. */
static void
write_group(Statement plan, TriggerMode mode, Oid creator)
{
	bool all;
	dlist_iter iter;

	writing.creator = mode == TRIGGERS_AS_CREATOR ? &creator : NULL;
	all = try_together(plan, NULL, mode, creator);
	dlist_foreach (iter, writing.rows)
	{
		RowWrite *row = dlist_container(RowWrite, node, iter.cur);

		if (writing.creator != NULL && row->role != creator)
			continue;
		writing.only = row;
		row->recorded = all || row->unchanged || try_alone(plan, row->id, mode, creator);
		writing.only = NULL;
	}
	writing.creator = NULL;
}

/*
 * Writes onto rows what sms_gateway_results() or sms_gateway_reports() tells of them, and marks those
 * that were written.  Where triggers run as the creator, each creator's are written together.  If that
 * fails it is done one by one, so that a failing trigger of the user's or a locked row stops no other.
 */
static void
write_rows(Statement plan, dlist_head *rows)
{
	TriggerMode mode = trigger_mode();

	PG_TRY();
	{
		List *creators = mode == TRIGGERS_AS_CREATOR ? creators_of(rows) : list_make1_oid(InvalidOid);
		ListCell *lc;

		writing.plan = plan;
		writing.rows = rows;
		if (plan == PLAN_FOLLOW)
		{
			sql_run(PLAN_FOLLOW_ENDS, NULL);
			tell_ends();
			SPI_freetuptable(SPI_tuptable);
		}
		foreach (lc, creators)
			write_group(plan, mode, lfirst_oid(lc));
	}
	PG_FINALLY();
	{
		memset(&writing, 0, sizeof(writing));
	}
	PG_END_TRY();
}

/* Writes outcomes, OutboxItems, onto their rows; see write_rows(). */
void
outbox_record(dlist_head *outcomes)
{
	dlist_iter iter;

	write_rows(PLAN_RECORD, outcomes);
	dlist_foreach (iter, outcomes)
	{
		const OutboxItem *item = dlist_container(OutboxItem, row.node, iter.cur);

		if (item->row.recorded && item->new_status != STATUS_QUEUED)
			outbox_notify(item->gateway != NULL ? item->gateway->events : EVENTS_FAILURES, item->new_status,
						  item->row.id, item->gateway_name, item->answer->code);
	}
}

/* Writes what was learnt of messages that were sent, FollowUps, onto their rows; see write_rows(). */
void
outbox_follow(dlist_head *followups)
{
	write_rows(PLAN_FOLLOW, followups);
}

/* The same for one message; a report that decides nothing leaves it to be asked about.  False: it is locked. */
bool
outbox_follow_one(FollowUp *followup)
{
	dlist_head one;

	if (followup->report != NULL && followup->report->delivery == DELIVERY_PENDING)
		followup->poll_at = DT_NOBEGIN;
	dlist_init(&one);
	dlist_push_tail(&one, &followup->row.node);
	outbox_follow(&one);
	return followup->row.recorded;
}

/* Ends messages whose time has passed; returns how many, and when the next one's passes. */
int
outbox_expire(TimestampTz now, TimestampTz *next)
{
	Datum values[] = {TimestampTzGetDatum(now), Int64GetDatum(home_origin())};
	TriggerMode mode = trigger_mode();
	List *roles = NIL;
	Datum *ids;
	Oid *creators;
	int n;
	bool isnull;
	ListCell *lc;

	sql_run(PLAN_LATE, values);
	n = (int) SPI_processed;
	ids = palloc(sizeof(Datum) * (n + 1));
	creators = palloc(sizeof(Oid) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		ids[i] = sql_column(i, 1, &isnull);
		creators[i] = mode == TRIGGERS_AS_CREATOR ? sql_role(i, 5) : InvalidOid;
		roles = list_append_unique_oid(roles, creators[i]);
	}
	tell_ends();
	SPI_freetuptable(SPI_tuptable);
	foreach (lc, roles)
	{
		Datum *of_role = palloc(sizeof(Datum) * n);
		Datum array;
		int count = 0;

		for (int i = 0; i < n; i++)
		{
			if (creators[i] == lfirst_oid(lc))
				of_role[count++] = ids[i];
		}
		array = sql_id_array(of_role, count);
		if (!try_together(PLAN_EXPIRE, &array, mode, lfirst_oid(lc)))
			try_statement(PLAN_EXPIRE, &array, 0, InvalidOid, false);
	}
	*next = n == EXPIRE_AT_ONCE ? now : sql_find_time(PLAN_EXPIRE_NEXT, values);
	return n;
}
