/*
 * sql.c
 *		The extension's own SQL: statements are prepared, run and read here, and only here.
 *
 * All of it runs as the owner of the tables, with settings that the plans were made for: scope.c
 * sees to that.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/compat.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "db/home.h"
#include "db/sql.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

/* The statements that are prepared, and for which extension: they last as long as this process. */
static struct
{
	Statement *first;
	Oid extension;
	Oid schema;
} prepared;

/* ------------------------------------------------------------------------
 * Connecting
 * ------------------------------------------------------------------------ */

static void
connect_to_spi(int options)
{
	if (SPI_connect_ext(options) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

/*
 * Begins to run statements.  The memory context is another one afterwards: what is allocated there
 * lives until sql_disconnect().
 */
void
sql_connect(void)
{
	connect_to_spi(0);
}

/* The same for a procedure, which may sql_commit(). */
void
sql_connect_to_commit(void)
{
	connect_to_spi(SPI_OPT_NONATOMIC);
}

/* Commits in the middle of a procedure, and begins the next transaction. */
void
sql_commit(void)
{
	SPI_commit();
}

/* Ends what sql_connect() began; after an error the transaction's end does. */
void
sql_disconnect(void)
{
	SPI_finish();
}

/*
 * Sets a GUC until the transaction or subtransaction ends (GUC_ACTION_LOCAL), or the level that was
 * opened (GUC_ACTION_SAVE).
 */
void
sql_set(const char *name, const char *value, GucAction action)
{
	set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, action, true, 0, false);
}

/* Prepared statements are good for one schema of one extension: forgets those of another. */
void
sql_forget_plans(Oid extension, Oid schema)
{
	if (prepared.extension == extension && prepared.schema == schema)
		return;
	while (prepared.first != NULL)
	{
		Statement *statement = prepared.first;

		prepared.first = statement->next;
		SPI_freeplan(statement->plan);
		statement->plan = NULL;
	}
	prepared.extension = extension;
	prepared.schema = schema;
}

/* ------------------------------------------------------------------------
 * Running
 * ------------------------------------------------------------------------ */

static int
count_args(const Statement *statement)
{
	int n = 0;

	while (n < SQL_MAX_ARGS && OidIsValid(statement->args[n]))
		n++;
	return n;
}

/* Prepares a statement, unless it is.  The rows that it is given, if any, are on offer. */
static SPIPlanPtr
prepare(Statement *statement)
{
	StringInfoData sql;
	const char *schema;
	SPIPlanPtr plan;

	if (statement->plan != NULL)
		return statement->plan;
	schema = quote_identifier(get_namespace_name(prepared.schema));
	initStringInfo(&sql);
	for (const char *p = statement->sql; *p; p++)
	{
		/* "^@" is an operator */
		if (*p == '@' && p[-1] != '^')
			appendStringInfo(&sql, "%s.", schema);
		else
			appendStringInfoChar(&sql, *p);
	}
	plan = SPI_prepare(sql.data, count_args(statement), statement->args);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\"", sql.data);
	pfree(sql.data);
	statement->plan = plan;
	statement->next = prepared.first;
	prepared.first = statement;
	return plan;
}

/*
 * SPI leaves its own memory context current, which ends with SPI_finish(): the
 * caller's is put back, as what the caller allocates has to outlive that.
 */
static int64
execute(Statement *statement, const Datum *values, const char *nulls, bool read_only)
{
	MemoryContext caller = CurrentMemoryContext;
	int rc = SPI_execute_plan(prepare(statement), unconstify(Datum *, values), nulls, read_only, 0);

	MemoryContextSwitchTo(caller);
	if (rc < 0)
		elog(ERROR, "\"%s\" failed: %s", statement->sql, SPI_result_code_string(rc));
	return (int64) SPI_processed;
}

/*
 * Runs a statement, with values for all of its parameters.  Returns how many rows it returned or
 * changed; those that it returned are there until sql_done(), or until the next statement is run.
 */
int64
sql_run(Statement *statement, const Datum *values)
{
	return execute(statement, values, NULL, false);
}

/* The same; an 'n' in nulls makes that parameter NULL. */
int64
sql_run_nulls(Statement *statement, const Datum *values, const char *nulls)
{
	return execute(statement, values, nulls, false);
}

/* The same for a statement that reads, as of now and not as of the caller's snapshot. */
int64
sql_read_latest(Statement *statement, const Datum *values)
{
	int64 n;

	PushActiveSnapshot(GetLatestSnapshot());
	n = execute(statement, values, NULL, true);
	PopActiveSnapshot();
	return n;
}

/* Runs a statement that looks for something: has it returned or changed a row? */
bool
sql_any(Statement *statement, const Datum *values)
{
	bool any = execute(statement, values, NULL, false) > 0;

	sql_done();
	return any;
}

/* Runs a statement that looks for a time: that of its first row, DT_NOEND if there is none. */
TimestampTz
sql_find_time(Statement *statement, const Datum *values)
{
	TimestampTz found = execute(statement, values, NULL, false) > 0 ? sql_time(0, 0, DT_NOEND) : DT_NOEND;

	sql_done();
	return found;
}

static ParamListInfo
make_params(const Statement *statement, const Datum *values)
{
	int n = count_args(statement);
	ParamListInfo params = n > 0 ? makeParamList(n) : NULL;

	for (int i = 0; i < n; i++)
		params->params[i] =
			(ParamExternData){.value = values[i], .pflags = PARAM_FLAG_CONST, .ptype = statement->args[i]};
	return params;
}

/* Does an UPDATE, or a DELETE, of a table that sql_run_firing() runs fire any of its triggers? */
bool
sql_fires(const TriggerDesc *triggers, bool deletes)
{
	if (triggers == NULL)
		return false;
	if (deletes)
		return triggers->trig_delete_after_row || triggers->trig_delete_before_statement ||
			   triggers->trig_delete_after_statement;
	return triggers->trig_update_after_row || triggers->trig_update_before_statement ||
		   triggers->trig_update_after_statement;
}

/* Is it a trigger of somebody's that is called when sql_run_firing() changes, or deletes, rows of its table? */
bool
sql_calls(const Trigger *trigger, bool deletes)
{
	return !trigger->tgisinternal && trigger->tgenabled != TRIGGER_DISABLED &&
		   (deletes ? TRIGGER_FOR_DELETE(trigger->tgtype) : TRIGGER_FOR_UPDATE(trigger->tgtype)) &&
		   !(TRIGGER_FOR_BEFORE(trigger->tgtype) && TRIGGER_FOR_ROW(trigger->tgtype));
}

/*
 * May a statement that has started run code of somebody's: a trigger, or, where a foreign key refers to what it changes, that of
 * the tables which have the key?
 */
static bool
runs_code(const QueryDesc *query, ResultRelInfo *rel)
{
	const TriggerDesc *triggers = rel->ri_TrigDesc;

	if (query->operation == CMD_DELETE)
		return true;
	if (!sql_fires(triggers, false))
		return false;
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		if (sql_calls(&triggers->triggers[i], false))
			return true;
	}
	return ExecUpdateLockMode(query->estate, rel) == LockTupleExclusive;
}

/*
 * Has a statement that has started pass over triggers BEFORE each row, which could change what is written, as whose the
 * message is, or that anything is.  Returns whether it may run other code of somebody's.
 */
static bool
pass_over_before(const QueryDesc *query)
{
	ListCell *cell;
	bool runs = false;

	foreach (cell, query->estate->es_opened_result_relations)
	{
		ResultRelInfo *rel = lfirst(cell);
		TriggerDesc *triggers = rel->ri_TrigDesc; /* a copy of its own */

		runs = runs || runs_code(query, rel);
		if (triggers != NULL)
			triggers->trig_update_before_row = triggers->trig_delete_before_row = false;
	}
	return runs;
}

/*
 * From here on triggers run as "runner", and what foreign keys call as the owners of their tables.  What these leave for
 * the commit (a cursor WITH HOLD, constraints that are deferred) would run as whoever commits.  So nothing is left: deferred
 * triggers run at once, from here to the end of the transaction, as do those that the caller's own
 * statements have left, as himself; and all are security-restricted, so that PostgreSQL refuses the rest.  Also
 * where the runner is he who commits: the owners are not.
 */
static void
become_runner(const QueryDesc *query, Oid runner, int security)
{
	security |= SECURITY_LOCAL_USERID_CHANGE;
	if (pass_over_before(query))
	{
		SetUserIdAndSecContext(GetOuterUserId(), security);
		AfterTriggerSetState(makeNode(ConstraintsSetStmt));
		security |= SECURITY_RESTRICTED_OPERATION;
	}
	SetUserIdAndSecContext(runner, security);
}

/*
 * Runs a statement that changes or deletes messages, and so fires the triggers that users put on the outbox (but not
 * those BEFORE each row); they run as "role", if one is given.  "rows" are those that the statement is given, or NULL.
 * Returns how many messages it changed.
 *
 * This drives the executor itself, because SPI has no place between these two moments:
 *
 * - ExecutorStart() checks privileges, all of them and once, against the current user.  That is the
 *   owner of the tables, as whom the statement was also planned (so no row-level security is in
 *   the plan).  The role need have no right to UPDATE the outbox, and usually has none.
 * - Triggers run inside ExecutorRun() (statements') and ExecutorFinish() (AFTER).  They are
 *   the code of whoever has the TRIGGER privilege; the owner is often a superuser, and would be the
 *   wrong one to run them.  So the user changes in between, and back when the triggers have run.
 *
 * Triggers find their objects where they do in any session: search_path is that of a new session.
 * What they SET does not last.  Such statements qualify all their operators, as they are planned
 * with that path.  An error leaves user, settings and executor to the end of the (sub)transaction.
 */
int64
sql_run_firing(Statement *statement, const Datum *values, const SqlRows *rows, Oid role)
{
	int guc_level = NewGUCNestLevel();
	SPIPlanPtr plan;
	CachedPlan *cached;
	CachedPlanSource *source;
	QueryDesc *query;
	Oid user;
	int security;
	int64 changed;

	sql_set("search_path", GetConfigOptionResetString("search_path"), GUC_ACTION_SAVE);
	plan = prepare(statement);
	source = linitial(SPI_plan_get_plan_sources(plan));
	cached = SPI_plan_get_cached_plan(plan);
	if (cached == NULL || list_length(cached->stmt_list) != 1)
		elog(ERROR, "\"%s\" has no plan", statement->sql);

	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	query = CreateQueryDesc(linitial_node(PlannedStmt, cached->stmt_list), source->query_string,
							GetActiveSnapshot(), InvalidSnapshot, None_Receiver,
							make_params(statement, values), rows != NULL ? rows->environment : NULL, 0);
	ExecutorStart(query, 0);
	GetUserIdAndSecContext(&user, &security);
	become_runner(query, OidIsValid(role) ? role : user, security);
	compat_executor_run(query);
	ExecutorFinish(query);
	SetUserIdAndSecContext(user, security);
	changed = (int64) query->estate->es_processed;
	ExecutorEnd(query);
	FreeQueryDesc(query);
	PopActiveSnapshot();
	ReleaseCachedPlan(cached, CurrentResourceOwner);
	CommandCounterIncrement();
	AtEOXact_GUC(false, guc_level);
	return changed;
}

/* Ids as an array, which a statement takes. */
Datum
sql_id_array(const Datum *ids, int n)
{
	return PointerGetDatum(construct_array(unconstify(Datum *, ids), n, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* ------------------------------------------------------------------------
 * Rows that statements are given
 * ------------------------------------------------------------------------ */

/*
 * Offers rows, none at first, to the statements that are run from now on: they read them FROM
 * "name", which is a constant and goes before any table of that name.  They are on offer until
 * sql_rows_withdraw() or sql_disconnect(), and live as long as the (sub)transaction.
 *
 * Statements are prepared, and prepared again, while the rows they name are on offer: it is from the offer
 * that parser and planner know the columns.
 */
SqlRows *
sql_rows_offer(const char *name, const SqlColumn *columns, int ncolumns)
{
	/* SPI remembers the offer in the current context. */
	MemoryContext caller = MemoryContextSwitchTo(CurTransactionContext);
	MemoryContext context =
		AllocSetContextCreate(CurTransactionContext, "sms_gateway rows", ALLOCSET_DEFAULT_SIZES);
	Oid outbox = home_relation("sms_outbox");
	SqlRows *rows = MemoryContextAllocZero(context, sizeof(SqlRows));

	rows->context = context;
	rows->status_type = get_atttype(outbox, get_attnum(outbox, "status"));
	MemoryContextSwitchTo(context);
	rows->desc = CreateTemplateTupleDesc(ncolumns);
	for (int i = 0; i < ncolumns; i++)
		TupleDescInitEntry(rows->desc, (AttrNumber) (i + 1), columns[i].name,
						   OidIsValid(columns[i].type) ? columns[i].type : rows->status_type, -1, 0);
	rows->store = tuplestore_begin_heap(true, false, work_mem);
	rows->relation = palloc0(sizeof(EphemeralNamedRelationData));
	rows->relation->md.name = pstrdup(name);
	rows->relation->md.tupdesc = rows->desc;
	rows->relation->md.enrtype = ENR_NAMED_TUPLESTORE;
	/* Few: each is then looked up by its message's key. */
	rows->relation->md.enrtuples = 1;
	rows->relation->reldata = rows->store;
	/* The driver of sql_run_firing() needs one of its own: SPI's cannot be had. */
	rows->environment = create_queryEnv();
	register_ENR(rows->environment, rows->relation);
	MemoryContextSwitchTo(CurTransactionContext);
	if (SPI_register_relation(rows->relation) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not offer rows as \"%s\"", name);
	MemoryContextSwitchTo(caller);
	return rows;
}

/* Adds a row, with a value for each column; it is copied. */
void
sql_rows_add(SqlRows *rows, const Datum *values, const bool *nulls)
{
	tuplestore_putvalues(rows->store, rows->desc, unconstify(Datum *, values), unconstify(bool *, nulls));
}

/* Takes all rows away; others can be added. */
void
sql_rows_clear(SqlRows *rows)
{
	tuplestore_clear(rows->store);
}

/* Ends an offer, and frees it. */
void
sql_rows_withdraw(SqlRows *rows)
{
	SPI_unregister_relation(rows->relation->md.name);
	tuplestore_end(rows->store);
	MemoryContextDelete(rows->context);
}

/* ------------------------------------------------------------------------
 * Results
 * ------------------------------------------------------------------------ */

/* A column of any type, as it is in the row: good until sql_done(). */
Datum
sql_datum(int row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column + 1, isnull);
}

bool
sql_is_null(int row, int column)
{
	bool isnull;

	(void) sql_datum(row, column, &isnull);
	return isnull;
}

/* A column of type bigint; 0 if it is NULL. */
int64
sql_int64(int row, int column)
{
	bool isnull;
	Datum datum = sql_datum(row, column, &isnull);

	return isnull ? 0 : DatumGetInt64(datum);
}

/* A column of type int; 0 if it is NULL. */
int32
sql_int32(int row, int column)
{
	bool isnull;
	Datum datum = sql_datum(row, column, &isnull);

	return isnull ? 0 : DatumGetInt32(datum);
}

/* A column of type smallint; 0 if it is NULL. */
int16
sql_int16(int row, int column)
{
	bool isnull;
	Datum datum = sql_datum(row, column, &isnull);

	return isnull ? 0 : DatumGetInt16(datum);
}

/* A column of type boolean; false if it is NULL. */
bool
sql_bool(int row, int column)
{
	bool isnull;
	Datum datum = sql_datum(row, column, &isnull);

	return !isnull && DatumGetBool(datum);
}

/* A column of type name, as it is in the row: good until sql_done().  It is NOT NULL. */
const char *
sql_name(int row, int column)
{
	bool isnull;

	return NameStr(*DatumGetName(sql_datum(row, column, &isnull)));
}

/* A column of type text, palloc'd; NULL if it is NULL. */
char *
sql_text(int row, int column)
{
	bool isnull;
	Datum datum = sql_datum(row, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(datum);
}

/* A column of type jsonb as text, palloc'd; NULL if it is NULL. */
char *
sql_json(int row, int column)
{
	bool isnull;
	Datum datum = sql_datum(row, column, &isnull);
	Jsonb *json;

	if (isnull)
		return NULL;
	json = DatumGetJsonbP(datum);
	return JsonbToCString(NULL, &json->root, VARSIZE(json));
}

/* A column of type timestamptz. */
TimestampTz
sql_time(int row, int column, TimestampTz if_null)
{
	bool isnull;
	Datum datum = sql_datum(row, column, &isnull);

	return isnull ? if_null : DatumGetTimestampTz(datum);
}

/* A column of type sms_status.  It is NOT NULL. */
Status
sql_status(int row, int column)
{
	bool isnull;

	return status_of_value(sql_datum(row, column, &isnull));
}

/* Frees the result. */
void
sql_done(void)
{
	SPI_freetuptable(SPI_tuptable);
}
