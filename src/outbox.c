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
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "details.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "lib/ilist.h"
#include "sms_gateway.h"
#include "storage/bufmgr.h"
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
PG_FUNCTION_INFO_V1(sms_gateway_reports);
PG_FUNCTION_INFO_V1(sms_gateway_redacts);

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

/* Blanks the text of a message "o" that ends, where it has to be. */
#define BLANK(condition)                                                                                     \
	"content = CASE WHEN " condition " THEN NULL ELSE o.content END, "                                       \
	"list_param = CASE WHEN " condition " THEN NULL ELSE o.list_param END"
#define REDACTED "@sms_gateway_redacts(o.gateway, o.kind)"

typedef enum Statement
{
	PLAN_NEXT_LANE,
	PLAN_CLAIM,
	PLAN_LANE_DUE,
	PLAN_ANY_DUE,
	PLAN_LANE_FREE,
	PLAN_LEASE_ADD,
	PLAN_LEASE_DROP,
	PLAN_LEASE_SET,
	PLAN_LEASE_CLEAR,
	PLAN_RECORD,
	PLAN_ROW_FREE,
	PLAN_ORPHANS,
	PLAN_LATE,
	PLAN_EXPIRE,
	PLAN_EXPIRE_NEXT,
	PLAN_PURGE,
	PLAN_PAUSES,
	PLAN_PAUSED,
	PLAN_ANY_LEASE,
	PLAN_PAUSE,
	PLAN_RESUME,
	PLAN_IDENTITY,
	PLAN_IDENTITIES,
	PLAN_IDENTITY_CLEAR,
	PLAN_ADOPT,
	PLAN_LOCK_ROW,
	PLAN_LEASED_AT,
	PLAN_SET_STATUS,
	PLAN_REQUEUE,
	PLAN_FOLLOW,
	PLAN_FOLLOW_ENDS,
	PLAN_POLLS,
	PLAN_POLL_DUE,
	PLAN_SENT_MESSAGE,
	PLAN_FIND_ID,
	PLAN_FIND_REQUEST,
	PLAN_FIND_REFERENCE,
	PLAN_FIND_REMEMBERED,
	PLAN_KEEP_REPORT,
	PLAN_UNKNOWN_REPORTS,
	PLAN_KNOW_REPORT,
	PLAN_PURGE_REPORTS,
	PLAN_PURGE_OTP,
	PLAN_PURGE_USAGE,
	PLAN_OTP_ADD,
	PLAN_OTP_USE,
	PLAN_COUNT
} Statement;

/* Columns of a message that was sent, in the order in which read_follow() takes them. */
#define FOLLOW_COLUMNS                                                                                       \
	"o.id, o.gateway, coalesce(o.id_omni_mess, o.smsid, o.referent_id), o.status::text, o.created_by, "      \
	"o.sent_at, o.poll_at"

#define MAX_ARGS        8
#define UNKNOWN_BLOCKS  8192 /* of 8 kB: unknown reports are kept up to this size */
#define UNKNOWN_AT_ONCE 500
#define REPORT_DAYS     7
#define ITEM_SIZE       4096 /* bytes; a usual message and its answer fit in */
#define SPARE_CONTEXTS  512
#define EXPIRE_AT_ONCE  1000
#define PINNED_PATH     "pg_catalog, pg_temp"

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
		"SELECT o.id, o.gateway, CASE WHEN o.unsure_since IS NULL THEN 'expired' ELSE 'uncertain' END, "
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
		"SELECT status::text, created_by, CASE kind WHEN 'omni' THEN list_param IS NULL "
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
		"SELECT o.id, o.gateway, r.status::text, r.details ->> 'delivery_code' "
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
		"SELECT o.status::text, o.request_id, o.smsid, o.created_by FROM @sms_outbox o "
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

/* Which database this is: see outbox_home(). */
static enum {
	HOME_UNKNOWN,
	HOME_OURS,
	HOME_COPY,
	HOME_MISSING,
} home = HOME_UNKNOWN;
static Oid home_table = InvalidOid;
static Oid home_schema = InvalidOid; /* of the extension, as long as "home" is known */
static int64 home_origin = 0;
static uint8 home_secret[OUTBOX_SECRET_SIZE];
static bool home_callback = false;

/* What the statement under way writes: see write_rows(). */
static struct
{
	Statement plan; /* PLAN_RECORD: OutboxItems; PLAN_FOLLOW: FollowUps */
	dlist_head *rows;
	const RowWrite *only; /* NULL: all of "creator" */
	const Oid *creator;   /* NULL: anybody's */
} writing;

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
		home_schema = schema;
		table = table_open(home_table, AccessShareLock);
		scan = systable_beginscan(table, InvalidOid, false, NULL, 0, NULL);
		while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		{
			TupleDesc desc = RelationGetDescr(table);
			bool isnull;

			if (DatumGetInt64(heap_getattr(tuple, 2, desc, &isnull)) == (int64) GetSystemIdentifier() &&
				DatumGetObjectId(heap_getattr(tuple, 3, desc, &isnull)) == MyDatabaseId)
			{
				bytea *secret = DatumGetByteaPP(heap_getattr(tuple, 5, desc, &isnull));

				own = VARSIZE_ANY_EXHDR(secret) == OUTBOX_SECRET_SIZE;
				home_origin = DatumGetInt64(heap_getattr(tuple, 1, desc, &isnull));
				if (own)
					memcpy(home_secret, VARDATA_ANY(secret), OUTBOX_SECRET_SIZE);
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

/* A table or index of the extension; InvalidOid if the extension is not here. */
Oid
outbox_relation_or_none(const char *name)
{
	int64 origin;

	outbox_home(&origin);
	return home == HOME_UNKNOWN ? InvalidOid : get_relname_relid(name, home_schema);
}

/* A table or index of the extension. */
Oid
outbox_relation(const char *name)
{
	Oid relation = outbox_relation_or_none(name);

	if (!OidIsValid(relation))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("extension sms_gateway is not in this database, or lacks \"%s\"", name)));
	return relation;
}

/* The key of this database's own hashes. */
const uint8 *
outbox_secret(void)
{
	int64 origin;

	if (!outbox_home(&origin))
		outbox_require_home();
	return home_secret;
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
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this database is a copy, and copies send no messages"),
				 errdetail("The outbox belongs to another cluster or database."),
				 errhint("If this database takes the place of the original: SELECT sms_adopt_outbox().")));
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

/* A name as a parameter, kept in "name". */
static Datum
name_datum(NameData *name, const char *text)
{
	namestrcpy(name, text);
	return NameGetDatum(name);
}

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
	Relation table = table_open(get_relname_relid("sms_outbox", plans_schema), AccessShareLock);
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
	table = table_open(get_relname_relid("sms_outbox", plans_schema), AccessShareLock);
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

/*
 * Runs a statement that changes messages, and so fires the triggers that users
 * put on the outbox; as a role, if one is given.  Privileges are the owner's all the same: they are
 * checked when the executor starts, and the role changes after that.  Triggers find their objects
 * where they do in any session, and what they SET does not last; such statements qualify all
 * their operators.
 */
static void
run_firing(Statement plan, Datum *values, Oid role)
{
	CachedPlan *cached;
	PlannedStmt *statement;
	ParamListInfo params = NULL;
	QueryDesc *query;
	Oid user;
	int security;
	int guc_level = NewGUCNestLevel();
	int nargs = count_args(plan);

	set_guc("search_path", GetConfigOptionResetString("search_path"), GUC_ACTION_SAVE);
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

/*
 * Begins the worker's part of a transaction, if it is OUTBOX_READY; why it is held is
 * reported at the given level.
 * Locks the extension, so that DROP EXTENSION waits for this transaction only.
 */
OutboxState
outbox_enter_worker(int elevel)
{
	Oid extension;
	Oid schema;
	char *version;
	int64 origin;

	/* Nobody else's lock holds us up for long: we come back. */
	set_guc("lock_timeout", "200ms", GUC_ACTION_LOCAL);
	if (!find_extension(&extension, &schema, &version))
		return OUTBOX_GONE;
	LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
	if (!find_extension(&extension, &schema, &version))
		return OUTBOX_GONE;
	if (strcmp(version, SMS_GATEWAY_VERSION) != 0)
	{
		ereport(elevel,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sms_gateway %s in this database is not served by the library of version %s", version,
						SMS_GATEWAY_VERSION),
				 errhint("ALTER EXTENSION sms_gateway UPDATE, and restart the server if the library was "
						 "replaced.")));
		return OUTBOX_HELD;
	}
	home = HOME_UNKNOWN; /* a dump may be loaded while we run: that adds a row, and invalidates nothing */
	if (!outbox_home(&origin))
	{
		ereport(elevel,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the outbox of this database belongs to another one: nothing is sent"),
				 errdetail("It came with a dump, or with CREATE DATABASE ... TEMPLATE."),
				 errhint("If this database takes the place of the original: SELECT sms_adopt_outbox().")));
		return OUTBOX_HELD;
	}
	forget_plans(extension, schema);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	pin_planner(GUC_ACTION_LOCAL);
	set_guc("session_replication_role", "origin", GUC_ACTION_LOCAL);
	set_guc("statement_timeout", "0", GUC_ACTION_LOCAL);
	/* Deferred triggers would run at commit, as whoever we are then. */
	AfterTriggerSetState(makeNode(ConstraintsSetStmt));
	/* Claims have to be durable; remote_apply, if that is set, stays. */
	if (synchronous_commit < SYNCHRONOUS_COMMIT_ON)
		set_guc("synchronous_commit", "on", GUC_ACTION_LOCAL);
	SetUserIdAndSecContext(outbox_owner(schema), SECURITY_LOCAL_USERID_CHANGE);
	return OUTBOX_READY;
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

/*
 * Adds what is made for this sending alone: the token for its callback, and a
 * one-time password, of which only a hash is kept.
 */
static void
complete_item(OutboxItem *item)
{
	Prepared *prepared = &item->prepared;
	const Provider *provider = item->gateway->provider;
	const char *callback = gateway_setting(provider, prepared->settings, provider->callback_option);

	if (callback != NULL && strstr(callback, TOKEN_PLACE) != NULL)
	{
		mac_token(item->row.id, prepared->token, sizeof(prepared->token));
		prepared->message.token = prepared->token;
	}
	if (prepared->message.call == CALL_OTP && provider->otp_is_local)
	{
		prepared->message.code = otp_make(prepared->message.length, prepared->message.digits_only);
		otp_keep(item->gateway->name, prepared->phone, prepared->message.code, prepared->message.ttl);
	}
}

/* Finds what the message is to be sent with, or why it cannot be. */
static void
resolve_item(OutboxItem *item, Draft *draft, const char *created_by)
{
	GatewayError error;
	Gateway *gateway = NULL;

	item->row.role = get_role_oid(created_by, true);
	memset(&error, 0, sizeof(error));
	if (OidIsValid(item->row.role))
		gateway = gateway_get(item->gateway_name, item->row.role, &error);
	else
	{
		error.sqlstate = ERRCODE_UNDEFINED_OBJECT;
		snprintf(error.message, sizeof(error.message), "role \"%s\" does not exist", created_by);
	}
	if (gateway != NULL && gateway_prepare(gateway, draft, &item->prepared, &error))
	{
		item->gateway = gateway;
		gateway_hold(gateway);
		complete_item(item);
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
	item->row.id = DatumGetInt64(column(row, 1, &isnull));
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
		draft.options = (Jsonb *) PG_DETOAST_DATUM_COPY(datum);
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
		ids[n++] = Int64GetDatum(((OutboxItem *) lfirst(lc))->row.id);
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

/* Is the text of a message blanked by its outcome? */
static bool
is_blanked(const OutboxItem *item)
{
	return strcmp(item->new_status, "queued") != 0 && strcmp(item->new_status, "uncertain") != 0 &&
		   item->gateway != NULL && (item->gateway->redact || item->prepared.message.call == CALL_OTP);
}

/* Adds one outcome; *status_oid is that of *status, and changes with it. */
static void
put_outcome(ReturnSetInfo *rsinfo, const OutboxItem *item, const char **status, Oid *status_oid)
{
	Datum values[16] = {0};
	bool nulls[16] = {0};
	NameData gateway;
	const Answer *answer = item->answer;

	namestrcpy(&gateway, item->new_gateway ? item->new_gateway : item->gateway_name);
	values[0] = Int64GetDatum(item->row.id);
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
	const char *status = NULL;
	Oid status_oid = InvalidOid;
	dlist_iter iter;

	InitMaterializedSRF(fcinfo, 0);
	if (writing.plan != PLAN_RECORD || writing.rows == NULL)
		return (Datum) 0;
	dlist_foreach (iter, writing.rows)
	{
		const OutboxItem *item = dlist_container(OutboxItem, row.node, iter.cur);

		if (is_written(&item->row))
			put_outcome((ReturnSetInfo *) fcinfo->resultinfo, item, &status, &status_oid);
	}
	return (Datum) 0;
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

			run(PLAN_ROW_FREE, &id);
			present = SPI_processed > 0;
			SPI_freetuptable(SPI_tuptable);
		}
		if (!with_triggers)
			set_guc("session_replication_role", "replica", GUC_ACTION_LOCAL);
		if (present)
			run_firing(plan, values, role);
		if (!with_triggers)
			set_guc("session_replication_role", "origin", GUC_ACTION_LOCAL);
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

/* The messages that end by what is recorded next, as rows of (id, gateway, status, code). */
static void
tell_ends(void)
{
	bool isnull;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		const char *gateway = NameStr(*DatumGetName(column((int) i, 2, &isnull)));

		outbox_notify(gateway_events(gateway), text_column((int) i, 3),
					  DatumGetInt64(column((int) i, 1, &isnull)), gateway, text_column((int) i, 4));
	}
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
			run(PLAN_FOLLOW_ENDS, NULL);
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

		if (item->row.recorded && strcmp(item->new_status, "queued") != 0)
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

/* ------------------------------------------------------------------------
 * Following: what becomes of messages that were sent
 * ------------------------------------------------------------------------ */

/* Tells an end of a message to those who LISTEN, if such ends are to be told. */
void
outbox_notify(Events events, const char *status, int64 id, const char *gateway, const char *code)
{
	bool failure = strcmp(status, "failed") == 0 || strcmp(status, "undelivered") == 0 ||
				   strcmp(status, "uncertain") == 0 || strcmp(status, "expired") == 0;
	bool final = failure || strcmp(status, "delivered") == 0 || strcmp(status, "canceled") == 0;
	char *text;

	if (events == EVENTS_OFF || !(failure || (events == EVENTS_FINAL && final)))
		return;
	text = event_text(id, gateway, status, code != NULL ? from_utf8(code) : NULL);
	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	Async_Notify(EXTENSION_NAME, pstrdup(text));
	free(text);
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
		values[1] = ObjectIdGetDatum(
			outbox_status_label(status_type, report->delivery == DELIVERY_DELIVERED     ? "delivered"
											 : report->delivery == DELIVERY_UNDELIVERED ? "undelivered"
																						: "sent"));
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

Datum
sms_gateway_redacts(PG_FUNCTION_ARGS)
{
	char *kind = TextDatumGetCString(PG_GETARG_DATUM(1));

	PG_RETURN_BOOL(strcmp(kind, kind_name(CALL_OTP)) == 0 || gateway_redacts(NameStr(*PG_GETARG_NAME(0))));
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

static Follow *
read_follow(int row)
{
	Follow *follow = palloc0(sizeof(Follow));
	bool isnull;

	follow->id = DatumGetInt64(column(row, 1, &isnull));
	follow->gateway = pstrdup(NameStr(*DatumGetName(column(row, 2, &isnull))));
	follow->reference = text_column(row, 3);
	follow->status = text_column(row, 4);
	follow->role = get_role_oid(NameStr(*DatumGetName(column(row, 5, &isnull))), true);
	follow->sent_at = time_column(row, 6, 0);
	follow->poll_at = time_column(row, 7, 0);
	return follow;
}

/* Messages of a gateway that are due to be asked about, behind the last one taken. */
List *
outbox_polls(const char *gateway, TimestampTz after, int64 after_id, TimestampTz now, int limit)
{
	NameData name;
	Datum values[] = {
		name_datum(&name, gateway), TimestampTzGetDatum(after), Int64GetDatum(after_id),
		TimestampTzGetDatum(now),   Int64GetDatum(home_origin), Int64GetDatum(limit),
	};
	List *polls = NIL;

	run(PLAN_POLLS, values);
	for (uint64 i = 0; i < SPI_processed; i++)
		polls = lappend(polls, read_follow((int) i));
	SPI_freetuptable(SPI_tuptable);
	return polls;
}

/* When the next message of a gateway is to be asked about; DT_NOEND: none. */
TimestampTz
outbox_poll_due(const char *gateway, TimestampTz after)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), TimestampTzGetDatum(after)};
	TimestampTz due = DT_NOEND;

	run(PLAN_POLL_DUE, values);
	if (SPI_processed > 0)
		due = time_column(0, 1, DT_NOEND);
	SPI_freetuptable(SPI_tuptable);
	return due;
}

/* One of the report's ids, in the order in which a message is looked for; NULL: that was the last. */
static const char *
report_reference(const Report *report, int number)
{
	const char *const ids[] = {report->id_omni_mess, report->smsid, report->referent_id};

	for (int i = 0; i < (int) lengthof(ids); i++)
	{
		if (ids[i][0] && number-- == 0)
			return ids[i];
	}
	return NULL;
}

/* The id in a request_id that was made here; 0 if it is none. */
static int64
request_id_message(const char *request_id)
{
	const char *last = strrchr(request_id, '-');

	if (strncmp(request_id, REQUEST_ID_PREFIX, strlen(REQUEST_ID_PREFIX)) != 0)
		return 0;
	return strtoll(last + 1, NULL, 10);
}

/* Runs a look-up by gateway and text; its first column, 0 if there is none. */
static int64
find_by_text(Statement plan, const char *gateway, const char *text)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(from_utf8(text))};
	int64 id = 0;
	bool isnull;

	run(plan, values);
	if (SPI_processed > 0)
		id = DatumGetInt64(column(0, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return id;
}

/*
 * Finds the message of a gateway that a report is about: "id" if that is not 0,
 * else by its request_id, else by the provider's ids.  Returns 0 if there is none, or if
 * the ids contradict each other.
 */
int64
outbox_find_message(const char *gateway, const Report *report, int64 id, Oid *role, char **status,
					bool *by_id_only)
{
	NameData name;
	Datum values[2];
	const char *reference;
	char *request_id;
	char *smsid;
	bool isnull;

	*by_id_only = false;
	if (id == 0 && report->request_id[0])
	{
		id = request_id_message(report->request_id);
		if (id == 0)
			id = find_by_text(PLAN_FIND_REQUEST, gateway, report->request_id);
	}
	else if (id == 0)
	{
		*by_id_only = true;
		for (int i = 0; id == 0 && (reference = report_reference(report, i)) != NULL; i++)
		{
			id = find_by_text(PLAN_FIND_REFERENCE, gateway, reference);
			if (id == 0)
				id = find_by_text(PLAN_FIND_REMEMBERED, gateway, reference);
		}
	}
	if (id == 0)
		return 0;

	values[0] = Int64GetDatum(id);
	values[1] = name_datum(&name, gateway);
	run(PLAN_FIND_ID, values);
	if (SPI_processed == 0)
	{
		SPI_freetuptable(SPI_tuptable);
		return 0;
	}
	*status = text_column(0, 1);
	request_id = text_column(0, 2);
	smsid = text_column(0, 3);
	*role = get_role_oid(NameStr(*DatumGetName(column(0, 4, &isnull))), true);
	SPI_freetuptable(SPI_tuptable);
	if (report->request_id[0] && strcmp(request_id, from_utf8(report->request_id)) != 0)
		return 0;
	if (report->smsid[0] && smsid != NULL && strcmp(smsid, from_utf8(report->smsid)) != 0)
		return 0;
	return id;
}

/*
 * Keeps a report under the id it came with.  Those of unknown messages are kept
 * only up to a size: callbacks are not signed, and anybody could fill the disk.
 */
void
outbox_keep_report(const char *gateway, const Report *report, const char *json, int64 message)
{
	const char *reference = report->request_id[0] ? report->request_id : report_reference(report, 0);
	Relation table = table_open(outbox_relation("sms_gateway_report"), AccessShareLock);
	bool full = RelationGetNumberOfBlocks(table) > UNKNOWN_BLOCKS;
	NameData name;
	Datum values[5];
	char nulls[] = "     ";

	table_close(table, AccessShareLock);
	if (reference == NULL || (full && message == 0))
		return;
	values[0] = name_datum(&name, gateway);
	values[1] = CStringGetTextDatum(from_utf8(reference));
	values[2] = Int64GetDatum(message);
	nulls[2] = message == 0 ? 'n' : ' ';
	values[3] = DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
	values[4] = BoolGetDatum(report->delivery != DELIVERY_PENDING);
	if (SPI_execute_plan(get_plan(PLAN_KEEP_REPORT), values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not keep a report");
}

/* Matches reports that came before their message's answer, now that it may be there. */
void
outbox_match_reports(bool answered)
{
	TimestampTz now = GetCurrentTimestamp();
	Datum values[] = {
		TimestampTzGetDatum(answered ? now - REPORT_DAYS * USECS_PER_DAY : now - USECS_PER_MINUTE),
		Int64GetDatum(UNKNOWN_AT_ONCE),
	};
	SPITupleTable *unknown;
	uint64 n;

	run(PLAN_UNKNOWN_REPORTS, values);
	unknown = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		bool isnull;
		Name gateway = DatumGetName(SPI_getbinval(unknown->vals[i], unknown->tupdesc, 1, &isnull));
		Datum reference = SPI_getbinval(unknown->vals[i], unknown->tupdesc, 2, &isnull);
		char *json = to_utf8(SPI_getvalue(unknown->vals[i], unknown->tupdesc, 3), "report");
		const Provider *provider = gateway_provider(NameStr(*gateway));
		Report report = {0};
		FollowUp followup = {.report = &report};
		bool by_id_only;
		char *status;

		if (provider == NULL || !provider->report(json, strlen(json), &report))
			continue;
		followup.row.id =
			outbox_find_message(NameStr(*gateway), &report, 0, &followup.row.role, &status, &by_id_only);
		if (followup.row.id == 0 || strcmp(status, "queued") == 0)
			continue;
		if (outbox_follow_one(&followup))
			run(PLAN_KNOW_REPORT,
				(Datum[]){NameGetDatum(gateway), reference, Int64GetDatum(followup.row.id)});
	}
	SPI_freetuptable(unknown);
}

/* Deletes what is kept for a time only, and its time has passed. */
void
outbox_purge_kept(void)
{
	TimestampTz now = GetCurrentTimestamp();
	Datum reports_before = TimestampTzGetDatum(now - REPORT_DAYS * USECS_PER_DAY);
	Datum usage_before = TimestampTzGetDatum(now - USECS_PER_DAY);
	Datum otp_before = TimestampTzGetDatum(now);

	run(PLAN_PURGE_REPORTS, &reports_before);
	run(PLAN_PURGE_OTP, &otp_before);
	run(PLAN_PURGE_USAGE, &usage_before);
}

/* ------------------------------------------------------------------------
 * One-time passwords and limits
 * ------------------------------------------------------------------------ */

/* Adds a one-time password's hash; the caller has entered. */
void
outbox_otp_add(const char *gateway, const char *phone, Datum salt, Datum hash, TimestampTz until)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(phone), salt, hash,
					  TimestampTzGetDatum(until)};

	run(PLAN_OTP_ADD, values);
}

/*
 * Uses up a phone's one-time passwords up to this one.  Of several sessions that do so
 * at once, one succeeds: the others wait for its transaction, and return false.
 */
bool
outbox_otp_use(const char *gateway, const char *phone, int64 id)
{
	OwnerScope scope;
	NameData name;
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(phone), Int64GetDatum(id)};
	bool used;

	outbox_enter(&scope);
	run(PLAN_OTP_USE, values);
	used = SPI_processed > 0;
	outbox_leave(&scope);
	return used;
}

/* ------------------------------------------------------------------------
 * Expiry, retention, pauses
 * ------------------------------------------------------------------------ */

/* Ends messages whose time has passed; returns how many, and when the next one's passes. */
int
outbox_expire(TimestampTz now, TimestampTz *next)
{
	Datum values[] = {TimestampTzGetDatum(now), Int64GetDatum(home_origin)};
	TriggerMode mode = trigger_mode();
	List *roles = NIL;
	Datum *ids;
	Oid *creators;
	int n;
	bool isnull;
	ListCell *lc;

	run(PLAN_LATE, values);
	n = (int) SPI_processed;
	ids = palloc(sizeof(Datum) * (n + 1));
	creators = palloc(sizeof(Oid) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		ids[i] = column(i, 1, &isnull);
		creators[i] = mode == TRIGGERS_AS_CREATOR
						  ? get_role_oid(NameStr(*DatumGetName(column(i, 5, &isnull))), true)
						  : InvalidOid;
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
		array = id_array(of_role, count);
		if (!try_together(PLAN_EXPIRE, &array, mode, lfirst_oid(lc)))
			try_statement(PLAN_EXPIRE, &array, 0, InvalidOid, false);
	}
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
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(reason), BoolGetDatum(by_user)};

	run(PLAN_PAUSE, values);
	announce_pauses();
}

bool
outbox_resume(const char *gateway, bool by_user)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), BoolGetDatum(by_user)};
	bool found;

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

/*
 * Is a message of this lane due, or (PLAN_LANE_FREE) due and not locked?  Of this database's
 * own: nobody sends here what a logical subscription brought.
 */
static bool
lane_has(Statement plan, const LaneKey *lane, TimestampTz now, int64 origin)
{
	Datum values[] = {
		NameGetDatum(&lane->gateway),
		Int16GetDatum(lane->priority),
		TimestampTzGetDatum(now),
		Int64GetDatum(origin),
	};

	run(plan, values);
	return SPI_processed > 0;
}

static bool
any_on_its_way(void)
{
	run(PLAN_ANY_LEASE, NULL);
	return SPI_processed > 0;
}

static bool
is_paused(const LaneKey *lane)
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
	LaneKey lane = {{{0}}, PG_INT16_MIN};
	LaneKey end;
	bool idle = true;
	TimestampTz now = GetCurrentTimestamp();
	int64 origin;

	outbox_home(&origin);
	outbox_lane_end(&end);
	PushActiveSnapshot(GetLatestSnapshot());
	/* The cheap question first: the other walks over what an old snapshot keeps. */
	idle = !any_on_its_way();
	while (idle && outbox_next_lane(&lane, &end))
		idle = !lane_has(PLAN_ANY_DUE, &lane, now, origin) || (but_paused && is_paused(&lane)) ||
			   (but_locked && !lane_has(PLAN_LANE_FREE, &lane, now, origin));
	PopActiveSnapshot();
	return idle;
}

/* Raises 42501 unless role queued a message or owns the table. */
static void
check_manages(int64 id, Oid creator, Oid role)
{
	if (creator != role && !compat_owns_table(get_relname_relid("sms_outbox", plans_schema), role))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for message %lld", (long long) id),
						errdetail("Another role queued it.")));
}

/*
 * Locks a message that belongs to role, or that role may manage as the table's
 * owner.  Returns its status.
 */
static char *
lock_message(int64 id, Oid role, bool *blanked)
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
	*blanked = DatumGetBool(column(0, 3, &isnull));
	creator = get_role_oid(NameStr(*DatumGetName(column(0, 2, &isnull))), true);
	SPI_freetuptable(SPI_tuptable);
	check_manages(id, creator, role);
	return status;
}

/* A message that role may manage, as it was sent. */
Follow *
outbox_sent_message(int64 id, Oid role)
{
	Datum values[] = {Int64GetDatum(id)};
	Follow *follow;

	run(PLAN_SENT_MESSAGE, values);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("message %lld does not exist", (long long) id)));
	follow = read_follow(0);
	SPI_freetuptable(SPI_tuptable);
	check_manages(id, follow->role, role);
	return follow;
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

/* Changes a message for a user: triggers run as that user, where the owner is a superuser. */
static void
fire_for(Statement plan, Datum *values, Oid role)
{
	TriggerMode mode = trigger_mode();

	if (mode == TRIGGERS_AS_CREATOR && !may_run_triggers(role))
		try_together(plan, values, mode, role);
	else
		run_firing(plan, values, mode == TRIGGERS_AS_CREATOR ? role : InvalidOid);
}

static void
set_status(int64 id, const char *status, Oid role)
{
	Datum values[] = {Int64GetDatum(id), CStringGetTextDatum(status)};

	fire_for(PLAN_SET_STATUS, values, role);
}

/* Takes a queued message back; false if it is too late. */
bool
outbox_cancel(int64 id, Oid role)
{
	bool on_its_way;
	bool blanked;

	if (strcmp(lock_message(id, role, &blanked), "queued") != 0)
		return false;
	leased_at(id, &on_its_way);
	if (on_its_way)
		return false;
	set_status(id, "canceled", role);
	return true;
}

/* Queues an ended message again, due now; false if it is in another state. */
bool
outbox_retry(int64 id, Oid role)
{
	bool blanked;
	const char *status = lock_message(id, role, &blanked);
	bool on_its_way;
	TimestampTz due;
	Datum values[2];

	if (strcmp(status, "failed") != 0 && strcmp(status, "expired") != 0 && strcmp(status, "canceled") != 0 &&
		strcmp(status, "uncertain") != 0)
		return false;

	if (blanked)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("message %lld cannot be sent again: its text was blanked", (long long) id)));
	/* Past any lease that still names it, or it would look as if on its way. */
	due = Max(leased_at(id, &on_its_way) + 1, GetCurrentTimestamp());
	values[0] = Int64GetDatum(id);
	values[1] = TimestampTzGetDatum(due);
	fire_for(PLAN_REQUEUE, values, role);
	wake_at_commit(due);
	return true;
}

/* Decides an uncertain message; false if it is not uncertain. */
bool
outbox_resolve(int64 id, const char *status, Oid role)
{
	bool blanked;

	if (strcmp(lock_message(id, role, &blanked), "uncertain") != 0)
		return false;
	set_status(id, status, role);
	return true;
}

/* Writes down that this is the database the outbox belongs to; a NULL secret: a new one. */
static void
write_identity(int64 instance, bytea *secret)
{
	Datum values[4];

	if (secret == NULL)
	{
		secret = palloc(VARHDRSZ + OUTBOX_SECRET_SIZE);
		SET_VARSIZE(secret, VARHDRSZ + OUTBOX_SECRET_SIZE);
		strong_random(VARDATA(secret), OUTBOX_SECRET_SIZE);
	}
	values[0] = Int64GetDatum(instance);
	values[1] = Int64GetDatum((int64) GetSystemIdentifier());
	values[2] = ObjectIdGetDatum(MyDatabaseId);
	values[3] = PointerGetDatum(secret);
	run(PLAN_IDENTITY, values);
	home = HOME_UNKNOWN;
}

/* Writes down, at CREATE EXTENSION, which database this is. */
void
outbox_create_identity(void)
{
	OwnerScope scope;

	outbox_enter(&scope);
	write_identity(random_int64(), NULL);
	outbox_leave(&scope);
}

/*
 * Makes a copy's outbox belong to this database: its identity alone remains, and
 * messages in the given states (an array of sms_status) become its own.  The original's secret
 * goes on, so its callback tokens and one-time passwords stay good.  Returns how many messages.
 */
int64
outbox_adopt(Datum states, Oid role)
{
	Datum here[] = {Int64GetDatum((int64) GetSystemIdentifier()), ObjectIdGetDatum(MyDatabaseId)};
	Oid outbox = get_relname_relid("sms_outbox", plans_schema);
	int64 instance = random_int64();
	bytea *secret = NULL;
	bool original = false;
	int64 adopted;
	bool isnull;
	Datum values[2];

	if (!compat_owns_table(outbox, role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of table sms_outbox")));
	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("a standby sends no messages")));

	run(PLAN_IDENTITIES, here);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool own = DatumGetBool(column((int) i, 3, &isnull));

		if (own)
			instance = DatumGetInt64(column((int) i, 1, &isnull));
		/* Of several originals, the one that was made last. */
		if (!original)
			secret = DatumGetByteaPCopy(column((int) i, 2, &isnull));
		original = original || !own;
	}
	SPI_freetuptable(SPI_tuptable);
	run(PLAN_IDENTITY_CLEAR, NULL);
	write_identity(instance, secret);

	values[0] = Int64GetDatum(instance);
	values[1] = CStringGetTextDatum(OidOutputFunctionCall(F_ARRAY_OUT, states));
	/* Nothing has happened to these messages: nobody's trigger is called. */
	set_guc("session_replication_role", "replica", GUC_ACTION_SAVE);
	run(PLAN_ADOPT, values);
	adopted = (int64) SPI_processed;
	CacheInvalidateRelcacheByRelid(get_relname_relid("sms_gateway_identity", plans_schema));
	return adopted;
}
