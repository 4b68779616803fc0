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
#include "base/extension.h"
#include "base/settings.h"
#include "db/home.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Which database this is: see home_is_ours(). */
static enum {
	HOME_UNKNOWN,
	HOME_OURS,
	HOME_COPY,
} home = HOME_UNKNOWN;
static Oid home_table = InvalidOid;
static Oid home_schema = InvalidOid; /* of the extension, as long as "home" is known */
static int64 this_origin = 0;
static uint8 this_secret[HOME_SECRET_SIZE];
static bool home_callback = false;

/* Finds the extension in this database; false if it is not there. */
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
home_is_ours(void)
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
		home_table = home_find_extension(&extension, &schema, NULL)
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

				own = VARSIZE_ANY_EXHDR(secret) == HOME_SECRET_SIZE;
				this_origin = DatumGetInt64(heap_getattr(tuple, 1, desc, &isnull));
				if (own)
					memcpy(this_secret, VARDATA_ANY(secret), HOME_SECRET_SIZE);
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
home_forget(void)
{
	home = HOME_UNKNOWN;
}

/* The origin of rows that are made here. */
int64
home_origin(void)
{
	home_is_ours();
	return this_origin;
}

/* A table or index of the extension; InvalidOid if the extension is not here. */
Oid
home_relation_or_none(const char *name)
{
	home_is_ours();
	return home == HOME_UNKNOWN ? InvalidOid : get_relname_relid(name, home_schema);
}

/* A table or index of the extension. */
Oid
home_relation(const char *name)
{
	Oid relation = home_relation_or_none(name);

	if (!OidIsValid(relation))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("extension sms_gateway is not in this database, or lacks \"%s\"", name)));
	return relation;
}

/* The key of this database's own hashes. */
const uint8 *
home_secret(void)
{
	if (!home_is_ours())
		home_require();
	return this_secret;
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
				 errhint("If this database takes the place of the original: SELECT sms_adopt_outbox().")));
}
