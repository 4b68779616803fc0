/*
 * home.c
 *		The extension in this database, and whether its outbox is at home here.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "base/extension.h"
#include "base/settings.h"
#include "db/home.h"
#include "db/place.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

typedef enum HomeState
{
	HOME_UNKNOWN,
	HOME_OURS,
	HOME_COPY,      /* of another cluster's or database's, by a dump or a template */
	HOME_ELSEWHERE, /* the files are a copy */
	HOME_RESTORED,  /* the files are a backup's */
} HomeState;

/*
 * Which database this is, as home_is_ours() last found it: good until the identity table changes, if it is
 * "settled".  What follows "state" is set once that is known.
 */
static struct
{
	HomeState state;
	bool settled;
	bool stale; /* the table has changed since; it may do so while it is read */
	Oid table;  /* sms_gateway_identity */
	Oid schema; /* of the extension */
	int64 origin;
	uint8 secret[HOME_SECRET_SIZE]; /* the original's, in a copy that has none of its own */
	HomeState own;                  /* what the row of this database alone says */
	bool unwritten;                 /* ours, and the row does not say where we are */
	bool marked;                    /* the row says that it is held */
	char why[256];                  /* it is elsewhere */
	bool watching;                  /* the callback is registered, for this process's life */
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
		home.stale = true;
}

/* A column of an identity row, by its name; false if it is NULL, or the table is one of 0.1.0 and has none. */
static bool
optional_column(Relation table, HeapTuple tuple, const char *name, Datum *value)
{
	AttrNumber number = get_attnum(RelationGetRelid(table), name);
	bool isnull = true;

	if (number != InvalidAttrNumber)
		*value = heap_getattr(tuple, number, RelationGetDescr(table), &isnull);
	return !isnull;
}

/* The same of a column that is NOT NULL. */
static Datum
identity_column(Relation table, HeapTuple tuple, const char *name)
{
	Datum value;

	if (!optional_column(table, tuple, name, &value))
		elog(ERROR, "column %s of sms_gateway_identity is null", name);
	return value;
}

/*
 * Does an identity row name this cluster and database?  If so, takes its origin and secret over.  Another row's secret
 * is taken as long as there is none of our own.
 */
static bool
take_identity(Relation table, HeapTuple tuple)
{
	bytea *secret = DatumGetByteaPP(identity_column(table, tuple, "secret"));
	bool ours =
		DatumGetInt64(identity_column(table, tuple, "system_identifier")) == (int64) GetSystemIdentifier() &&
		DatumGetObjectId(identity_column(table, tuple, "database_oid")) == MyDatabaseId;

	if (VARSIZE_ANY_EXHDR(secret) != HOME_SECRET_SIZE)
		return false;
	if (ours || home.own == HOME_UNKNOWN)
		memcpy(home.secret, VARDATA_ANY(secret), HOME_SECRET_SIZE);
	if (ours)
		home.origin = DatumGetInt64(identity_column(table, tuple, "instance"));
	return ours;
}

/* The place that an identity row names. */
static Place
recorded_place(Relation table, HeapTuple tuple)
{
	Place place = {.citus_group = PLACE_NO_GROUP};
	Datum value;

	if (optional_column(table, tuple, "timeline", &value))
		place.timeline = (uint32) DatumGetInt64(value);
	if (optional_column(table, tuple, "place", &value))
		place.name = TextDatumGetCString(value);
	if (optional_column(table, tuple, "machine", &value))
		place.machine = DatumGetInt64(value);
	if (optional_column(table, tuple, "filesystem", &value))
		place.filesystem = DatumGetInt64(value);
	if (optional_column(table, tuple, "directory", &value))
		place.directory = TextDatumGetCString(value);
	if (optional_column(table, tuple, "file", &value))
		place.file = DatumGetInt64(value);
	if (optional_column(table, tuple, "born", &value))
		place.born = DatumGetTimestampTz(value);
	if (optional_column(table, tuple, "citus_group", &value))
		place.citus_group = DatumGetInt32(value);
	return place;
}

static bool
same_text(const char *a, const char *b)
{
	return strcmp(a != NULL ? a : "", b != NULL ? b : "") == 0;
}

static bool
same_row(const Place *a, const Place *b)
{
	return a->timeline == b->timeline && a->machine == b->machine && a->filesystem == b->filesystem &&
		   a->file == b->file && a->born == b->born && a->citus_group == b->citus_group &&
		   same_text(a->name, b->name) && same_text(a->directory, b->directory);
}

/*
 * Is this server where the identity row of this database says that its outbox is?  On the same timeline it has to be
 * the same place.  Another timeline is that of a promoted standby, whose place is another one by nature,
 * unless its primary was held as a copy itself; or of a restored backup.  A row without a timeline is of 0.1.0,
 * and nobody can know.
 */
static HomeState
judge_place(Relation table, HeapTuple tuple)
{
	Place was = recorded_place(table, tuple);
	Place is = place_here();
	Datum marked;
	char *why;

	home.marked = optional_column(table, tuple, "held", &marked) && DatumGetBool(marked);
	home.why[0] = '\0';
	if (was.timeline != 0 && was.timeline != is.timeline)
	{
		if (!place_was_promoted(was.timeline))
			return HOME_RESTORED;
		why = home.marked ? "It is a standby of a server that was held itself."
						  : place_difference(&(Place){.citus_group = was.citus_group}, &is);
	}
	else
		why = was.timeline != 0 ? place_difference(&was, &is) : NULL;
	if (why != NULL)
	{
		strlcpy(home.why, why, sizeof(home.why));
		return HOME_ELSEWHERE;
	}
	home.unwritten = get_attnum(RelationGetRelid(table), "held") != InvalidAttrNumber &&
					 (home.marked || !same_row(&was, &is));
	return HOME_OURS;
}

/* Is there a row of this database in the identity table, of this place, and no other?  As of now. */
static HomeState
read_identities(void)
{
	Relation table = table_open(home.table, AccessShareLock);
	/* A policy may ask in the midst of a parallel query, which has one snapshot. */
	Snapshot snapshot = RegisterSnapshot(IsInParallelMode() ? GetActiveSnapshot() : GetLatestSnapshot());
	SysScanDesc scan = systable_beginscan(table, InvalidOid, false, snapshot, 0, NULL);
	HeapTuple tuple;
	bool foreign = false;

	home.own = HOME_UNKNOWN;
	home.unwritten = false;
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (!take_identity(table, tuple))
			foreign = true;
		else
			home.own = home.settled ? judge_place(table, tuple) : HOME_OURS; /* a standby is where it likes */
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(table, AccessShareLock);
	return foreign || home.own == HOME_UNKNOWN ? HOME_COPY : home.own;
}

/*
 * Is this the database that its outbox belongs to?  It is, if the identity
 * table names this cluster, database and place, and names nothing else: a restored dump
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
	if (home.stale || !home.settled || home.state != HOME_OURS)
	{
		HomeState found;

		home.state = HOME_UNKNOWN;
		home.stale = false;
		home.settled = !RecoveryInProgress();

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
	home.stale = true;
}

/* Did home_is_ours() find that the row of this database, which is at home, does not say yet where?  Reads nothing. */
bool
home_is_unwritten(void)
{
	return home.state == HOME_OURS && home.unwritten;
}

/* Is this database at home by all but its place, by which it is a copy; and does its row not say so yet, if "unmarked"? */
bool
home_is_moved(bool unmarked)
{
	home_is_ours();
	return home.state != HOME_UNKNOWN && (home.own == HOME_ELSEWHERE || home.own == HOME_RESTORED) &&
		   !(unmarked && home.marked);
}

/* Why this database, which is not ours, is a copy: a sentence. */
static const char *
copy_detail(void)
{
	if (home.state == HOME_ELSEWHERE)
		return home.why;
	if (home.state == HOME_RESTORED)
		return "The server was restored from a backup, not promoted: the original may have sent its messages "
			   "since.";
	return "The outbox came from another cluster or database, with a dump or a template.";
}

/* What may be done about that. */
static const char *
copy_hint(void)
{
	if (home.state == HOME_ELSEWHERE)
		return "If this database takes the place of the original, call sms_adopt_outbox(). If it is the "
			   "original, and its place moves, see sms_gateway.place.";
	return "If this database takes the place of the original, call sms_adopt_outbox().";
}

/* Says at a level that this database, which is not ours, is held: as a warning when its place is new to it. */
void
home_complain(int elevel)
{
	ereport(home_is_moved(true) ? Max(elevel, WARNING) : elevel,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 home.state == HOME_COPY
				 ? errmsg("the outbox of this database belongs to another one: nothing is sent")
				 : errmsg("the outbox of this database belongs to another server: nothing is sent"),
			 errdetail_internal("%s", copy_detail()), errhint("%s", copy_hint())));
}

/* Whose copy this database is, in words for a view, with the signs of that if "told"; NULL if it is none. */
const char *
home_copied(bool told)
{
	if (home_is_ours())
		return NULL;
	if (home.state == HOME_UNKNOWN || home.state == HOME_COPY)
		return "this database is a copy; see sms_adopt_outbox";
	return told ? psprintf("this server is a copy; see sms_adopt_outbox. %s", copy_detail())
				: "this server is a copy; see sms_adopt_outbox";
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

/*
 * The key under which numbers are hidden in this database, HOME_SECRET_SIZE bytes: home_secret(), and in a copy, which
 * takes messages too, whatever secret it has.
 */
const uint8 *
home_hiding_key(void)
{
	home_is_ours();
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
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this database is a copy, and copies send no messages"),
						errdetail_internal("%s", copy_detail()), errhint("%s", copy_hint())));
}
