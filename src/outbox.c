/*
 * outbox.c
 *		All of the SQL: claim, record, recover, and what users may do to a message.
 *
 * A message is claimed by a row in sms_gateway_lease that names its id, not by a
 * change of its own row: one insert for hundreds of messages.  A message is "on
 * its way" while its status is queued and a lease taken after it was due names it.
 * Only one engine drains a database at a time (engine.c), so whoever starts
 * draining knows that every lease it finds belongs to nobody.
 *
 * Everything here runs as the owner of the tables, with settings that the plans
 * were made for.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "sms_gateway.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(sms_gateway_results);
PG_FUNCTION_INFO_V1(sms_gateway_claimed);

/* Columns of a claimed message, in the order in which read_item() takes them. */
#define ITEM_COLUMNS                                                                                         \
	"o.id, o.priority, o.attempts, o.next_attempt_at, o.created_at, o.expires_at, "                          \
	"o.unsure_since, o.kind, o.phone, o.content, o.template_code, o.list_param, "                            \
	"o.routerule, o.options, o.request_id, o.created_by, o.details, o.gateway"

/*
 * "status = 'queued'" where rows are found by their id: written so that it does
 * not imply the predicate of the index of due messages, which the planner would
 * else walk through from end to end while the table has no statistics.
 */
#define STILL_QUEUED "(o.status OPERATOR(pg_catalog.=) 'queued' OR o.status OPERATOR(pg_catalog.=) 'sending')"

typedef enum Statement
{
	PLAN_NEXT_LANE,
	PLAN_CLAIM,
	PLAN_LANE_DUE,
	PLAN_LANE_FREE,
	PLAN_LEASE_ADD,
	PLAN_LEASE_DROP,
	PLAN_LEASE_SET,
	PLAN_LEASE_CLEAR,
	PLAN_RECORD,
	PLAN_ROW_FREE,
	PLAN_ORPHANS,
	PLAN_EXPIRE,
	PLAN_EXPIRE_NEXT,
	PLAN_PURGE,
	PLAN_PAUSES,
	PLAN_PAUSED,
	PLAN_ANY_LEASE,
	PLAN_PAUSE,
	PLAN_RESUME,
	PLAN_IDENTITY,
	PLAN_LOCK_ROW,
	PLAN_LEASED_AT,
	PLAN_SET_STATUS,
	PLAN_REQUEUE,
	PLAN_COUNT
} Statement;

#define MAX_ARGS       8
#define ITEM_SIZE      4096 /* bytes; a usual message and its answer fit in */
#define SPARE_CONTEXTS 512
#define EXPIRE_AT_ONCE 1000
#define PINNED_PATH    "pg_catalog, pg_temp"

/* "@" stands for the extension's schema and a dot. */
static const struct
{
	const char *sql;
	Oid args[MAX_ARGS];
} statements[PLAN_COUNT] = {
	[PLAN_NEXT_LANE] = {"SELECT o.gateway, o.priority FROM @sms_outbox o "
						"WHERE o.status = 'queued' AND (o.gateway, o.priority) > ($1, $2) "
						"AND (o.gateway, o.priority) < ($3, $4) "
						"ORDER BY o.gateway, o.priority LIMIT 1",
						{NAMEOID, INT2OID, NAMEOID, INT2OID}},
	[PLAN_CLAIM] = {"SELECT " ITEM_COLUMNS " FROM @sms_outbox o "
					"WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $2 "
					"AND (o.next_attempt_at, o.id) > ($3, $4) AND o.next_attempt_at <= $5 "
					"AND o.origin = $6 AND NOT @sms_gateway_claimed(o.id) "
					"ORDER BY o.next_attempt_at, o.id LIMIT $7 FOR NO KEY UPDATE OF o SKIP LOCKED",
					{NAMEOID, INT2OID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID}},
	[PLAN_LANE_DUE] = {"SELECT o.next_attempt_at FROM @sms_outbox o "
					   "WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $2 "
					   "AND o.next_attempt_at > $3 ORDER BY o.next_attempt_at LIMIT 1",
					   {NAMEOID, INT2OID, TIMESTAMPTZOID}},
	[PLAN_LANE_FREE] = {"SELECT 1 FROM @sms_outbox o "
						"WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $2 "
						"AND o.next_attempt_at <= $3 LIMIT 1 FOR SHARE OF o SKIP LOCKED",
						{NAMEOID, INT2OID, TIMESTAMPTZOID}},
	[PLAN_LEASE_ADD] = {"INSERT INTO @sms_gateway_lease (ids, claimed_at) VALUES ($1, $2) RETURNING id",
						{INT8ARRAYOID, TIMESTAMPTZOID}},
	[PLAN_LEASE_DROP] = {"DELETE FROM @sms_gateway_lease WHERE id = $1", {INT8OID}},
	[PLAN_LEASE_SET] = {"UPDATE @sms_gateway_lease SET ids = $2 WHERE id = $1", {INT8OID, INT8ARRAYOID}},
	[PLAN_LEASE_CLEAR] = {"DELETE FROM @sms_gateway_lease", {InvalidOid}},
	[PLAN_RECORD] =
		{"UPDATE @sms_outbox o SET status = r.status, gateway = r.gateway, attempts = r.attempts, "
		 "next_attempt_at = r.next_attempt_at, smsid = coalesce(r.smsid, o.smsid), "
		 "id_omni_mess = coalesce(r.id_omni_mess, o.id_omni_mess), "
		 "referent_id = coalesce(r.referent_id, o.referent_id), result_code = r.result_code, "
		 "result_message = r.result_message, http_status = r.http_status, sent_at = r.sent_at, "
		 "details = coalesce(r.details, o.details), unsure_since = r.unsure_since "
		 "FROM @sms_gateway_results() r WHERE o.id OPERATOR(pg_catalog.=) r.id "
		 "AND " STILL_QUEUED,
		 {InvalidOid}},
	[PLAN_ROW_FREE] = {"SELECT 1 FROM @sms_outbox WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED", {INT8OID}},
	[PLAN_ORPHANS] = {"SELECT " ITEM_COLUMNS ", l.claimed_at "
					  "FROM @sms_gateway_lease l, unnest(l.ids) AS u(id), @sms_outbox o "
					  "WHERE o.id = u.id AND " STILL_QUEUED " AND o.next_attempt_at <= l.claimed_at "
					  "AND o.origin = $1 FOR NO KEY UPDATE OF o",
					  {INT8OID}},
	[PLAN_EXPIRE] = {"WITH late AS MATERIALIZED (SELECT o.id FROM @sms_outbox o "
					 "WHERE o.status OPERATOR(pg_catalog.=) 'queued' AND o.expires_at IS NOT NULL "
					 "AND o.expires_at OPERATOR(pg_catalog.<=) $1 AND o.origin OPERATOR(pg_catalog.=) $2 "
					 "AND NOT @sms_gateway_claimed(o.id) "
					 "ORDER BY o.expires_at LIMIT " CppAsString2(
						 EXPIRE_AT_ONCE) " FOR NO KEY UPDATE OF o SKIP LOCKED) "
										 "UPDATE @sms_outbox o SET next_attempt_at = NULL, "
										 "status = CASE WHEN o.unsure_since IS NULL THEN 'expired' ELSE "
										 "'uncertain' END::@sms_status "
										 "FROM late WHERE o.id OPERATOR(pg_catalog.=) late.id",
					 {TIMESTAMPTZOID, INT8OID}},
	[PLAN_EXPIRE_NEXT] = {"SELECT o.expires_at FROM @sms_outbox o WHERE o.status = 'queued' "
						  "AND o.expires_at IS NOT NULL AND o.expires_at > $1 ORDER BY o.expires_at LIMIT 1",
						  {TIMESTAMPTZOID}},
	[PLAN_PURGE] = {"WITH page AS MATERIALIZED (SELECT o.id, o.created_at FROM @sms_outbox o "
					"WHERE o.id > $1 ORDER BY o.id LIMIT 1000), "
					"gone AS (DELETE FROM @sms_outbox o USING page WHERE o.id = page.id "
					"AND o.created_at < $2 AND o.status IN "
					"('sent', 'delivered', 'undelivered', 'failed', 'expired', 'canceled')) "
					"SELECT max(id), bool_or(created_at >= $2) FROM page",
					{INT8OID, TIMESTAMPTZOID}},
	[PLAN_PAUSES] = {"SELECT gateway, by_user FROM @sms_gateway_state", {InvalidOid}},
	[PLAN_PAUSED] = {"SELECT 1 FROM @sms_gateway_state WHERE gateway = $1", {NAMEOID}},
	[PLAN_ANY_LEASE] = {"SELECT 1 FROM @sms_gateway_lease LIMIT 1", {InvalidOid}},
	[PLAN_PAUSE] = {"INSERT INTO @sms_gateway_state AS s (gateway, reason, by_user, since) "
					"VALUES ($1, $2, $3, clock_timestamp()) ON CONFLICT (gateway) DO UPDATE "
					"SET reason = excluded.reason, by_user = excluded.by_user, since = excluded.since "
					"WHERE excluded.by_user OR NOT s.by_user",
					{NAMEOID, TEXTOID, BOOLOID}},
	[PLAN_RESUME] = {"DELETE FROM @sms_gateway_state WHERE gateway = $1 AND (NOT by_user OR $2)",
					 {NAMEOID, BOOLOID}},
	[PLAN_IDENTITY] = {"INSERT INTO @sms_gateway_identity (instance, system_identifier, database_oid) "
					   "VALUES ($1, $2, $3)",
					   {INT8OID, INT8OID, OIDOID}},
	[PLAN_LOCK_ROW] = {"SELECT status::text, created_by FROM @sms_outbox WHERE id = $1 FOR NO KEY UPDATE",
					   {INT8OID}},
	[PLAN_LEASED_AT] =
		{"SELECT l.claimed_at, o.next_attempt_at <= l.claimed_at FROM @sms_gateway_lease l, "
		 "@sms_outbox o WHERE o.id = $1 AND o.id = ANY (l.ids) ORDER BY l.claimed_at DESC LIMIT 1",
		 {INT8OID}},
	[PLAN_SET_STATUS] = {"UPDATE @sms_outbox SET status = $2::@sms_status, next_attempt_at = NULL, "
						 "sent_at = CASE WHEN $2 OPERATOR(pg_catalog.=) 'sent' "
						 "THEN coalesce(sent_at, pg_catalog.clock_timestamp()) ELSE sent_at END "
						 "WHERE id OPERATOR(pg_catalog.=) $1",
						 {INT8OID, TEXTOID}},
	[PLAN_REQUEUE] = {"UPDATE @sms_outbox SET status = 'queued', attempts = 0, next_attempt_at = $2, "
					  "expires_at = CASE WHEN expires_at OPERATOR(pg_catalog.>) $2 THEN expires_at END, "
					  "unsure_since = NULL WHERE id OPERATOR(pg_catalog.=) $1",
					  {INT8OID, TIMESTAMPTZOID}},
};

static SPIPlanPtr plans[PLAN_COUNT];
static Oid plans_extension = InvalidOid;
static Oid plans_schema = InvalidOid;

/* Which database this is: see outbox_home(). */
static enum {
	HOME_UNKNOWN,
	HOME_OURS,
	HOME_COPY,
	HOME_MISSING,
} home = HOME_UNKNOWN;
static Oid home_table = InvalidOid;
static int64 home_origin = 0;
static bool home_callback = false;

static dlist_head *recording = NULL;     /* what sms_gateway_results() returns … */
static OutboxItem *recording_one = NULL; /* … or only this */

/* ------------------------------------------------------------------------
 * The extension, its schema, and where it is at home
 * ------------------------------------------------------------------------ */

/* Finds the extension in this database; false if it is not there. */
static bool
find_extension(Oid *extension, Oid *schema, char **version)
{
	Relation catalog = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	bool isnull;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum(EXTENSION_NAME));
	scan = systable_beginscan(catalog, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);

		*extension = form->oid;
		*schema = form->extnamespace;
		if (version != NULL)
			*version = TextDatumGetCString(
				heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(catalog), &isnull));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return HeapTupleIsValid(tuple);
}

static void
on_relation_change(Datum arg, Oid relation)
{
	(void) arg;
	if (relation == InvalidOid || relation == home_table)
		home = HOME_UNKNOWN;
}

/*
 * Is this the database that its outbox belongs to?  It is, if the identity
 * table names this cluster and database, and names nothing else: a restored dump
 * adds the row of the database it came from, a TEMPLATE copy has only that.
 * Takes no lock that outlives the call.  Gives the origin of rows made here.
 */
bool
outbox_home(int64 *origin)
{
	Oid extension;
	Oid schema;
	Relation table;
	SysScanDesc scan;
	HeapTuple tuple;
	bool own = false;
	bool foreign = false;

	if (!home_callback)
	{
		CacheRegisterRelcacheCallback(on_relation_change, (Datum) 0);
		home_callback = true;
	}
	if (home == HOME_UNKNOWN)
	{
		home_table = find_extension(&extension, &schema, NULL)
						 ? get_relname_relid("sms_gateway_identity", schema)
						 : InvalidOid;
		if (!OidIsValid(home_table))
			return false;
		table = table_open(home_table, AccessShareLock);
		scan = systable_beginscan(table, InvalidOid, false, NULL, 0, NULL);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			TupleDesc desc = RelationGetDescr(table);
			bool isnull;

			if (DatumGetInt64(heap_getattr(tuple, 2, desc, &isnull)) == (int64) GetSystemIdentifier() &&
				DatumGetObjectId(heap_getattr(tuple, 3, desc, &isnull)) == MyDatabaseId)
			{
				own = true;
				home_origin = DatumGetInt64(heap_getattr(tuple, 1, desc, &isnull));
			}
			else
				foreign = true;
		}
		systable_endscan(scan);
		table_close(table, AccessShareLock);
		home = own && !foreign ? HOME_OURS : HOME_COPY;
	}
	*origin = home_origin;
	return home == HOME_OURS;
}

/* Raises 55000 unless messages may be sent from this database. */
void
outbox_require_home(void)
{
	int64 origin;

	if (!guc_enabled)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("sending messages is switched off"),
						errhint("It is switched on with sms_gateway.enabled.")));
	if (!outbox_home(&origin))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this database is a copy, and copies send no messages"),
						errdetail("The outbox belongs to another cluster or database."),
						errhint("If this database takes the place of the original: DROP EXTENSION "
								"sms_gateway and create it again.")));
}

/* Makes a request_id that no other message of any database has. */
char *
outbox_request_id(int64 origin, int64 id, TimestampTz created_at)
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuv";
	char where[14];
	char when[14];
	uint64 origin_bits = (uint64) origin;
	uint64 time_bits = (uint64) created_at;

	/* 32 digits: five bits each; 13 hold 64 bits. */
	for (int i = 12; i >= 0; i--, origin_bits >>= 5, time_bits >>= 5)
	{
		where[i] = digits[origin_bits & 31];
		when[i] = digits[time_bits & 31];
	}
	where[13] = when[13] = '\0';
	return psprintf(REQUEST_ID_PREFIX "%s%s-%lld", where, when + 2, (long long) id);
}

/* ------------------------------------------------------------------------
 * Scopes: who we are and what the planner may do
 * ------------------------------------------------------------------------ */

static void
set_guc(const char *name, const char *value, GucAction action)
{
	set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, action, true, 0, false);
}

/* Each plan has one good form, whatever the statistics say. */
static void
pin_planner(GucAction action)
{
	static const char *const off[] = {
		"enable_seqscan", "enable_bitmapscan", "enable_sort", "enable_hashjoin", "enable_mergejoin", "jit",
	};

	for (int i = 0; i < (int) lengthof(off); i++)
		set_guc(off[i], "off", action);
	set_guc("plan_cache_mode", "force_generic_plan", action);
	set_guc("search_path", PINNED_PATH, action);
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

static void
forget_plans(Oid extension, Oid schema)
{
	if (plans_extension == extension && plans_schema == schema)
		return;
	for (int i = 0; i < PLAN_COUNT; i++)
	{
		if (plans[i] != NULL)
			SPI_freeplan(plans[i]);
		plans[i] = NULL;
	}
	plans_extension = extension;
	plans_schema = schema;
}

static SPIPlanPtr
get_plan(Statement plan)
{
	StringInfoData sql;
	const char *schema;
	int nargs = 0;

	if (plans[plan] != NULL)
		return plans[plan];
	schema = quote_identifier(get_namespace_name(plans_schema));
	initStringInfo(&sql);
	for (const char *p = statements[plan].sql; *p; p++)
	{
		/* "^@" is an operator */
		if (*p == '@' && p[-1] != '^')
			appendStringInfo(&sql, "%s.", schema);
		else
			appendStringInfoChar(&sql, *p);
	}
	while (nargs < MAX_ARGS && OidIsValid(statements[plan].args[nargs]))
		nargs++;
	plans[plan] = SPI_prepare(sql.data, nargs, (Oid *) statements[plan].args);
	if (plans[plan] == NULL || SPI_keepplan(plans[plan]) != 0)
		elog(ERROR, "could not prepare \"%s\"", sql.data);
	pfree(sql.data);
	return plans[plan];
}

/*
 * Runs a statement; results are in SPI_tuptable.  SPI leaves its own memory
 * context current, which ends with SPI_finish(): the caller's is put back, as
 * what the caller allocates has to outlive that.
 */
static void
run(Statement plan, Datum *values)
{
	MemoryContext caller = CurrentMemoryContext;
	int rc = SPI_execute_plan(get_plan(plan), values, NULL, false, 0);

	MemoryContextSwitchTo(caller);
	if (rc < 0)
		elog(ERROR, "statement %d failed: %s", (int) plan, SPI_result_code_string(rc));
}

/*
 * Runs a statement that changes messages, and so fires the triggers that users
 * put on the outbox: those find their objects where they do in any session.
 * Such statements qualify all their operators.
 */
static void
run_firing(Statement plan, Datum *values)
{
	const char *path = GetConfigOptionResetString("search_path");

	set_guc("search_path", path, GUC_ACTION_LOCAL);
	run(plan, values);
	set_guc("search_path", PINNED_PATH, GUC_ACTION_LOCAL);
}

/*
 * Begins the worker's part of a transaction.  Returns false if the extension is
 * not there, or not in the version that this library serves, or is a copy.
 * Locks the extension, so that DROP EXTENSION waits for this transaction only.
 */
bool
outbox_enter_worker(void)
{
	Oid extension;
	Oid schema;
	char *version;
	int64 origin;

	if (!find_extension(&extension, &schema, &version))
		return false;
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	if (!find_extension(&extension, &schema, &version))
		return false;
	if (strcmp(version, SMS_GATEWAY_VERSION) != 0)
	{
		ereport(
			LOG,
			(errmsg("sms_gateway %s in this database is not served by the library of version %s", version,
					SMS_GATEWAY_VERSION),
			 errhint(
				 "ALTER EXTENSION sms_gateway UPDATE, and restart the server if the library was replaced.")));
		return false;
	}
	if (!outbox_home(&origin))
	{
		ereport(LOG, (errmsg("the outbox of this database belongs to another one: nothing is sent"),
					  errdetail("It came with a dump, or with CREATE DATABASE … TEMPLATE.")));
		return false;
	}
	forget_plans(extension, schema);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	pin_planner(GUC_ACTION_LOCAL);
	set_guc("default_transaction_read_only", "off", GUC_ACTION_LOCAL);
	set_guc("session_replication_role", "origin", GUC_ACTION_LOCAL);
	set_guc("lock_timeout", "200ms", GUC_ACTION_LOCAL);
	set_guc("statement_timeout", "0", GUC_ACTION_LOCAL);
	/* Claims have to be durable; remote_apply, if that is set, stays. */
	if (synchronous_commit < SYNCHRONOUS_COMMIT_ON)
		set_guc("synchronous_commit", "on", GUC_ACTION_LOCAL);
	SetUserIdAndSecContext(outbox_owner(schema), SECURITY_LOCAL_USERID_CHANGE);
	return true;
}

/* Ends what outbox_enter_worker() began; the caller restores the user after commit. */
void
outbox_leave_worker(void)
{
	SPI_finish();
}

/* Begins work on behalf of a user; the caller's rights have been checked. */
void
outbox_enter(OwnerScope *scope)
{
	Oid extension;
	Oid schema;

	if (!find_extension(&extension, &schema, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("extension sms_gateway is not in this database")));
	forget_plans(extension, schema);
	GetUserIdAndSecContext(&scope->user, &scope->security);
	SetUserIdAndSecContext(outbox_owner(schema), scope->security | SECURITY_LOCAL_USERID_CHANGE);
	scope->guc_level = NewGUCNestLevel();
	pin_planner(GUC_ACTION_SAVE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
outbox_leave(OwnerScope *scope)
{
	SPI_finish();
	AtEOXact_GUC(true, scope->guc_level);
	SetUserIdAndSecContext(scope->user, scope->security);
}

/* ------------------------------------------------------------------------
 * Claiming
 * ------------------------------------------------------------------------ */

static Datum
column(int row, int number, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, isnull);
}

/* Makes a bound that every lane is before: no name sorts after this. */
void
outbox_lane_end(LaneKey *end)
{
	memset(end, 0xFF, sizeof(*end));
	NameStr(end->gateway)[NAMEDATALEN - 1] = '\0';
}

/*
 * Finds the first lane with queued messages after *lane and before *end, and
 * puts it into *lane; false if there is none.
 */
bool
outbox_next_lane(LaneKey *lane, const LaneKey *end)
{
	Datum values[] = {
		NameGetDatum(&lane->gateway),
		Int16GetDatum(lane->priority),
		NameGetDatum(&end->gateway),
		Int16GetDatum(end->priority),
	};
	bool isnull;

	run(PLAN_NEXT_LANE, values);
	if (SPI_processed == 0)
		return false;
	lane->gateway = *DatumGetName(column(0, 1, &isnull));
	lane->priority = DatumGetInt16(column(0, 2, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return true;
}

static char *
text_column(int row, int number)
{
	bool isnull;
	Datum datum = column(row, number, &isnull);

	return isnull ? NULL : TextDatumGetCString(datum);
}

static TimestampTz
time_column(int row, int number, TimestampTz if_null)
{
	bool isnull;
	Datum datum = column(row, number, &isnull);

	return isnull ? if_null : DatumGetTimestampTz(datum);
}

static char *
json_column(int row, int number)
{
	bool isnull;
	Datum datum = column(row, number, &isnull);
	Jsonb *json;

	if (isnull)
		return NULL;
	json = DatumGetJsonbP(datum);
	return JsonbToCString(NULL, &json->root, VARSIZE(json));
}

/* Writes {1,3} as "1,3"; a NULL element as nothing, which is then refused. */
char *
outbox_join_routerule(ArrayType *array)
{
	Datum *elements;
	bool *nulls;
	int n;
	StringInfoData joined;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	initStringInfo(&joined);
	for (int i = 0; i < n; i++)
		appendStringInfo(&joined, "%s%s", i > 0 ? "," : "", nulls[i] ? "" : TextDatumGetCString(elements[i]));
	return joined.data;
}

/* Finds what the message is to be sent with, or why it cannot be. */
static void
resolve_item(OutboxItem *item, Draft *draft, const char *created_by)
{
	Oid role = get_role_oid(created_by, true);
	GatewayError error;
	Gateway *gateway = NULL;

	memset(&error, 0, sizeof(error));
	if (OidIsValid(role))
		gateway = gateway_get(item->gateway_name, role, &error);
	else
	{
		error.sqlstate = ERRCODE_UNDEFINED_OBJECT;
		snprintf(error.message, sizeof(error.message), "role \"%s\" does not exist", created_by);
	}
	if (gateway != NULL && gateway_prepare(gateway, draft, &item->prepared, &error))
	{
		item->gateway = gateway;
		gateway_hold(gateway);
		return;
	}
	item->refusal = palloc(sizeof(error));
	*item->refusal = error;
}

/*
 * Contexts of messages, empty, to be used again: making and freeing one for
 * each message costs more than filling it.
 */
static MemoryContext spare_contexts[SPARE_CONTEXTS];
static int nspare = 0;

static MemoryContext
take_context(MemoryContext parent)
{
	if (nspare > 0)
	{
		MemoryContext context = spare_contexts[--nspare];

		MemoryContextSetParent(context, parent);
		return context;
	}
	return AllocSetContextCreate(parent, "sms_gateway message", 0, ITEM_SIZE, ITEM_SIZE);
}

/* Gives a message back, with all that was allocated for it. */
void
outbox_free_item(OutboxItem *item)
{
	MemoryContext context = item->context;

	if (nspare == SPARE_CONTEXTS)
	{
		MemoryContextDelete(context);
		return;
	}
	MemoryContextReset(context);
	MemoryContextSetParent(context, TopMemoryContext);
	spare_contexts[nspare++] = context;
}

static OutboxItem *
read_item(int row, MemoryContext parent)
{
	MemoryContext context = take_context(parent);
	MemoryContext old = MemoryContextSwitchTo(context);
	OutboxItem *item = palloc0(sizeof(OutboxItem));
	Draft draft = {0};
	bool isnull;
	Datum datum;
	char *kind = text_column(row, 8);

	item->context = context;
	item->id = DatumGetInt64(column(row, 1, &isnull));
	item->priority = DatumGetInt16(column(row, 2, &isnull));
	item->attempts = DatumGetInt32(column(row, 3, &isnull));
	item->due = time_column(row, 4, 0);
	item->created_at = time_column(row, 5, 0);
	item->expires_at = time_column(row, 6, DT_NOEND);
	item->unsure_since = time_column(row, 7, 0);
	item->details = json_column(row, 17);
	item->gateway_name = pstrdup(NameStr(*DatumGetName(column(row, 18, &isnull))));

	if (!kind_from_name(kind, &draft.call))
		draft.call = CALL_TEXT;
	draft.phone = text_column(row, 9);
	draft.content = text_column(row, 10);
	draft.template_code = text_column(row, 11);
	draft.list_param = json_column(row, 12);
	datum = column(row, 13, &isnull);
	if (!isnull)
		draft.routerule = outbox_join_routerule(DatumGetArrayTypeP(datum));
	datum = column(row, 14, &isnull);
	if (!isnull)
		draft.options = (Jsonb *) DatumGetPointer(PG_DETOAST_DATUM_COPY(datum));
	draft.request_id = text_column(row, 15);
	draft.digits_only = true;
	/* An MSISDN with a plus reads the same whatever the country code is. */
	draft.phone = psprintf("+%s", draft.phone);

	resolve_item(item, &draft, NameStr(*DatumGetName(column(row, 16, &isnull))));
	MemoryContextSwitchTo(old);
	return item;
}

/*
 * Locks and reads up to limit due messages of a lane, in order; the lane's
 * bounds are not moved, as the transaction may yet fail.  Each message lives in
 * a context below parent.
 */
List *
outbox_claim(Lane *lane, int limit, TimestampTz now, MemoryContext parent)
{
	Datum values[] = {
		NameGetDatum(&lane->gateway),  Int16GetDatum(lane->priority), TimestampTzGetDatum(lane->after_due),
		Int64GetDatum(lane->after_id), TimestampTzGetDatum(now),      Int64GetDatum(home_origin),
		Int64GetDatum(limit),
	};
	List *items = NIL;

	run(PLAN_CLAIM, values);
	for (uint64 i = 0; i < SPI_processed; i++)
		items = lappend(items, read_item((int) i, parent));
	SPI_freetuptable(SPI_tuptable);
	return items;
}

/* When the next message of a lane is due; DT_NOEND if none waits. */
TimestampTz
outbox_lane_due(const Lane *lane, TimestampTz now)
{
	Datum values[] = {
		NameGetDatum(&lane->gateway),
		Int16GetDatum(lane->priority),
		TimestampTzGetDatum(now),
	};
	TimestampTz due = DT_NOEND;

	run(PLAN_LANE_DUE, values);
	if (SPI_processed > 0)
		due = time_column(0, 1, DT_NOEND);
	SPI_freetuptable(SPI_tuptable);
	return due;
}

/* ------------------------------------------------------------------------
 * Leases
 * ------------------------------------------------------------------------ */

static Datum
id_array(const Datum *ids, int n)
{
	return PointerGetDatum(construct_array(unconstify(Datum *, ids), n, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* Notes that these messages are on their way from now on. */
int64
outbox_lease_add(List *items, TimestampTz now)
{
	Datum *ids = palloc(sizeof(Datum) * list_length(items));
	Datum values[2];
	bool isnull;
	int n = 0;
	ListCell *lc;
	int64 lease;

	foreach (lc, items)
		ids[n++] = Int64GetDatum(((OutboxItem *) lfirst(lc))->id);
	values[0] = id_array(ids, n);
	values[1] = TimestampTzGetDatum(now);
	run(PLAN_LEASE_ADD, values);
	lease = DatumGetInt64(column(0, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return lease;
}

void
outbox_lease_drop(int64 lease)
{
	Datum values[] = {Int64GetDatum(lease)};

	run(PLAN_LEASE_DROP, values);
}

/* Names anew the messages of a lease, as some of them went back to the queue. */
void
outbox_lease_set(int64 lease, const Datum *ids, int n)
{
	Datum values[] = {Int64GetDatum(lease), id_array(ids, n)};

	run(PLAN_LEASE_SET, values);
}

void
outbox_lease_clear(void)
{
	run(PLAN_LEASE_CLEAR, NULL);
}

/*
 * Reads the messages that were on their way in an engine that is gone.
 */
List *
outbox_orphans(MemoryContext parent)
{
	Datum values[] = {Int64GetDatum(home_origin)};
	List *items = NIL;

	run(PLAN_ORPHANS, values);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		OutboxItem *item = read_item((int) i, parent);

		item->claimed_at = time_column((int) i, 19, 0);
		items = lappend(items, item);
	}
	SPI_freetuptable(SPI_tuptable);
	return items;
}

/* SQL filter of a claim: is this message in the hands of this session's engine? */
Datum
sms_gateway_claimed(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(engine_claimed(PG_GETARG_INT64(0)));
}

/* ------------------------------------------------------------------------
 * Recording
 * ------------------------------------------------------------------------ */

/* The value of sms_status, whose type is given, that has this label. */
Oid
outbox_status_label(Oid type, const char *label)
{
	HeapTuple tuple = SearchSysCache2(ENUMTYPOIDNAME, ObjectIdGetDatum(type), CStringGetDatum(label));
	Oid oid;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "sms_status has no label \"%s\"", label);
	oid = ((Form_pg_enum) GETSTRUCT(tuple))->oid;
	ReleaseSysCache(tuple);
	return oid;
}

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

/* Adds one outcome; *status_oid is that of *status, and changes with it. */
static void
put_outcome(ReturnSetInfo *rsinfo, const OutboxItem *item, const char **status, Oid *status_oid)
{
	Datum values[14] = {0};
	bool nulls[14] = {0};
	NameData gateway;
	const Answer *answer = item->answer;

	namestrcpy(&gateway, item->new_gateway ? item->new_gateway : item->gateway_name);
	values[0] = Int64GetDatum(item->id);
	if (*status == NULL || strcmp(*status, item->new_status) != 0)
	{
		*status = item->new_status;
		*status_oid = outbox_status_label(TupleDescAttr(rsinfo->setDesc, 1)->atttypid, *status);
	}
	values[1] = ObjectIdGetDatum(*status_oid);
	values[2] = NameGetDatum(&gateway);
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
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

/* The outcomes that outbox_record() is recording, as rows; else none. */
Datum
sms_gateway_results(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const char *status = NULL;
	Oid status_oid = InvalidOid;
	dlist_iter iter;

	InitMaterializedSRF(fcinfo, 0);
	if (recording_one != NULL)
		put_outcome(rsinfo, recording_one, &status, &status_oid);
	else if (recording != NULL)
	{
		dlist_foreach (iter, recording)
		{
			const OutboxItem *item = dlist_container(OutboxItem, node, iter.cur);

			if (!item->handed_back)
				put_outcome(rsinfo, item, &status, &status_oid);
		}
	}
	return (Datum) 0;
}

/* Runs the recording statement in a subtransaction; false if it failed. */
static bool
try_record(bool with_triggers)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		Datum values[1];
		bool present = true;

		if (recording_one != NULL)
		{
			/* Somebody may hold the row: then it waits, not everybody else. */
			values[0] = Int64GetDatum(recording_one->id);
			run(PLAN_ROW_FREE, values);
			present = SPI_processed > 0;
			SPI_freetuptable(SPI_tuptable);
		}
		if (!with_triggers)
			set_guc("session_replication_role", "replica", GUC_ACTION_LOCAL);
		if (present)
			run_firing(PLAN_RECORD, NULL);
		if (!with_triggers)
			set_guc("session_replication_role", "origin", GUC_ACTION_LOCAL);
		ok = present;
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED || error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			ReThrowError(error);
		if (recording_one != NULL)
			ereport(WARNING, (errcode(error->sqlerrcode),
							  errmsg("could not record message %lld%s: %s", (long long) recording_one->id,
									 with_triggers ? "" : ", even without triggers", error->message)));
		FreeErrorData(error);
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return ok;
}

/*
 * Writes outcomes onto their rows and marks those that were written.  If that
 * fails for all together, it is done one by one, so that a failing trigger of
 * the user's or a locked row stops no other; a failing trigger is passed over
 * rather than the outcome lost.
 */
void
outbox_record(dlist_head *outcomes)
{
	dlist_iter iter;
	bool all;

	recording = outcomes;
	all = try_record(true);
	dlist_foreach (iter, outcomes)
	{
		OutboxItem *item = dlist_container(OutboxItem, node, iter.cur);

		recording_one = item;
		item->recorded = all || item->handed_back || try_record(true) || try_record(false);
		recording_one = NULL;
	}
	recording = NULL;
}

/* ------------------------------------------------------------------------
 * Expiry, retention, pauses
 * ------------------------------------------------------------------------ */

/* Ends messages whose time has passed; returns how many, and when the next one's passes. */
int
outbox_expire(TimestampTz now, TimestampTz *next)
{
	Datum values[] = {TimestampTzGetDatum(now), Int64GetDatum(home_origin)};
	int n;

	run_firing(PLAN_EXPIRE, values);
	n = (int) SPI_processed;
	run(PLAN_EXPIRE_NEXT, values);
	*next = SPI_processed > 0 ? time_column(0, 1, DT_NOEND) : DT_NOEND;
	if (n == EXPIRE_AT_ONCE)
		*next = now;
	SPI_freetuptable(SPI_tuptable);
	return n;
}

/*
 * Deletes ended messages created before a time, a page at a time from *after
 * on.  Returns false when it came to newer ones or the end, and then starts anew.
 */
bool
outbox_purge(TimestampTz before, int64 *after)
{
	Datum values[] = {Int64GetDatum(*after), TimestampTzGetDatum(before)};
	bool no_page;
	bool isnull;
	bool more;

	run(PLAN_PURGE, values);
	*after = DatumGetInt64(column(0, 1, &no_page));
	more = !no_page && !DatumGetBool(column(0, 2, &isnull));
	if (!more)
		*after = 0;
	SPI_freetuptable(SPI_tuptable);
	return more;
}

/* The paused gateways, as a list of GatewayPause. */
List *
outbox_pauses(void)
{
	List *pauses = NIL;
	bool isnull;

	run(PLAN_PAUSES, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		GatewayPause *pause = palloc0(sizeof(GatewayPause));

		pause->gateway = *DatumGetName(column((int) i, 1, &isnull));
		pause->by_user = DatumGetBool(column((int) i, 2, &isnull));
		pauses = lappend(pauses, pause);
	}
	SPI_freetuptable(SPI_tuptable);
	return pauses;
}

/* Tells engines that the table of pauses changed. */
static void
announce_pauses(void)
{
	Oid table = get_relname_relid("sms_gateway_state", plans_schema);

	if (OidIsValid(table))
		CacheInvalidateRelcacheByRelid(table);
}

void
outbox_pause(const char *gateway, const char *reason, bool by_user)
{
	NameData name;
	Datum values[] = {NameGetDatum(&name), CStringGetTextDatum(reason), BoolGetDatum(by_user)};

	namestrcpy(&name, gateway);
	run(PLAN_PAUSE, values);
	announce_pauses();
}

bool
outbox_resume(const char *gateway, bool by_user)
{
	NameData name;
	Datum values[] = {NameGetDatum(&name), BoolGetDatum(by_user)};
	bool found;

	namestrcpy(&name, gateway);
	run(PLAN_RESUME, values);
	found = SPI_processed > 0;
	announce_pauses();
	return found;
}

/* ------------------------------------------------------------------------
 * On behalf of users
 * ------------------------------------------------------------------------ */

/*
 * Has a message with this request_id been queued for this gateway?  Takes no
 * lock that outlives the call: the caller is about to wait for the network.
 */
bool
outbox_request_id_used(const char *gateway, const char *request_id)
{
	Oid extension;
	Oid schema;
	Oid index;
	NameData name;
	Relation table;
	ScanKeyData keys[2];
	SysScanDesc scan;
	Snapshot snapshot;
	bool used;

	if (!find_extension(&extension, &schema, NULL) ||
		!OidIsValid(index = get_relname_relid("sms_outbox_request_id", schema)))
		return false;
	namestrcpy(&name, gateway);
	table = table_open(get_relname_relid("sms_outbox", schema), AccessShareLock);
	ScanKeyInit(&keys[0], get_attnum(RelationGetRelid(table), "gateway"), BTEqualStrategyNumber, F_NAMEEQ,
				NameGetDatum(&name));
	ScanKeyInit(&keys[1], get_attnum(RelationGetRelid(table), "request_id"), BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(request_id));
	keys[1].sk_collation = DEFAULT_COLLATION_OID;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(table, index, true, snapshot, 2, keys);
	used = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(table, AccessShareLock);
	return used;
}

/* Can a due message of this lane be locked? */
static bool
lane_has_free(const Lane *lane, TimestampTz now)
{
	Datum values[] = {
		NameGetDatum(&lane->gateway),
		Int16GetDatum(lane->priority),
		TimestampTzGetDatum(now),
	};

	run(PLAN_LANE_FREE, values);
	return SPI_processed > 0;
}

static bool
any_on_its_way(void)
{
	run(PLAN_ANY_LEASE, NULL);
	return SPI_processed > 0;
}

static bool
is_paused(const Lane *lane)
{
	Datum values[] = {NameGetDatum(&lane->gateway)};

	run(PLAN_PAUSED, values);
	return SPI_processed > 0;
}

/*
 * Is no message due or on its way, as far as is committed?  Those of paused
 * gateways can be left out of account, and those that another transaction has
 * locked; telling the latter needs row locks of our own, which last until the
 * transaction ends.
 */
bool
outbox_idle(bool but_paused, bool but_locked)
{
	LaneKey key = {{{0}}, PG_INT16_MIN};
	LaneKey end;
	bool idle = true;
	TimestampTz now = GetCurrentTimestamp();

	outbox_lane_end(&end);
	PushActiveSnapshot(GetLatestSnapshot());
	while (idle && outbox_next_lane(&key, &end))
	{
		Lane lane = {.gateway = key.gateway, .priority = key.priority};

		idle = outbox_lane_due(&lane, DT_NOBEGIN) > now || (but_paused && is_paused(&lane)) ||
			   (but_locked && !lane_has_free(&lane, now));
	}
	/* A lease may name messages of a paused gateway that are still on their way. */
	if (idle && but_paused)
		idle = !any_on_its_way();
	PopActiveSnapshot();
	return idle;
}

/*
 * Locks a message that belongs to role, or that role may manage as the table's
 * owner.  Returns its status.
 */
static char *
lock_message(int64 id, Oid role)
{
	Datum values[] = {Int64GetDatum(id)};
	bool isnull;
	char *status;
	Oid creator;

	run(PLAN_LOCK_ROW, values);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("message %lld does not exist", (long long) id)));
	status = text_column(0, 1);
	creator = get_role_oid(NameStr(*DatumGetName(column(0, 2, &isnull))), true);
	SPI_freetuptable(SPI_tuptable);
	if (creator != role && !compat_owns_table(get_relname_relid("sms_outbox", plans_schema), role))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for message %lld", (long long) id),
						errdetail("Another role queued it.")));
	return status;
}

/*
 * The last lease that names a message, as of now and not as of the caller's
 * snapshot: 0 if none.  Sets *on_its_way if the message is being sent under it.
 */
static TimestampTz
leased_at(int64 id, bool *on_its_way)
{
	Datum values[] = {Int64GetDatum(id)};
	TimestampTz claimed_at = 0;
	bool isnull;

	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_execute_plan(get_plan(PLAN_LEASED_AT), values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read leases");
	PopActiveSnapshot();
	*on_its_way = false;
	if (SPI_processed > 0)
	{
		claimed_at = time_column(0, 1, 0);
		*on_its_way = DatumGetBool(column(0, 2, &isnull)) && !isnull;
	}
	SPI_freetuptable(SPI_tuptable);
	return claimed_at;
}

static void
set_status(int64 id, const char *status)
{
	Datum values[] = {Int64GetDatum(id), CStringGetTextDatum(status)};

	run_firing(PLAN_SET_STATUS, values);
}

/* Takes a queued message back; false if it is too late. */
bool
outbox_cancel(int64 id, Oid role)
{
	bool on_its_way;

	if (strcmp(lock_message(id, role), "queued") != 0)
		return false;
	leased_at(id, &on_its_way);
	if (on_its_way)
		return false;
	set_status(id, "canceled");
	return true;
}

/* Queues an ended message again, due now; false if it is in another state. */
bool
outbox_retry(int64 id, Oid role)
{
	const char *status = lock_message(id, role);
	bool on_its_way;
	TimestampTz due;
	Datum values[2];

	if (strcmp(status, "failed") != 0 && strcmp(status, "expired") != 0 && strcmp(status, "canceled") != 0 &&
		strcmp(status, "uncertain") != 0)
		return false;

	/* Past any lease that still names it, or it would look as if on its way. */
	due = Max(leased_at(id, &on_its_way) + 1, GetCurrentTimestamp());
	values[0] = Int64GetDatum(id);
	values[1] = TimestampTzGetDatum(due);
	run_firing(PLAN_REQUEUE, values);
	wake_at_commit(due);
	return true;
}

/* Decides an uncertain message; false if it is not uncertain. */
bool
outbox_resolve(int64 id, const char *status, Oid role)
{
	if (strcmp(lock_message(id, role), "uncertain") != 0)
		return false;
	set_status(id, status);
	return true;
}

/* Writes down, at CREATE EXTENSION, which database this is. */
void
outbox_create_identity(void)
{
	OwnerScope scope;
	int64 instance;
	Datum values[3];

	if (!pg_strong_random(&instance, sizeof(instance)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random number")));
	outbox_enter(&scope);
	values[0] = Int64GetDatum(instance);
	values[1] = Int64GetDatum((int64) GetSystemIdentifier());
	values[2] = ObjectIdGetDatum(MyDatabaseId);
	run(PLAN_IDENTITY, values);
	outbox_leave(&scope);
	home = HOME_UNKNOWN;
}
