/*
 * home.c
 *		The extension in this database, and whether its outbox is at home here.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "base/extension.h"
#include "base/settings.h"
#include "db/home.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

typedef enum HomeState
{
	HOME_UNKNOWN,
	HOME_OURS,
	HOME_COPY,
} HomeState;

/*
 * Which database this is, as home_is_ours() last found it: good until the identity table changes.
 * What follows "state" is set once that is known.
 */
static struct
{
	HomeState state;
	Oid table;  /* sms_gateway_identity */
	Oid schema; /* of the extension */
	int64 origin;
	uint8 secret[HOME_SECRET_SIZE];
	bool watching; /* the callback is registered, for this process's life */
} home;

/*
 * Finds the extension in this database: its oid, its schema's and, unless "version" is NULL, its
 * version (palloc'd).  Returns false, and sets none of them, if it is not there.  Takes no lock that
 * outlives the call.
 */
bool
home_find_extension(Oid *extension, Oid *schema, char **version)
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
on_identity_change(Datum arg, Oid relation)
{
	(void) arg;
	if (relation == InvalidOid || relation == home.table)
		home.state = HOME_UNKNOWN;
}

/* A column of an identity row, by its name; all are NOT NULL. */
static Datum
identity_column(Relation table, HeapTuple tuple, const char *name)
{
	bool isnull;
	Datum value =
		heap_getattr(tuple, get_attnum(RelationGetRelid(table), name), RelationGetDescr(table), &isnull);

	if (isnull)
		elog(ERROR, "column %s of sms_gateway_identity is null", name);
	return value;
}

/* Does an identity row name this cluster and database?  If so, takes its origin and secret over. */
static bool
take_identity(Relation table, HeapTuple tuple)
{
	bytea *secret;

	if (DatumGetInt64(identity_column(table, tuple, "system_identifier")) != (int64) GetSystemIdentifier() ||
		DatumGetObjectId(identity_column(table, tuple, "database_oid")) != MyDatabaseId)
		return false;
	home.origin = DatumGetInt64(identity_column(table, tuple, "instance"));
	secret = DatumGetByteaPP(identity_column(table, tuple, "secret"));
	if (VARSIZE_ANY_EXHDR(secret) != HOME_SECRET_SIZE)
		return false;
	memcpy(home.secret, VARDATA_ANY(secret), HOME_SECRET_SIZE);
	return true;
}

/* Is there a row of this database in the identity table, and no other?  As of now. */
static HomeState
read_identities(void)
{
	Relation table = table_open(home.table, AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(table, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple tuple;
	bool own = false;
	bool foreign = false;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (take_identity(table, tuple))
			own = true;
		else
			foreign = true;
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(table, AccessShareLock);
	return own && !foreign ? HOME_OURS : HOME_COPY;
}

/*
 * Is this the database that its outbox belongs to?  It is, if the identity
 * table names this cluster and database, and names nothing else: a restored dump
 * adds the row of the database it came from, a TEMPLATE copy has only that.
 * False also where the extension is not.  Takes no lock that outlives the call.
 */
bool
home_is_ours(void)
{
	Oid extension;
	Oid schema;

	if (!home.watching)
	{
		CacheRegisterRelcacheCallback(on_identity_change, (Datum) 0);
		home.watching = true;
	}
	if (home.state == HOME_UNKNOWN)
	{
		HomeState found;

		home.table = home_find_extension(&extension, &schema, NULL)
						 ? get_relname_relid("sms_gateway_identity", schema)
						 : InvalidOid;
		if (!OidIsValid(home.table))
			return false;
		home.schema = schema;
		found = read_identities();
		home.state = found;
	}
	return home.state == HOME_OURS;
}

/* Has home_is_ours() look again: the database may not be what it was. */
void
home_forget(void)
{
	home.state = HOME_UNKNOWN;
}

/* The origin of rows that are made here; 0 where no identity names this database. */
int64
home_origin(void)
{
	home_is_ours();
	return home.origin;
}

/* A table or index of the extension; InvalidOid if the extension is not here. */
Oid
home_relation_or_none(const char *name)
{
	home_is_ours();
	return home.state == HOME_UNKNOWN ? InvalidOid : get_relname_relid(name, home.schema);
}

/* A table or index of the extension.  Raises 42704 if it is not there. */
Oid
home_relation(const char *name)
{
	Oid relation = home_relation_or_none(name);

	if (!OidIsValid(relation))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("extension sms_gateway is not in this database, or lacks \"%s\"", name)));
	return relation;
}

/* The key of this database's own hashes, HOME_SECRET_SIZE bytes.  Raises 55000 in a copy, which has none. */
const uint8 *
home_secret(void)
{
	if (!home_is_ours())
		home_require();
	return home.secret;
}

/* Raises 55000 unless messages may be sent from this database. */
void
home_require(void)
{
	if (!guc_enabled)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("sending messages is switched off"),
						errhint("It is switched on with sms_gateway.enabled.")));
	if (!home_is_ours())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this database is a copy, and copies send no messages"),
				 errdetail("The outbox belongs to another cluster or database."),
				 errhint("If this database takes the place of the original, call sms_adopt_outbox().")));
}
