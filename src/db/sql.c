/*
 * outbox_sql.c
 *		The statements of the outbox, and as whom and how they are run.
 *
 * Everything here runs as the owner of the tables, with settings that the plans
 * were made for.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "base/compat.h"
#include "db/sql.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* Columns of a claimed message, in the order in which read_item() takes them. */
#define ITEM_COLUMNS                                                                                         \
	"o.id, o.priority, o.attempts, o.next_attempt_at, o.created_at, o.expires_at, "                          \
	"o.unsure_since, o.kind, o.phone, o.content, o.template_code, o.list_param, "                            \
	"o.routerule, o.options, o.request_id, o.created_by, o.details, o.gateway"

/* Columns of a message that was sent, in the order in which read_follow() takes them. */
#define FOLLOW_COLUMNS                                                                                       \
	"o.id, o.gateway, coalesce(o.id_omni_mess, o.smsid, o.referent_id), o.status, o.created_by, "            \
	"o.sent_at, o.poll_at"

/*
 * "status = 'queued'" where rows are found by their id: written so that it does
 * not imply the predicate of the index of due messages, which the planner would
 * else walk through from end to end while the table has no statistics.
 */
#define STILL_QUEUED "(o.status OPERATOR(pg_catalog.=) 'queued' OR o.status OPERATOR(pg_catalog.=) 'sending')"

/* Blanks the text of a message "o" that ends, where it has to be. */
#define BLANK(condition)                                                                                     \
	"content = CASE WHEN " condition " THEN NULL ELSE o.content END, "                                       \
	"list_param = CASE WHEN " condition " THEN NULL ELSE o.list_param END"
#define REDACTED "@sms_gateway_redacts(o.gateway, o.kind)"

#define MAX_ARGS 8
/* "@" stands for the extension's schema and a dot.  (A formatter does not know where SQL breaks.) */
/* clang-format off */
static const struct
{
	const char *sql;
	Oid args[MAX_ARGS];
} statements[PLAN_COUNT] = {
	[PLAN_NEXT_LANE] = {
		"SELECT o.gateway, o.priority FROM @sms_outbox o "
		"WHERE o.status = 'queued' AND (o.gateway, o.priority) > ($1, $2) "
		"AND (o.gateway, o.priority) < ($3, $4) "
		"ORDER BY o.gateway, o.priority LIMIT 1",
		{NAMEOID, INT2OID, NAMEOID, INT2OID}},
	[PLAN_CLAIM] = {
		"SELECT " ITEM_COLUMNS " FROM @sms_outbox o "
		"WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $2 "
		"AND (o.next_attempt_at, o.id) > ($3, $4) AND o.next_attempt_at <= $5 "
		"AND o.origin = $6 AND NOT @sms_gateway_claimed(o.id) "
		"ORDER BY o.next_attempt_at, o.id LIMIT $7 FOR NO KEY UPDATE OF o SKIP LOCKED",
		{NAMEOID, INT2OID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID}},
	[PLAN_LANE_DUE] = {
		"SELECT o.next_attempt_at FROM @sms_outbox o "
		"WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $2 "
		"AND o.next_attempt_at > $3 ORDER BY o.next_attempt_at LIMIT 1",
		{NAMEOID, INT2OID, TIMESTAMPTZOID}},
	[PLAN_ANY_DUE] = {
		"SELECT 1 FROM @sms_outbox o "
		"WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $2 "
		"AND o.next_attempt_at <= $3 AND o.origin = $4 LIMIT 1",
		{NAMEOID, INT2OID, TIMESTAMPTZOID, INT8OID}},
	[PLAN_LANE_FREE] = {
		"SELECT 1 FROM @sms_outbox o "
		"WHERE o.status = 'queued' AND o.gateway = $1 AND o.priority = $2 "
		"AND o.next_attempt_at <= $3 AND o.origin = $4 LIMIT 1 FOR SHARE OF o SKIP LOCKED",
		{NAMEOID, INT2OID, TIMESTAMPTZOID, INT8OID}},
	[PLAN_LEASE_ADD] = {
		"INSERT INTO @sms_gateway_lease (ids, claimed_at) VALUES ($1, $2) RETURNING id",
		{INT8ARRAYOID, TIMESTAMPTZOID}},
	[PLAN_LEASE_DROP] = {
		"DELETE FROM @sms_gateway_lease WHERE id = $1", {INT8OID}},
	[PLAN_LEASE_SET] = {
		"UPDATE @sms_gateway_lease SET ids = $2 WHERE id = $1", {INT8OID, INT8ARRAYOID}},
	[PLAN_LEASE_CLEAR] = {
		"DELETE FROM @sms_gateway_lease", {InvalidOid}},
	[PLAN_RECORD] = {
		"UPDATE @sms_outbox o SET status = r.status, gateway = r.gateway, attempts = r.attempts, "
		"next_attempt_at = r.next_attempt_at, smsid = coalesce(r.smsid, o.smsid), "
		"id_omni_mess = coalesce(r.id_omni_mess, o.id_omni_mess), "
		"referent_id = coalesce(r.referent_id, o.referent_id), result_code = r.result_code, "
		"result_message = r.result_message, http_status = r.http_status, sent_at = r.sent_at, "
		"details = coalesce(r.details, o.details), unsure_since = r.unsure_since, "
		"poll_at = r.poll_at, " BLANK("r.blank") " "
		"FROM @sms_gateway_results() r WHERE o.id OPERATOR(pg_catalog.=) r.id "
		"AND " STILL_QUEUED,
		{InvalidOid}},
	[PLAN_ROW_FREE] = {
		"SELECT 1 FROM @sms_outbox WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED", {INT8OID}},
	[PLAN_ORPHANS] = {
		"SELECT " ITEM_COLUMNS ", l.claimed_at "
		"FROM @sms_gateway_lease l, unnest(l.ids) AS u(id), @sms_outbox o "
		"WHERE o.id = u.id AND " STILL_QUEUED " AND o.next_attempt_at <= l.claimed_at "
		"AND o.origin = $1 FOR NO KEY UPDATE OF o",
		{INT8OID}},
	[PLAN_LATE] = {
		"SELECT o.id, o.gateway, CASE WHEN o.unsure_since IS NULL THEN 'expired' ELSE 'uncertain' END::@sms_status, "
		"NULL::text, o.created_by FROM @sms_outbox o "
		"WHERE o.status = 'queued' AND o.expires_at IS NOT NULL AND o.expires_at <= $1 AND o.origin = $2 "
		"AND NOT @sms_gateway_claimed(o.id) ORDER BY o.expires_at "
		"LIMIT " CppAsString2(EXPIRE_AT_ONCE) " FOR NO KEY UPDATE OF o SKIP LOCKED",
		{TIMESTAMPTZOID, INT8OID}},
	[PLAN_EXPIRE] = {
		"UPDATE @sms_outbox o SET next_attempt_at = NULL, "
		"status = CASE WHEN o.unsure_since IS NULL THEN 'expired' ELSE 'uncertain' END::@sms_status, "
		BLANK("o.unsure_since IS NULL AND " REDACTED) " "
		"WHERE o.id OPERATOR(pg_catalog.=) ANY ($1) "
		"AND " STILL_QUEUED,
		{INT8ARRAYOID}},
	[PLAN_EXPIRE_NEXT] = {
		"SELECT o.expires_at FROM @sms_outbox o WHERE o.status = 'queued' "
		"AND o.expires_at IS NOT NULL AND o.expires_at > $1 ORDER BY o.expires_at LIMIT 1",
		{TIMESTAMPTZOID}},
	[PLAN_PURGE] = {
		"WITH page AS MATERIALIZED (SELECT o.id, o.created_at FROM @sms_outbox o "
		"WHERE o.id > $1 ORDER BY o.id LIMIT 1000), "
		"gone AS (DELETE FROM @sms_outbox o USING page WHERE o.id = page.id "
		"AND o.created_at < $2 AND o.status IN "
		"('sent', 'delivered', 'undelivered', 'failed', 'expired', 'canceled')) "
		"SELECT max(id), bool_or(created_at >= $2) FROM page",
		{INT8OID, TIMESTAMPTZOID}},
	[PLAN_PAUSES] = {
		"SELECT gateway, by_user FROM @sms_gateway_state", {InvalidOid}},
	[PLAN_PAUSED] = {
		"SELECT 1 FROM @sms_gateway_state WHERE gateway = $1", {NAMEOID}},
	[PLAN_ANY_LEASE] = {
		"SELECT 1 FROM @sms_gateway_lease LIMIT 1", {InvalidOid}},
	[PLAN_PAUSE] = {
		"INSERT INTO @sms_gateway_state AS s (gateway, reason, by_user, since) "
		"VALUES ($1, $2, $3, clock_timestamp()) ON CONFLICT (gateway) DO UPDATE "
		"SET reason = excluded.reason, by_user = excluded.by_user, since = excluded.since "
		"WHERE excluded.by_user OR NOT s.by_user",
		{NAMEOID, TEXTOID, BOOLOID}},
	[PLAN_RESUME] = {
		"DELETE FROM @sms_gateway_state WHERE gateway = $1 AND (NOT by_user OR $2)",
		{NAMEOID, BOOLOID}},
	[PLAN_IDENTITY] = {
		"INSERT INTO @sms_gateway_identity (instance, system_identifier, database_oid, secret) "
		"VALUES ($1, $2, $3, $4)",
		{INT8OID, INT8OID, OIDOID, BYTEAOID}},
	[PLAN_IDENTITIES] = {
		"SELECT instance, secret, system_identifier = $1 AND database_oid = $2 "
		"FROM @sms_gateway_identity ORDER BY 3 DESC, created_at DESC",
		{INT8OID, OIDOID}},
	[PLAN_IDENTITY_CLEAR] = {
		"DELETE FROM @sms_gateway_identity", {InvalidOid}},
	[PLAN_ADOPT] = {
		"UPDATE @sms_outbox SET origin = $1 WHERE origin <> $1 AND status = ANY ($2::@sms_status[])",
		{INT8OID, TEXTOID}},
	[PLAN_LOCK_ROW] = {
		"SELECT status, created_by, CASE kind WHEN 'omni' THEN list_param IS NULL "
		"ELSE content IS NULL END FROM @sms_outbox WHERE id = $1 FOR NO KEY UPDATE",
		{INT8OID}},
	[PLAN_LEASED_AT] = {
		"SELECT l.claimed_at, o.next_attempt_at <= l.claimed_at FROM @sms_gateway_lease l, "
		"@sms_outbox o WHERE o.id = $1 AND o.id = ANY (l.ids) ORDER BY l.claimed_at DESC LIMIT 1",
		{INT8OID}},
	[PLAN_SET_STATUS] = {
		"UPDATE @sms_outbox o SET status = $2::@sms_status, next_attempt_at = NULL, "
		"sent_at = CASE WHEN $2 OPERATOR(pg_catalog.=) 'sent' "
		"THEN coalesce(o.sent_at, pg_catalog.clock_timestamp()) ELSE o.sent_at END, "
		BLANK(REDACTED) " "
		"WHERE o.id OPERATOR(pg_catalog.=) $1",
		{INT8OID, TEXTOID}},
	[PLAN_REQUEUE] = {
		"UPDATE @sms_outbox SET status = 'queued', attempts = 0, next_attempt_at = $2, "
		"expires_at = CASE WHEN expires_at OPERATOR(pg_catalog.>) $2 THEN expires_at END, "
		"unsure_since = NULL WHERE id OPERATOR(pg_catalog.=) $1",
		{INT8OID, TIMESTAMPTZOID}},
	[PLAN_FOLLOW] = {
		"UPDATE @sms_outbox o SET "
		"status = CASE WHEN r.open THEN coalesce(r.status, o.status) ELSE o.status END, "
		"delivered_at = CASE WHEN r.open THEN r.delivered_at ELSE o.delivered_at END, "
		"sent_at = coalesce(o.sent_at, CASE WHEN r.status IS NOT NULL THEN pg_catalog.clock_timestamp() END), "
		"unsure_since = CASE WHEN r.status IS NULL THEN o.unsure_since END, "
		BLANK("r.status IS NOT NULL AND " REDACTED) ", "
		"price = coalesce(r.price, o.price), parts = coalesce(r.parts, o.parts), "
		"smsid = coalesce(o.smsid, r.smsid), "
		"id_omni_mess = coalesce(o.id_omni_mess, r.id_omni_mess), "
		"referent_id = coalesce(o.referent_id, r.referent_id), "
		"details = CASE WHEN r.details IS NULL OR NOT r.open THEN o.details "
		"ELSE coalesce(o.details, '{}') OPERATOR(pg_catalog.||) r.details END, "
		"poll_at = CASE WHEN r.poll_at OPERATOR(pg_catalog.=) '-infinity' THEN o.poll_at ELSE r.poll_at END "
		"FROM (SELECT f.*, x.status OPERATOR(pg_catalog.=) ANY ('{sent,uncertain}'::@sms_status[]) AS open "
		"FROM @sms_gateway_reports() f JOIN @sms_outbox x ON x.id OPERATOR(pg_catalog.=) f.id) r "
		"WHERE o.id OPERATOR(pg_catalog.=) r.id AND o.status OPERATOR(pg_catalog.=) "
		"ANY ('{sent,uncertain,delivered,undelivered}'::@sms_status[])",
		{InvalidOid}},
	[PLAN_FOLLOW_ENDS] = {
		"SELECT o.id, o.gateway, r.status, r.details ->> 'delivery_code' "
		"FROM @sms_gateway_reports() r JOIN @sms_outbox o ON o.id = r.id "
		"WHERE r.status IN ('delivered', 'undelivered') AND o.status IN ('sent', 'uncertain')",
		{InvalidOid}},
	[PLAN_POLLS] = {
		"SELECT " FOLLOW_COLUMNS
		" FROM @sms_outbox o WHERE o.gateway = $1 AND o.poll_at IS NOT NULL "
		"AND (o.poll_at, o.id) > ($2, $3) AND o.poll_at <= $4 AND o.origin = $5 "
		"ORDER BY o.poll_at, o.id LIMIT $6",
		{NAMEOID, TIMESTAMPTZOID, INT8OID, TIMESTAMPTZOID, INT8OID, INT8OID}},
	[PLAN_POLL_DUE] = {
		"SELECT o.poll_at FROM @sms_outbox o WHERE o.gateway = $1 AND o.poll_at IS NOT NULL "
		"AND o.poll_at > $2 ORDER BY o.poll_at LIMIT 1",
		{NAMEOID, TIMESTAMPTZOID}},
	[PLAN_SENT_MESSAGE] = {
		"SELECT " FOLLOW_COLUMNS " FROM @sms_outbox o WHERE o.id = $1", {INT8OID}},
	[PLAN_FIND_ID] = {
		"SELECT o.status, o.request_id, o.smsid, o.created_by FROM @sms_outbox o "
		"WHERE o.id = $1 AND o.gateway = $2",
		{INT8OID, NAMEOID}},
	[PLAN_FIND_REQUEST] = {
		"SELECT o.id FROM @sms_outbox o WHERE o.gateway = $1 AND o.request_id = $2 "
		"AND NOT o.request_id OPERATOR(pg_catalog.^@) 'sgw-'",
		{NAMEOID, TEXTOID}},
	[PLAN_FIND_REFERENCE] = {
		"SELECT o.id FROM @sms_outbox o "
		"WHERE coalesce(o.id_omni_mess, o.smsid, o.referent_id) = $2 "
		"AND coalesce(o.id_omni_mess, o.smsid, o.referent_id) IS NOT NULL "
		"AND (o.status IN ('sent', 'uncertain') OR o.kind <> 'text') AND o.gateway = $1 LIMIT 1",
		{NAMEOID, TEXTOID}},
	[PLAN_FIND_REMEMBERED] = {
		"SELECT message FROM @sms_gateway_report WHERE gateway = $1 AND reference = $2 "
		"AND message IS NOT NULL",
		{NAMEOID, TEXTOID}},
	[PLAN_KEEP_REPORT] = {
		"INSERT INTO @sms_gateway_report AS s (gateway, reference, message, report) "
		"VALUES ($1, $2, $3, $4) ON CONFLICT (gateway, reference) DO UPDATE SET "
		"message = coalesce(s.message, excluded.message), "
		"report = CASE WHEN $5 THEN excluded.report ELSE s.report END, "
		"received_at = excluded.received_at",
		{NAMEOID, TEXTOID, INT8OID, JSONBOID, BOOLOID}},
	[PLAN_UNKNOWN_REPORTS] = {
		"SELECT gateway, reference, report::text FROM @sms_gateway_report "
		"WHERE message IS NULL AND received_at > $1 ORDER BY received_at DESC LIMIT $2",
		{TIMESTAMPTZOID, INT8OID}},
	[PLAN_KNOW_REPORT] = {
		"UPDATE @sms_gateway_report SET message = $3 WHERE gateway = $1 AND reference = $2",
		{NAMEOID, TEXTOID, INT8OID}},
	[PLAN_PURGE_REPORTS] = {
		"DELETE FROM @sms_gateway_report WHERE received_at < $1", {TIMESTAMPTZOID}},
	[PLAN_PURGE_OTP] = {
		"DELETE FROM @sms_gateway_otp WHERE expires_at < $1", {TIMESTAMPTZOID}},
	[PLAN_PURGE_USAGE] = {
		"DELETE FROM @sms_gateway_usage WHERE window_end < $1 "
		"AND (subject ^@ 'otp ' OR subject ^@ 'phone ')",
		{TIMESTAMPTZOID}},
	[PLAN_OTP_ADD] = {
		"INSERT INTO @sms_gateway_otp (tries, expires_at, gateway, phone, salt, hash) "
		"VALUES (0, $5, $1, $2, $3, $4)",
		{NAMEOID, TEXTOID, BYTEAOID, BYTEAOID, TIMESTAMPTZOID}},
	[PLAN_OTP_USE] = {
		"DELETE FROM @sms_gateway_otp WHERE gateway = $1 AND phone = $2 AND id <= $3",
		{NAMEOID, TEXTOID, INT8OID}},
};
/* clang-format on */

static SPIPlanPtr plans[PLAN_COUNT];
static Oid plans_extension = InvalidOid;
static Oid plans_schema = InvalidOid;

/* ------------------------------------------------------------------------
 * Scopes: who we are and what the planner may do
 * ------------------------------------------------------------------------ */

/* Sets a GUC until the transaction or subtransaction ends (GUC_ACTION_LOCAL), or the level that was opened (_SAVE). */
void
sql_set(const char *name, const char *value, GucAction action)
{
	set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, action, true, 0, false);
}

/* Prepared statements are good for one schema: forgets those of another. */
void
sql_forget_plans(Oid extension, Oid schema)
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

/* ------------------------------------------------------------------------
 * Running
 * ------------------------------------------------------------------------ */

static int
count_args(Statement plan)
{
	int n = 0;

	while (n < MAX_ARGS && OidIsValid(statements[plan].args[n]))
		n++;
	return n;
}

static SPIPlanPtr
get_plan(Statement plan)
{
	StringInfoData sql;
	const char *schema;

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
	plans[plan] = SPI_prepare(sql.data, count_args(plan), (Oid *) statements[plan].args);
	if (plans[plan] == NULL || SPI_keepplan(plans[plan]) != 0)
		elog(ERROR, "could not prepare \"%s\"", sql.data);
	pfree(sql.data);
	return plans[plan];
}

/*
 * SPI leaves its own memory context current, which ends with SPI_finish(): the
 * caller's is put back, as what the caller allocates has to outlive that.
 */
static void
execute(Statement plan, Datum *values, const char *nulls, bool read_only)
{
	MemoryContext caller = CurrentMemoryContext;
	int rc = SPI_execute_plan(get_plan(plan), values, nulls, read_only, 0);

	MemoryContextSwitchTo(caller);
	if (rc < 0)
		elog(ERROR, "statement %d failed: %s", (int) plan, SPI_result_code_string(rc));
}

/* Runs a statement; results are in SPI_tuptable. */
void
sql_run(Statement plan, Datum *values)
{
	execute(plan, values, NULL, false);
}

/* The same; an 'n' in nulls makes that parameter NULL. */
void
sql_run_nulls(Statement plan, Datum *values, const char *nulls)
{
	execute(plan, values, nulls, false);
}

/* Runs a statement that reads, as of now and not as of the caller's snapshot. */
void
sql_read_latest(Statement plan, Datum *values)
{
	PushActiveSnapshot(GetLatestSnapshot());
	execute(plan, values, NULL, true);
	PopActiveSnapshot();
}

/*
 * Runs a statement that changes messages, and so fires the triggers that users
 * put on the outbox; as a role, if one is given.  Privileges are the owner's all the same: they are
 * checked when the executor starts, and the role changes after that.  Triggers find their objects
 * where they do in any session, and what they SET does not last; such statements qualify all
 * their operators.
 */
void
sql_run_firing(Statement plan, Datum *values, Oid role)
{
	CachedPlan *cached;
	PlannedStmt *statement;
	ParamListInfo params = NULL;
	QueryDesc *query;
	Oid user;
	int security;
	int guc_level = NewGUCNestLevel();
	int nargs = count_args(plan);

	sql_set("search_path", GetConfigOptionResetString("search_path"), GUC_ACTION_SAVE);
	if (nargs > 0)
	{
		params = makeParamList(nargs);
		for (int i = 0; i < nargs; i++)
			params->params[i] = (ParamExternData){
				.value = values[i], .pflags = PARAM_FLAG_CONST, .ptype = statements[plan].args[i]};
	}
	cached = SPI_plan_get_cached_plan(get_plan(plan));
	if (cached == NULL || list_length(cached->stmt_list) != 1)
		elog(ERROR, "statement %d has no plan", (int) plan);
	statement = linitial_node(PlannedStmt, cached->stmt_list);

	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	query = CreateQueryDesc(statement, statements[plan].sql, GetActiveSnapshot(), InvalidSnapshot,
							None_Receiver, params, NULL, 0);
	ExecutorStart(query, 0);
	GetUserIdAndSecContext(&user, &security);
	if (OidIsValid(role))
		SetUserIdAndSecContext(role, security | SECURITY_LOCAL_USERID_CHANGE);
	compat_executor_run(query);
	ExecutorFinish(query);
	SetUserIdAndSecContext(user, security);
	SPI_processed = query->estate->es_processed;
	ExecutorEnd(query);
	FreeQueryDesc(query);
	PopActiveSnapshot();
	ReleaseCachedPlan(cached, CurrentResourceOwner);
	CommandCounterIncrement();
	AtEOXact_GUC(false, guc_level);
}

/* ------------------------------------------------------------------------
 * Results
 * ------------------------------------------------------------------------ */

/* A column of a result, counted from 1. */
Datum
sql_column(int row, int number, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, isnull);
}

/* A column of type text, palloc'd; NULL if it is NULL. */
char *
sql_text(int row, int number)
{
	bool isnull;
	Datum datum = sql_column(row, number, &isnull);

	return isnull ? NULL : TextDatumGetCString(datum);
}

/* A column of type timestamptz. */
TimestampTz
sql_time(int row, int number, TimestampTz if_null)
{
	bool isnull;
	Datum datum = sql_column(row, number, &isnull);

	return isnull ? if_null : DatumGetTimestampTz(datum);
}

/* Runs a statement that looks for a time: that of its first row, DT_NOEND if there is none. */
TimestampTz
sql_find_time(Statement plan, Datum *values)
{
	TimestampTz found;

	sql_run(plan, values);
	found = SPI_processed > 0 ? sql_time(0, 1, DT_NOEND) : DT_NOEND;
	SPI_freetuptable(SPI_tuptable);
	return found;
}

/* A column of type jsonb as text, palloc'd; NULL if it is NULL. */
char *
sql_json(int row, int number)
{
	bool isnull;
	Datum datum = sql_column(row, number, &isnull);
	Jsonb *json;

	if (isnull)
		return NULL;
	json = DatumGetJsonbP(datum);
	return JsonbToCString(NULL, &json->root, VARSIZE(json));
}

/* A column that names a role; InvalidOid if that is no more. */
Oid
sql_role(int row, int number)
{
	bool isnull;

	return get_role_oid(NameStr(*DatumGetName(sql_column(row, number, &isnull))), true);
}

/* Ids as an array, which a statement takes. */
Datum
sql_id_array(const Datum *ids, int n)
{
	return PointerGetDatum(construct_array(unconstify(Datum *, ids), n, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* A column of type sms_status. */
Status
sql_status(int row, int number)
{
	bool isnull;

	return status_of_value(sql_column(row, number, &isnull));
}
