/*
 * counter.c
 *		Counters that stay counted when the transaction rolls back.
 *
 * What is counted here must be seen by others before its transaction commits (two sessions must not
 * both get the last message of a limit), must stay when it rolls back (a wrong one-time password is
 * a try in any case), and nobody may wait for somebody else's transaction.  No row that is written by
 * UPDATE is like that.  So a counter is a row that is changed in place, as PostgreSQL itself changes
 * pg_class.relpages, and by the same functions: heap_inplace_lock() and heap_inplace_update_and_unlock(), of which
 * systable_inplace_update_begin() says that they are good for tables that are not the system's.  That one itself
 * looks for the row with a snapshot, and under SERIALIZABLE whoever reads so is in conflict with whoever makes a
 * counter meanwhile: here the row is looked for as it is now, which PostgreSQL does not take for a read.
 * Why that is right:
 *
 * - The row is found by its key at each change, under the page's lock, so no change can meet another
 *	 row, wherever VACUUM FULL, REINDEX or a purge has brought this one.
 * - A row that somebody deletes, updates or locks is waited for: no count is lost with a deleted row.
 *	 This is short, as who purges locks first and then looks again (cleanup.c); an owner who deletes by
 *	 hand holds counting up until he commits, as with any row.
 * - Its WAL record is PostgreSQL's own, so recovery, standbys and wal_consistency_checking know it; no
 *	 other transaction is woken, no dead row is left.
 *
 * A new row is there at once, too.  It is inserted and indexed like any other, and then its
 * transaction is taken off it: it is frozen, again with PostgreSQL's own record.  A crash or an error
 * before that leaves a row of a transaction that failed, which VACUUM takes away with its index
 * entries; after that, everything stands in the WAL before.  Inserting it frozen (HEAP_INSERT_FROZEN)
 * would leave a row without an index entry when the server dies in between.  Only one session makes a
 * row of a key at a time, by an advisory lock that is held for the making.
 *
 * One thing relies on it that a new row is not seen by older snapshots: CREATE INDEX and REINDEX
 * CONCURRENTLY, when they look at the end for rows that the new index lacks, would find one that was just
 * entered.  They first wait for who has the table locked.  So a transaction that makes a row keeps its lock on
 * the table to its end, and before it takes that, waits until they have looked, if they are about to.
 *
 * Logical decoding sees neither changes nor new rows: to a subscriber, which has its own outbox,
 * counters of this one are of no use, and a row that came back after a purge would clash there.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "base/compat.h"
#include "base/extension.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "db/home.h"
#include "db/scope.h"
#include "db/sql.h"
#include "executor/executor.h"
#include "guard/counter.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#define COUNTER_LOCK 0 /* the third field of our advisory locks' tags; the engine's has 1 */

/* Columns of sms_gateway_usage. */
enum
{
	USAGE_USED = 1,
	USAGE_WINDOW_END,
	USAGE_CODE,
	USAGE_TRIES,
	USAGE_GATEWAY,
	USAGE_SUBJECT,
	USAGE_COLUMNS = USAGE_SUBJECT
};

/* For an index under construction. */
#define VALIDATION_WAIT INT64CONST(60000000) /* us: how long, at most */
#define VALIDATION_LOOK INT64CONST(200000) /* us between two looks, at most; a twentieth of the wait so far */

/*
 * Are CREATE INDEX or REINDEX CONCURRENTLY between their wait for writers and the end of their look at the table?
 * In between they say for a moment that they initialize; with a TOAST table, of which they build the index last, the
 * wait is said to be for that.  They wait for the ends of transactions that had the table locked just when they
 * began to: while that is for ours, which may have had it for a moment, they look later, and we must not wait for them.
 */
static Statement counter_validation = {
	.sql = "SELECT FROM pg_stat_progress_create_index p WHERE p.relid = $1 "
		   "AND (p.phase = 'initializing' OR p.phase ^@ 'index validation') "
		   "OR p.relid IN ($1, $2) AND p.phase = 'waiting for writers before validation' "
		   "AND pg_backend_pid() <> ALL (pg_blocking_pids(p.pid))",
	.args = {OIDOID, OIDOID},
};

/* Where a counter is: its table, and its key in it. */
typedef struct Place
{
	Relation table;
	Oid index;
	Datum gateway;
	Datum subject;
	ScanKeyData keys[2];
} Place;

/* The table of counters, for counter_change_now().  Raises 42704 if it is not there. */
Oid
counter_table(void)
{
	return home_relation("sms_gateway_usage");
}

/* Finds the index by the table alone: asking where the extension is may have to wait. */
static void
set_place(Place *place, Relation table, const char *gateway, const char *subject)
{
	place->table = table;
	place->index = get_relname_relid("sms_gateway_usage_pkey", RelationGetNamespace(table));
	if (!OidIsValid(place->index))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("table \"%s\" lacks its primary key", RelationGetRelationName(table))));
	place->gateway = CStringGetTextDatum(gateway);
	place->subject = CStringGetTextDatum(subject);
	/* In the order of the index. */
	ScanKeyInit(&place->keys[0], USAGE_SUBJECT, BTEqualStrategyNumber, F_TEXTEQ, place->subject);
	place->keys[0].sk_collation = C_COLLATION_OID;
	ScanKeyInit(&place->keys[1], USAGE_GATEWAY, BTEqualStrategyNumber, F_TEXTEQ, place->gateway);
	place->keys[1].sk_collation = C_COLLATION_OID;
}

static void
free_place(Place *place)
{
	pfree(DatumGetPointer(place->gateway));
	pfree(DatumGetPointer(place->subject));
}

/* Finds a counter's row, as it is now, in *scan; the scan is ended where there is none. */
static HeapTuple
find_row(const Place *place, SysScanDesc *scan)
{
	ScanKeyData keys[lengthof(place->keys)];
	HeapTuple row;

	memcpy(keys, place->keys, sizeof(keys)); /* they are written to */
	*scan = systable_beginscan(place->table, place->index, true, SnapshotSelf, lengthof(keys), keys);
	row = systable_getnext(*scan);
	if (!HeapTupleIsValid(row))
		systable_endscan(*scan);
	return row;
}

static Buffer
buffer_of(SysScanDesc scan)
{
	return ((BufferHeapTupleTableSlot *) scan->slot)->buffer;
}

/* Lets "change" change a row that heap_inplace_lock() has locked, and unlocks it. */
static void
change_locked(const Place *place, HeapTuple row, Buffer buffer, CounterChange change, void *arg)
{
	/* From here to the end of the change the page is locked. */
	HeapTuple changed = heap_copytuple(row);
	char *at = (char *) changed->t_data + changed->t_data->t_hoff;
	Counter counter;

	memcpy(&counter, at, sizeof(counter));
	if (change(&counter, arg))
	{
		memcpy(at, &counter, sizeof(counter));
		heap_inplace_update_and_unlock(place->table, row, changed, buffer);
	}
	else
		heap_inplace_unlock(place->table, row, buffer);
	heap_freetuple(changed);
}

static void
end_scan(void *scan)
{
	systable_endscan(scan);
}

/* Changes a counter that is there; false if it is not. */
static bool
change_row(const Place *place, CounterChange change, void *arg)
{
	SysScanDesc scan;
	HeapTuple row;

	do
	{
		CHECK_FOR_INTERRUPTS();
		row = find_row(place, &scan);
		if (!HeapTupleIsValid(row))
			return false;
		/* If somebody has changed or locked the row, this waits for him, with the scan ended. */
	} while (!heap_inplace_lock(place->table, row, buffer_of(scan), end_scan, scan));
	change_locked(place, row, buffer_of(scan), change, arg);
	systable_endscan(scan);
	return true;
}

/* Raises that somebody has locked something; also as what heap_inplace_lock() calls before it waits. */
static void
refuse_to_wait(void *arg)
{
	(void) arg;
	ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("a counter is locked")));
}

/* Locks a row's tag, which who waits for the row has locked. */
static void
lock_row_now(Relation table, HeapTuple row, LOCKTAG *tag)
{
	SET_LOCKTAG_TUPLE(*tag, table->rd_lockInfo.lockRelId.dbId, table->rd_lockInfo.lockRelId.relId,
					  ItemPointerGetBlockNumber(&row->t_self), ItemPointerGetOffsetNumber(&row->t_self));
	if (LockAcquire(tag, InplaceUpdateTupleLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		refuse_to_wait(NULL);
}

/* The same without a wait: 55P03 if somebody has locked or deleted the row. */
static void
change_row_now(const Place *place, CounterChange change, void *arg)
{
	SysScanDesc scan;
	HeapTuple row = find_row(place, &scan);
	LOCKTAG tag;

	if (!HeapTupleIsValid(row))
		return;
	lock_row_now(place->table, row, &tag);
	if (!heap_inplace_lock(place->table, row, buffer_of(scan), refuse_to_wait, NULL))
		refuse_to_wait(NULL);
	change_locked(place, row, buffer_of(scan), change, arg);
	LockRelease(&tag, InplaceUpdateTupleLock, false);
	systable_endscan(scan);
}

/* Is there no row of the counter at all, not even one that somebody else may see or that was deleted? */
static bool
never_was(const Place *place)
{
	ScanKeyData keys[lengthof(place->keys)];
	SysScanDesc scan;
	bool was;

	memcpy(keys, place->keys, sizeof(keys));
	scan = systable_beginscan(place->table, place->index, true, SnapshotAny, lengthof(keys), keys);
	was = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	return !was;
}

/*
 * Has this transaction itself deleted the counter?  Then a new one must share that deletion's fate: if
 * it is rolled back, the old row is there again.
 */
static bool
deleted_by_us(const Place *place)
{
	ScanKeyData keys[lengthof(place->keys)];
	SysScanDesc scan;
	HeapTuple row;
	bool deleted = false;

	if (!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return false;
	memcpy(keys, place->keys, sizeof(keys));
	scan = systable_beginscan(place->table, place->index, true, SnapshotAny, lengthof(keys), keys);
	while (!deleted && HeapTupleIsValid(row = systable_getnext(scan)))
	{
		HeapTupleHeader header = row->t_data;

		deleted = !(header->t_infomask & HEAP_XMAX_INVALID) &&
				  !HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask) &&
				  TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetUpdateXid(header));
	}
	systable_endscan(scan);
	return deleted;
}

/* Inserts a row and its index entries, as any INSERT does. */
static void
insert_row(Relation table, HeapTuple row)
{
	EState *estate = CreateExecutorState();
	ResultRelInfo *target = makeNode(ResultRelInfo);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(table), &TTSOpsHeapTuple);

	InitResultRelInfo(target, table, 0, NULL, 0);
	ExecOpenIndices(target, false);
	heap_insert(table, row, GetCurrentCommandId(true), HEAP_INSERT_NO_LOGICAL, NULL);
	ExecStoreHeapTuple(row, slot, false);
	list_free(compat_insert_index_entries(target, slot, estate));
	ExecCloseIndices(target);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
	pfree(target);
}

/* Makes a counter's row independent of the transaction that has just inserted it. */
static void
make_permanent(Relation table, ItemPointer tid)
{
	Buffer buffer = ReadBuffer(table, ItemPointerGetBlockNumber(tid));

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	compat_freeze_row(table, buffer, ItemPointerGetOffsetNumber(tid));
	UnlockReleaseBuffer(buffer);
}

/* Makes a counter that starts with a change, if that is to be written.  "ours": this transaction has deleted it. */
static void
make_row(const Place *place, bool ours, CounterChange change, void *arg)
{
	Counter counter = {.until = DT_NOBEGIN};
	Datum values[USAGE_COLUMNS];
	bool nulls[USAGE_COLUMNS] = {false};
	HeapTuple row;

	if (!change(&counter, arg))
		return;
	values[USAGE_USED - 1] = Int64GetDatum(counter.count);
	values[USAGE_WINDOW_END - 1] = TimestampTzGetDatum(counter.until);
	values[USAGE_CODE - 1] = Int64GetDatum(counter.code);
	values[USAGE_TRIES - 1] = Int64GetDatum(counter.tries);
	values[USAGE_GATEWAY - 1] = place->gateway;
	values[USAGE_SUBJECT - 1] = place->subject;
	row = heap_form_tuple(RelationGetDescr(place->table), values, nulls);
	insert_row(place->table, row);
	if (ours)
		CommandCounterIncrement(); /* so that the next change finds it */
	else
		make_permanent(place->table, &row->t_self);
	heap_freetuple(row);
}

/* The index of the table which is entered into and is not valid yet; InvalidOid if there is none. */
static Oid
index_in_construction(Relation table)
{
	List *indexes = RelationGetIndexList(table);
	ListCell *lc;
	Oid found = InvalidOid;

	foreach (lc, indexes)
	{
		HeapTuple tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));

		if (!HeapTupleIsValid(tuple))
			continue;
		if (((Form_pg_index) GETSTRUCT(tuple))->indisready && !((Form_pg_index) GETSTRUCT(tuple))->indisvalid)
			found = lfirst_oid(lc);
		ReleaseSysCache(tuple);
	}
	list_free(indexes);
	return found;
}

/* Is somebody looking for rows that an index of the table lacks? */
static bool
is_being_validated(Relation table)
{
	Datum values[] = {ObjectIdGetDatum(RelationGetRelid(table)),
					  ObjectIdGetDatum(table->rd_rel->reltoastrelid)};
	OwnerScope scope;
	bool found;

	scope_enter(&scope);
	pgstat_clear_snapshot(); /* what others do is read once in a transaction */
	found = sql_any(&counter_validation, values);
	scope_leave(&scope);
	return found;
}

static uint32
hash_of(Datum text)
{
	return hash_bytes((const unsigned char *) VARDATA_ANY(DatumGetPointer(text)),
					  (int) VARSIZE_ANY_EXHDR(DatumGetPointer(text)));
}

/* Makes a counter, if it is still not there, and changes it.  Returns whether it was new. */
static bool
make_counter(const Place *place, CounterChange change, void *arg)
{
	uint32 key = hash_of(place->gateway) ^ hash_of(place->subject);
	LOCKTAG tag;
	bool made = true;

	/* Two sessions must not both insert: the second would wait for the first at the unique index. */
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, key, COUNTER_LOCK, OUR_LOCK_CLASS);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	if (never_was(place))
		make_row(place, false, change, arg);
	else if (change_row(place, change, arg))
		made = false;
	else
		make_row(place, deleted_by_us(place), change, arg);
	LockRelease(&tag, ExclusiveLock, false);
	return made;
}

/*
 * Opens the table to make a row; it is to stay locked up to the transaction's end.  Who builds an index waits for
 * such transactions, of which one may last; so he is waited for once only, and then rather fails.
 */
static Relation
open_to_make(void)
{
	static Oid given_up = InvalidOid; /* an index that was waited for long enough */
	Oid oid = counter_table();
	bool held = compat_holds_relation(oid, RowExclusiveLock);
	TimestampTz start = GetCurrentTimestamp();

	for (;;)
	{
		Relation table = table_open(oid, RowExclusiveLock);
		Oid index = held ? InvalidOid : index_in_construction(table);
		int64 waited = GetCurrentTimestamp() - start;

		if (index == InvalidOid || index == given_up || !is_being_validated(table))
			return table;
		if (waited >= VALIDATION_WAIT)
		{
			given_up = index;
			return table;
		}
		table_close(table, RowExclusiveLock);
		CHECK_FOR_INTERRUPTS();
		pg_usleep((long) Min(10000 + waited / 20, VALIDATION_LOOK));
	}
}

/*
 * Lets "change" look at a counter and change it, a new one if there is none yet.  If it returns true,
 * the change is written.  "change" runs under a page's lock: it must neither raise errors nor read tables.
 */
void
counter_change(const char *gateway, const char *subject, CounterChange change, void *arg)
{
	static bool last_was_new = false;
	Oid oid = counter_table();
	/* Who queues for thousands of new phones finds out only once for each that it is new. */
	bool done = false, expect_new = last_was_new && compat_holds_relation(oid, RowExclusiveLock);
	Relation table;
	Place place;

	if (!expect_new)
	{
		table = table_open(oid, RowExclusiveLock);
		set_place(&place, table, gateway, subject);
		done = change_row(&place, change, arg);
		table_close(table, RowExclusiveLock); /* what was counted does not depend on this transaction */
		last_was_new = false;
	}
	if (!done)
	{
		table = open_to_make();
		set_place(&place, table, gateway, subject);
		last_was_new = make_counter(&place, change, arg);
		table_close(table, NoLock);
	}
	free_place(&place);
}

/*
 * The same for a counter that is there, in what was counter_table(); nothing happens if one of them is no more.
 * Waits for nobody and reads no other table of ours: 55P03 if somebody has locked the table, its index or the row.
 */
void
counter_change_now(Oid oid, const char *gateway, const char *subject, CounterChange change, void *arg)
{
	Relation table;
	Place place;

	if (!ConditionalLockRelationOid(oid, RowExclusiveLock))
		refuse_to_wait(NULL);
	table = try_table_open(oid, NoLock);
	if (table == NULL)
	{
		UnlockRelationOid(oid, RowExclusiveLock);
		return;
	}
	set_place(&place, table, gateway, subject);
	if (!ConditionalLockRelationOid(place.index, AccessShareLock))
		refuse_to_wait(NULL);
	change_row_now(&place, change, arg);
	UnlockRelationOid(place.index, AccessShareLock);
	table_close(table, RowExclusiveLock);
	free_place(&place);
}

/*
 * Makes this transaction's changes of counters durable, now and whatever becomes of it.  On a synchronous
 * standby they are, once it commits: a transaction without an xid would not wait for that.
 */
void
counter_flush(void)
{
	(void) GetCurrentTransactionId();
	XLogFlush(XactLastRecEnd);
}
