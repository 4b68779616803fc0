/*
 * outbox_home.c
 *		The extension in this database, and whether its outbox is at home here.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "executor/spi.h"
#include "outbox_sql.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Which database this is: see outbox_home(). */
static enum {
	HOME_UNKNOWN,
	HOME_OURS,
	HOME_COPY,
} home = HOME_UNKNOWN;
static Oid home_table = InvalidOid;
static Oid home_schema = InvalidOid; /* of the extension, as long as "home" is known */
static int64 home_origin = 0;
static uint8 home_secret[OUTBOX_SECRET_SIZE];
static bool home_callback = false;

/* Finds the extension in this database; false if it is not there. */
bool
outbox_find_extension(Oid *extension, Oid *schema, char **version)
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
 * Takes no lock that outlives the call.
 */
bool
outbox_home(void)
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
		home_table = outbox_find_extension(&extension, &schema, NULL)
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
	return home == HOME_OURS;
}

/* The database may not be what it was. */
void
outbox_forget_home(void)
{
	home = HOME_UNKNOWN;
}

/* The origin of rows that are made here. */
int64
outbox_origin(void)
{
	outbox_home();
	return home_origin;
}

/* A table or index of the extension; InvalidOid if the extension is not here. */
Oid
outbox_relation_or_none(const char *name)
{
	outbox_home();
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
	if (!outbox_home())
		outbox_require_home();
	return home_secret;
}

/* Raises 55000 unless messages may be sent from this database. */
void
outbox_require_home(void)
{
	if (!guc_enabled)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("sending messages is switched off"),
						errhint("It is switched on with sms_gateway.enabled.")));
	if (!outbox_home())
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
	sql_run(PLAN_IDENTITY, values);
	outbox_forget_home();
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
	Oid outbox = outbox_relation("sms_outbox");
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
	CacheInvalidateRelcacheByRelid(outbox_relation("sms_gateway_identity"));
	return adopted;
}
