/*
 * roster.c
 *		Which databases are served, and which are to be looked at.
 *
 * Only a worker can find out whether a database has the extension.  So each database is looked at
 * once, when it begins to be served: at the launcher's start, when connections are allowed
 * again, when sms_gateway.databases names it.  From then on commits in it tell.
 *
 * Nothing here waits for a lock: whoever has locked pg_database would hold the launcher up.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "base/settings.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "lib/stringinfo.h"
#include "storage/lmgr.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "wake/slot.h"
#include "worker/roster.h"

/* What is known of a database since the launcher's start. */
typedef struct Known
{
	Oid database; /* hash key */
	bool served;
	bool look;   /* no slot has been free yet for a worker to look at it */
	int seen_in; /* the sweep */
} Known;

static HTAB *roster = NULL;
static int sweeps = 0;

/* Begins a transaction in which pg_database can be read without a wait; false, without one, if it is locked. */
static bool
begin_look(void)
{
	StartTransactionCommand();
	if (ConditionalLockRelationOid(DatabaseRelationId, AccessShareLock))
		return true;
	AbortCurrentTransaction();
	return false;
}

static bool
is_listed(List *names, const char *name)
{
	ListCell *lc;

	foreach (lc, names)
	{
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	}
	return names == NIL;
}

/* May a worker connect to it, and is it to? */
static bool
is_served(Form_pg_database database, bool any, List *names)
{
	return any && database->datallowconn && !database->datistemplate && database->datconnlimit != -2 &&
		   is_listed(names, NameStr(database->datname));
}

/* Takes down what a row of pg_database says. */
static void
note(Form_pg_database database, bool served)
{
	bool known;
	Known *entry = hash_search(roster, &database->oid, HASH_ENTER, &known);

	if (!known)
	{
		entry->served = sweeps > 1; /* what is made later has told us by then, if it has an outbox */
		entry->look = false;
	}
	if (served != entry->served)
		entry->look = served;
	entry->served = served;
	entry->seen_in = sweeps;
}

/* Removes a name that a database has from those that are looked for. */
static List *
strike(List *missing, const char *name)
{
	ListCell *lc;

	foreach (lc, missing)
	{
		if (strcmp(lfirst(lc), name) == 0)
			missing = foreach_delete_current(missing, lc);
	}
	return missing;
}

/* Says which names of sms_gateway.databases no database has, once for each value of the setting. */
static void
tell_missing(List *missing)
{
	static char *told = NULL;
	ListCell *lc;

	if (told != NULL && strcmp(told, guc_databases) == 0)
		return;
	if (told != NULL)
		pfree(told);
	told = MemoryContextStrdup(TopMemoryContext, guc_databases);
	foreach (lc, missing)
		ereport(WARNING,
				(errcode(ERRCODE_UNDEFINED_DATABASE),
				 errmsg("database \"%s\" of sms_gateway.databases does not exist", (char *) lfirst(lc)),
				 errhint("Names are taken as they are written, in upper and lower case.")));
}

/* Reads pg_database. */
static void
read_databases(void)
{
	Relation catalog = table_open(DatabaseRelationId, NoLock);
	SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	HeapTuple tuple;
	List *names = NIL;
	List *missing;
	bool any = settings_databases(&names);

	missing = any ? list_copy(names) : NIL;
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		note(database, is_served(database, any, names));
		missing = strike(missing, NameStr(database->datname));
	}
	systable_endscan(scan);
	table_close(catalog, NoLock);
	tell_missing(missing);
}

/* May a worker be started in this database?  If pg_database is locked, that is not known. */
bool
roster_serves(Oid database, bool *locked)
{
	HeapTuple tuple;
	List *names = NIL;
	bool serves = false;

	*locked = !begin_look();
	if (*locked)
		return false;
	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	if (HeapTupleIsValid(tuple))
	{
		bool any = settings_databases(&names);

		serves = is_served((Form_pg_database) GETSTRUCT(tuple), any, names);
		ReleaseSysCache(tuple);
	}
	CommitTransactionCommand();
	return serves;
}

/* A database is gone, or not served: nobody is to ask for a worker, and the one that it has ends. */
static void
retire(WorkerSlot *slot)
{
	slot_refuse(slot);
	slot_end_worker(slot);
	slot_free(slot);
}

/* Forgets databases that are gone, and has slots say which are served. */
static void
apply(void)
{
	HASH_SEQ_STATUS status;
	Known *known;

	hash_seq_init(&status, roster);
	while ((known = hash_seq_search(&status)) != NULL)
	{
		if (known->seen_in != sweeps)
			hash_search(roster, &known->database, HASH_REMOVE, NULL);
	}
	for (int i = 0; i < slot_table->size; i++)
	{
		WorkerSlot *slot = &slot_table->slots[i];
		Oid database = pg_atomic_read_u32(&slot->database);
		bool locked;

		if (database == InvalidOid)
			continue;
		known = hash_search(roster, &database, HASH_FIND, NULL);
		/* One that the sweep has not seen may have been made meanwhile. */
		if (known == NULL ? !roster_serves(database, &locked) && !locked : !known->served)
			retire(slot);
		else
			slot_change(slot, SLOT_REFUSED, SLOT_WANTED);
	}
}

/* Looks at all databases.  Returns false, having done nothing, if pg_database is locked. */
bool
roster_sweep(void)
{
	HASHCTL info = {.keysize = sizeof(Oid), .entrysize = sizeof(Known)};

	if (!begin_look())
		return false;
	if (roster == NULL)
	{
		info.hcxt = TopMemoryContext;
		roster = hash_create("sms_gateway databases", 128, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	sweeps++;
	PushActiveSnapshot(GetTransactionSnapshot());
	read_databases();
	PopActiveSnapshot();
	CommitTransactionCommand();
	apply();
	return true;
}

/* Wants a worker for each database that is to be looked at, as far as there are slots; returns how many are left. */
int
roster_feed(void)
{
	HASH_SEQ_STATUS status;
	Known *known;
	int left = 0;

	if (roster == NULL)
		return 0;
	hash_seq_init(&status, roster);
	while ((known = hash_seq_search(&status)) != NULL)
	{
		WorkerSlot *slot;

		if (!known->look)
			continue;
		slot = left == 0 ? slot_of(known->database) : NULL;
		if (slot == NULL)
		{
			left++;
			continue;
		}
		known->look = false;
		slot_want_worker(slot);
	}
	return left;
}

/* The names of databases, separated by commas, in the caller's memory; those whose names are not known by oid. */
char *
roster_names(const Oid *databases, int count)
{
	StringInfoData names;
	MemoryContext caller = CurrentMemoryContext;
	bool readable = begin_look();

	MemoryContextSwitchTo(caller);
	initStringInfo(&names);
	for (int i = 0; i < count; i++)
	{
		char *name = readable ? get_database_name(databases[i]) : NULL;

		appendStringInfoString(&names, i == 0 ? "" : ", ");
		if (name != NULL)
			appendStringInfo(&names, "\"%s\"", name);
		else
			appendStringInfo(&names, "%u", databases[i]);
	}
	if (readable)
		CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return names.data;
}
