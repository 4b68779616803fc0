/*
 * identity.c
 *		Writes down which database an outbox belongs to.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "base/compat.h"
#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/place.h"
#include "db/scope.h"
#include "db/sql.h"
#include "guard/mac.h"
#include "miscadmin.h"
#include "outbox/identity.h"
#include "outbox/request_id.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

#define ASIDE "2147483648" /* added to a role's oid; few clusters have such oids */

static Statement identity_insert = {
	.sql = "INSERT INTO @sms_gateway_identity (instance, system_identifier, database_oid, secret) "
		   "VALUES ($1, $2, $3, $4)",
	.args = {INT8OID, INT8OID, OIDOID, BYTEAOID},
};

static Statement identity_set_place = {
	.sql = "UPDATE @sms_gateway_identity SET timeline = $3, place = $4, machine = $5, filesystem = $6, "
		   "file = $7, born = $8, directory = $9, citus_group = $10, held = false WHERE system_identifier = "
		   "$1 AND database_oid = $2",
	.args = {INT8OID, OIDOID, INT8OID, TEXTOID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID, TEXTOID, INT4OID},
};

static Statement identity_mark = {
	.sql = "UPDATE @sms_gateway_identity SET held = true WHERE system_identifier = $1 AND database_oid = $2",
	.args = {INT8OID, OIDOID},
};

/* This database's own first, then the one that was made last. */
static Statement identity_find_all = {
	.sql = "SELECT instance, secret, system_identifier = $1 AND database_oid = $2 "
		   "FROM @sms_gateway_identity ORDER BY 3 DESC, created_at DESC",
	.args = {INT8OID, OIDOID},
};
enum
{
	IDENTITY_INSTANCE,
	IDENTITY_SECRET,
	IDENTITY_OWN,
};

static Statement identity_delete_all = {
	.sql = "DELETE FROM @sms_gateway_identity",
};

/*
 * Messages of another database, of all states, that came with its identity, or without it and are to be ours, belong to
 * the roles that have the names that theirs had last.  A name that two roles have had is nobody's: one of them was
 * dropped, or renamed, and it is not known which one is meant.  Oids that are of this cluster ($4), or that came with
 * its files ($3), stay.
 *
 * Users' request_ids are unique for each role, and one's new oid may be another's old one: so such messages get theirs
 * ASIDE first.
 */
/* clang-format off */
static Statement identity_name_creators = {
	.sql = "WITH came AS MATERIALIZED (SELECT o.id, o.origin, o.creator, o.created_by, "
		   "CASE WHEN o.creator IS NULL THEN o.created_by END AS unknown "
		   "FROM @sms_outbox o WHERE o.origin <> $1 AND coalesce(o.creator, 1) <> 0 "
		   "AND (o.status = ANY ($2::@sms_status[]) "
		   "OR o.origin IN (SELECT i.instance FROM @sms_gateway_identity i)) "
		   "AND (o.creator IS NULL OR o.origin NOT IN (SELECT i.instance FROM @sms_gateway_identity i "
		   "WHERE $3 OR i.system_identifier = $4))), "
		   "known AS (SELECT DISTINCT ON (origin, creator, unknown) origin, creator, unknown, created_by "
		   "FROM came ORDER BY origin, creator, unknown, id DESC), "
		   "named AS (SELECT origin, creator, unknown, "
		   "CASE WHEN count(*) OVER (PARTITION BY origin, created_by) = 1 "
		   "THEN coalesce(to_regrole(quote_ident(created_by))::oid, 0)::int8 ELSE 0 END AS role FROM known) "
		   "UPDATE @sms_outbox o SET creator = CASE WHEN o.request_id ^@ '" REQUEST_ID_PREFIX "' "
		   "OR n.role = 0 OR n.role >= " ASIDE " THEN n.role ELSE n.role + " ASIDE " END FROM came c JOIN named n "
		   "ON c.origin = n.origin AND c.creator IS NOT DISTINCT FROM n.creator "
		   "AND c.unknown IS NOT DISTINCT FROM n.unknown WHERE o.id = c.id",
	.args = {INT8OID, TEXTOID, BOOLOID, INT8OID},
};
/* clang-format on */

static Statement identity_set_creators = {
	.sql = "UPDATE @sms_outbox o SET creator = o.creator::int8 - " ASIDE " "
		   "WHERE NOT o.request_id ^@ '" REQUEST_ID_PREFIX "' AND o.creator <> 0 AND o.origin <> $1 "
		   "AND o.creator::int8 IN (SELECT r.oid::int8 + " ASIDE " FROM pg_roles r "
		   "WHERE r.oid::int8 < " ASIDE ")",
	.args = {INT8OID},
};

static Statement identity_take_messages = {
	.sql = "UPDATE @sms_outbox SET origin = $1 WHERE origin <> $1 AND status = ANY ($2::@sms_status[])",
	.args = {INT8OID, TEXTOID},
};

static Datum
text_or_null(const char *text)
{
	return text != NULL ? CStringGetTextDatum(text) : (Datum) 0;
}

/*
 * Writes down, in the row of this database, where its server runs; inside OwnerScope or a worker's scope.  A table
 * of 0.1.0 has no room for that.
 */
void
identity_write_place(void)
{
	Place here = place_here();
	const struct
	{
		Datum value;
		bool known;
	} columns[] = {
		{Int64GetDatum((int64) GetSystemIdentifier()), true},
		{ObjectIdGetDatum(MyDatabaseId), true},
		{Int64GetDatum((int64) here.timeline), true},
		{text_or_null(here.name), here.name != NULL},
		{Int64GetDatum(here.machine), here.machine != 0},
		{Int64GetDatum(here.filesystem), here.filesystem != 0},
		{Int64GetDatum(here.file), here.file != 0},
		{TimestampTzGetDatum(here.born), here.born != 0},
		{text_or_null(here.directory), here.directory != NULL},
		{Int32GetDatum(here.citus_group), here.citus_group != PLACE_NO_GROUP},
	};
	Datum values[lengthof(columns)];
	char nulls[lengthof(columns)];

	if (get_attnum(home_relation("sms_gateway_identity"), "timeline") == InvalidAttrNumber)
		return;
	for (int i = 0; i < (int) lengthof(columns); i++)
	{
		values[i] = columns[i].value;
		nulls[i] = columns[i].known ? ' ' : 'n';
	}
	sql_run_nulls(&identity_set_place, values, nulls);
	home_forget();
}

/*
 * In a database that is held because of its place: marks it, so that a standby of this server, which has the mark, is
 * held too when it is promoted.
 */
void
identity_mark_held(void)
{
	Datum here[] = {Int64GetDatum((int64) GetSystemIdentifier()), ObjectIdGetDatum(MyDatabaseId)};
	OwnerScope scope;

	scope_enter(&scope);
	sql_run(&identity_mark, here);
	scope_leave(&scope);
}

/* Writes down that this is the database the outbox belongs to; a NULL secret: a new one. */
static void
write_identity(int64 instance, bytea *secret)
{
	Datum values[4];

	if (secret == NULL)
	{
		secret = palloc(VARHDRSZ + HOME_SECRET_SIZE);
		SET_VARSIZE(secret, VARHDRSZ + HOME_SECRET_SIZE);
		strong_random(VARDATA(secret), HOME_SECRET_SIZE);
	}
	values[0] = Int64GetDatum(instance);
	values[1] = Int64GetDatum((int64) GetSystemIdentifier());
	values[2] = ObjectIdGetDatum(MyDatabaseId);
	values[3] = PointerGetDatum(secret);
	sql_run(&identity_insert, values);
	home_forget();
	identity_write_place();
}

/* Writes down, at CREATE EXTENSION, which database this is. */
void
identity_create(void)
{
	OwnerScope scope;

	scope_enter_any(&scope);
	write_identity(random_int64(), NULL);
	scope_leave(&scope);
}

/*
 * What an identity of this database is made of: the number of the one that it has, if any, and if that is not its
 * original's, as in a copy of the files, else *instance as it is; and the secret of the original, of several the one
 * that was made last, palloc'd, or its own if there is no other, or NULL.  *files tells whether all there is is an
 * original's, as in what was copied or upgraded file by file, and not loaded into a database of its own.
 */
static bytea *
find_secret(int64 *instance, bool *files)
{
	Datum here[] = {Int64GetDatum((int64) GetSystemIdentifier()), ObjectIdGetDatum(MyDatabaseId)};
	int64 n = sql_run(&identity_find_all, here);
	bytea *secret = NULL;
	bool original = false;
	bool shared = home_is_moved(false);

	for (int i = 0; i < n && !original; i++)
	{
		bool isnull;

		if (sql_bool(i, IDENTITY_OWN) && !shared)
			*instance = sql_int64(i, IDENTITY_INSTANCE);
		else
			original = true;
		secret = DatumGetByteaPCopy(sql_datum(i, IDENTITY_SECRET, &isnull));
	}
	sql_done();
	*files = original && n == 1;
	return secret;
}

/*
 * Makes a copy's outbox belong to this database: its identity alone remains, and
 * messages in the given states (an array of sms_status) become its own.  The original's secret
 * goes on, so its callback tokens and one-time passwords stay good.  Returns how many messages.
 * Raises 42501 unless "role" owns the outbox, 25006 on a standby.
 */
int64
identity_adopt(Datum states, Oid role)
{
	int64 instance = random_int64();
	bytea *secret;
	int64 adopted;
	Datum values[4];
	bool files;

	if (!compat_owns_table(home_relation("sms_outbox"), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of table sms_outbox")));
	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("a standby sends no messages")));

	secret = find_secret(&instance, &files);
	values[0] = Int64GetDatum(instance);
	values[1] = CStringGetTextDatum(OidOutputFunctionCall(F_ARRAY_OUT, states));
	values[2] = BoolGetDatum(files);
	values[3] = Int64GetDatum((int64) GetSystemIdentifier());
	/* Nothing has happened to these messages: nobody's trigger is called. */
	sql_set("session_replication_role", "replica", GUC_ACTION_SAVE);
	sql_run(&identity_name_creators, values);
	sql_run(&identity_set_creators, values);
	sql_run(&identity_delete_all, NULL);
	write_identity(instance, secret);
	adopted = sql_run(&identity_take_messages, values);
	CacheInvalidateRelcacheByRelid(home_relation("sms_gateway_identity"));
	return adopted;
}
