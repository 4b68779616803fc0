/*
 * counter.c
 *		Counters that stay counted when the transaction rolls back.
 *
 * A counter is a row of an own table whose first two columns are a bigint and a
 * timestamptz, both NOT NULL: they stand at a fixed place in the row.  They are
 * changed right there on the page, under the page's lock, and logged by a generic
 * WAL record.  So a change is atomic, at once visible to everybody, durable
 * like any other, and no transaction undoes it; nobody waits for anybody's
 * transaction, and no dead row is left.  New rows are as independent of the transaction
 * that makes them: they are born frozen.
 */
#include "postgres.h"

#include "access/generic_xlog.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/index.h"
#include "catalog/pg_collation.h"
#include "common/hashfn.h"
#include "base/extension.h"
#include "db/home.h"
#include "guard/counter.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define COUNTER_COLUMNS 4

/*
 * Finds the last row with this gateway and text in an own table's index on
 * (gateway, text, …), as of now.  Returns a copy of the row, NULL if there is none.
 */
HeapTuple
counter_find(Relation table, const char *index_name, const char *gateway, const char *text)
{
	Relation index = index_open(home_relation(index_name), AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	NameData name;
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple tuple;

	namestrcpy(&name, gateway);
	ScanKeyInit(&keys[0], index->rd_index->indkey.values[0], BTEqualStrategyNumber, F_NAMEEQ,
				NameGetDatum(&name));
	ScanKeyInit(&keys[1], index->rd_index->indkey.values[1], BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(text));
	keys[1].sk_collation = DEFAULT_COLLATION_OID;
	scan = systable_beginscan_ordered(table, index, snapshot, 2, keys);
	tuple = systable_getnext_ordered(scan, BackwardScanDirection);
	if (HeapTupleIsValid(tuple))
		tuple = heap_copytuple(tuple);
	systable_endscan_ordered(scan);
	UnregisterSnapshot(snapshot);
	index_close(index, AccessShareLock);
	return tuple;
}

/*
 * Makes a counter that has counted nothing, unless somebody else just has: a row of
 * (0, '-infinity', gateway, text) in a table with a unique index on (gateway, text).
 */
void
counter_make(Relation table, const char *index_name, const char *gateway, const char *text)
{
	Relation index = index_open(home_relation(index_name), RowExclusiveLock);
	uint32 key = hash_bytes((const unsigned char *) text, (int) strlen(text)) ^
				 hash_bytes((const unsigned char *) gateway, (int) strlen(gateway));
	NameData name;
	Datum values[COUNTER_COLUMNS];
	bool nulls[COUNTER_COLUMNS] = {false};
	LOCKTAG tag;

	namestrcpy(&name, gateway);
	values[0] = Int64GetDatum(0);
	values[1] = TimestampTzGetDatum(DT_NOBEGIN);
	values[2] = NameGetDatum(&name);
	values[3] = CStringGetTextDatum(text);

	/* Two sessions must not both insert: the second would fail at the unique index. */
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, key, 0, OUR_LOCK_CLASS);
	(void) LockAcquire(&tag, ExclusiveLock, false, false);
	if (counter_find(table, index_name, gateway, text) == NULL)
	{
		HeapTuple tuple = heap_form_tuple(RelationGetDescr(table), values, nulls);

		heap_insert(table, tuple, GetCurrentCommandId(true), HEAP_INSERT_FROZEN, NULL);
		index_insert(index, &values[2], nulls, &tuple->t_self, table, UNIQUE_CHECK_YES, false,
					 BuildIndexInfo(index));
	}
	LockRelease(&tag, ExclusiveLock, false);
	index_close(index, RowExclusiveLock);
}

/*
 * Lets "change" look at a counter and change it.  If it returns true, the change
 * is written, and with "durable" also flushed.  "change" runs under the page's
 * lock: it must neither raise errors nor read tables.  Returns false if the row
 * is no longer there.
 */
bool
counter_change(Relation table, ItemPointer tid, bool durable, CounterChange change, void *arg)
{
	Buffer buffer = ReadBuffer(table, ItemPointerGetBlockNumber(tid));
	OffsetNumber offset = ItemPointerGetOffsetNumber(tid);
	XLogRecPtr written = InvalidXLogRecPtr;
	Page page;
	ItemId item;
	bool found;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	page = BufferGetPage(buffer);
	item = offset <= PageGetMaxOffsetNumber(page) ? PageGetItemId(page, offset) : NULL;
	found = item != NULL && ItemIdIsNormal(item);
	if (found)
	{
		HeapTupleHeader header = (HeapTupleHeader) PageGetItem(page, item);
		Size at = (char *) header + header->t_hoff - (char *) page;
		Counter counter;

		memcpy(&counter, (char *) page + at, sizeof(counter));
		if (change(&counter, arg))
		{
			GenericXLogState *state = GenericXLogStart(table);
			Page copy = GenericXLogRegisterBuffer(state, buffer, 0);

			memcpy((char *) copy + at, &counter, sizeof(counter));
			written = GenericXLogFinish(state);
		}
	}
	UnlockReleaseBuffer(buffer);
	if (durable && !XLogRecPtrIsInvalid(written))
		XLogFlush(written);
	return found;
}
