/*
 * identity.c
 *		Writes down which database an outbox belongs to.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "base/compat.h"
#include "db/home.h"
#include "db/scope.h"
#include "db/sql.h"
#include "executor/spi.h"
#include "guard/mac.h"
#include "miscadmin.h"
#include "outbox/identity.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"

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
	sql_run(PLAN_IDENTITY, values);
	home_forget();
}

/* Writes down, at CREATE EXTENSION, which database this is. */
void
outbox_create_identity(void)
{
	OwnerScope scope;

	scope_enter(&scope);
	write_identity(random_int64(), NULL);
	scope_leave(&scope);
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
	Oid outbox = home_relation("sms_outbox");
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

	sql_run(PLAN_IDENTITIES, here);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool own = DatumGetBool(sql_column((int) i, 3, &isnull));

		if (own)
			instance = DatumGetInt64(sql_column((int) i, 1, &isnull));
		/* Of several originals, the one that was made last. */
		if (!original)
			secret = DatumGetByteaPCopy(sql_column((int) i, 2, &isnull));
		original = original || !own;
	}
	SPI_freetuptable(SPI_tuptable);
	sql_run(PLAN_IDENTITY_CLEAR, NULL);
	write_identity(instance, secret);

	values[0] = Int64GetDatum(instance);
	values[1] = CStringGetTextDatum(OidOutputFunctionCall(F_ARRAY_OUT, states));
	/* Nothing has happened to these messages: nobody's trigger is called. */
	sql_set("session_replication_role", "replica", GUC_ACTION_SAVE);
	sql_run(PLAN_ADOPT, values);
	adopted = (int64) SPI_processed;
	CacheInvalidateRelcacheByRelid(home_relation("sms_gateway_identity"));
	return adopted;
}
