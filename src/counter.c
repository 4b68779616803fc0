/*
 * counter.c
 *		Counters that stay counted when the transaction rolls back.
 *
 * A counter is a row of an own table whose first two columns are a bigint and a
 * timestamptz, both NOT NULL: they stand at a fixed place in the row.  They are
 * changed right there on the page, under the page's lock, and logged by a generic
 * WAL record.  So a change is atomic, at once visible to everybody, durable
 * like any other, and no transaction undoes it; nobody waits for anybody's
 * transaction, and no dead row is left.  Rows themselves come and go by SQL.
 */
#include "postgres.h"

#include "access/generic_xlog.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "catalog/pg_collation.h"
#include "sms_gateway.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/*
 * Finds the last row with this gateway and text in an own table's index on
 * (gateway, text, …), as of now.  Returns a copy of the row, NULL if there is none.
 */
HeapTuple
counter_find(Relation table, const char *index_name, const char *gateway, const char *text)
{
	Relation index = index_open(outbox_relation(index_name), AccessShareLock);
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
