/*
 * identity.c
 *		Writes down which database an outbox belongs to.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "base/compat.h"
#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/scope.h"
#include "db/sql.h"
#include "guard/mac.h"
#include "miscadmin.h"
#include "outbox/identity.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"

static Statement identity_insert = {
	.sql = "INSERT INTO @sms_gateway_identity (instance, system_identifier, database_oid, secret) "
		   "VALUES ($1, $2, $3, $4)",
	.args = {INT8OID, INT8OID, OIDOID, BYTEAOID},
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

static Statement identity_take_messages = {
	.sql = "UPDATE @sms_outbox SET origin = $1 WHERE origin <> $1 AND status = ANY ($2::@sms_status[])",
	.args = {INT8OID, TEXTOID},
};

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
 * What an identity of this database is made of: the number of the one that it has, if any, else
 * *instance as it is; and the secret of the original, of several the one that was made last,
 * palloc'd, or its own if there is no other, or NULL.
 */
static bytea *
find_secret(int64 *instance)
{
	Datum here[] = {Int64GetDatum((int64) GetSystemIdentifier()), ObjectIdGetDatum(MyDatabaseId)};
	int64 n = sql_run(&identity_find_all, here);
	bytea *secret = NULL;
	bool original = false;

	for (int i = 0; i < n && !original; i++)
	{
		bool isnull;

		if (sql_bool(i, IDENTITY_OWN))
			*instance = sql_int64(i, IDENTITY_INSTANCE);
		else
			original = true;
		secret = DatumGetByteaPCopy(sql_datum(i, IDENTITY_SECRET, &isnull));
	}
	sql_done();
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
	Datum values[2];

	if (!compat_owns_table(home_relation("sms_outbox"), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of table sms_outbox")));
	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("a standby sends no messages")));

	secret = find_secret(&instance);
	sql_run(&identity_delete_all, NULL);
	write_identity(instance, secret);

	values[0] = Int64GetDatum(instance);
	values[1] = CStringGetTextDatum(OidOutputFunctionCall(F_ARRAY_OUT, states));
	/* Nothing has happened to these messages: nobody's trigger is called. */
	sql_set("session_replication_role", "replica", GUC_ACTION_SAVE);
	adopted = sql_run(&identity_take_messages, values);
	CacheInvalidateRelcacheByRelid(home_relation("sms_gateway_identity"));
	return adopted;
}
