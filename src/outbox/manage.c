/*
 * manage.c
 *		What users do to their messages: cancel, retry, resolve.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "base/compat.h"
#include "catalog/pg_collation.h"
#include "db/home.h"
#include "db/sql.h"
#include "executor/spi.h"
#include "outbox/manage.h"
#include "outbox/record.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "wake/wake.h"

/*
 * Has a message with this request_id been queued for this gateway?  Takes no
 * lock that outlives the call: the caller is about to wait for the network.
 */
bool
outbox_request_id_used(const char *gateway, const char *request_id)
{
	Oid index = home_relation_or_none("sms_outbox_request_id");
	NameData name;
	Relation table;
	ScanKeyData keys[2];
	SysScanDesc scan;
	Snapshot snapshot;
	bool used;

	if (!OidIsValid(index))
		return false;
	table = table_open(home_relation("sms_outbox"), AccessShareLock);
	ScanKeyInit(&keys[0], get_attnum(RelationGetRelid(table), "gateway"), BTEqualStrategyNumber, F_NAMEEQ,
				name_datum(&name, gateway));
	ScanKeyInit(&keys[1], get_attnum(RelationGetRelid(table), "request_id"), BTEqualStrategyNumber, F_TEXTEQ,
				CStringGetTextDatum(request_id));
	keys[1].sk_collation = DEFAULT_COLLATION_OID;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(table, index, true, snapshot, 2, keys);
	used = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(table, AccessShareLock);
	return used;
}

/* Raises 42501 unless role queued a message or owns the table. */
void
outbox_check_manages(int64 id, Oid creator, Oid role)
{
	if (creator != role && !compat_owns_table(home_relation("sms_outbox"), role))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for message %lld", (long long) id),
						errdetail("Another role queued it.")));
}

/*
 * Locks a message that belongs to role, or that role may manage as the table's
 * owner.  Returns its status.
 */
static Status
lock_message(int64 id, Oid role, bool *blanked)
{
	Datum values[] = {Int64GetDatum(id)};
	bool isnull;
	Status status;
	Oid creator;

	sql_run(PLAN_LOCK_ROW, values);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("message %lld does not exist", (long long) id)));
	status = sql_status(0, 1);
	*blanked = DatumGetBool(sql_column(0, 3, &isnull));
	creator = sql_role(0, 2);
	SPI_freetuptable(SPI_tuptable);
	outbox_check_manages(id, creator, role);
	return status;
}

/*
 * The last lease that names a message, as of now and not as of the caller's
 * snapshot: 0 if none.  Sets *on_its_way if the message is being sent under it.
 */
static TimestampTz
leased_at(int64 id, bool *on_its_way)
{
	Datum values[] = {Int64GetDatum(id)};
	TimestampTz claimed_at = 0;
	bool isnull;

	sql_read_latest(PLAN_LEASED_AT, values);
	*on_its_way = false;
	if (SPI_processed > 0)
	{
		claimed_at = sql_time(0, 1, 0);
		*on_its_way = DatumGetBool(sql_column(0, 2, &isnull)) && !isnull;
	}
	SPI_freetuptable(SPI_tuptable);
	return claimed_at;
}

static void
set_status(int64 id, Status status, Oid role)
{
	Datum values[] = {Int64GetDatum(id), CStringGetTextDatum(status_label(status))};

	outbox_fire(PLAN_SET_STATUS, values, role);
}

/* Takes a queued message back; false if it is too late. */
bool
outbox_cancel(int64 id, Oid role)
{
	bool on_its_way;
	bool blanked;

	if (lock_message(id, role, &blanked) != STATUS_QUEUED)
		return false;
	leased_at(id, &on_its_way);
	if (on_its_way)
		return false;
	set_status(id, STATUS_CANCELED, role);
	return true;
}

/* Queues an ended message again, due now; false if it is in another state. */
bool
outbox_retry(int64 id, Oid role)
{
	bool blanked;
	Status status = lock_message(id, role, &blanked);
	bool on_its_way;
	TimestampTz due;
	Datum values[2];

	if (status != STATUS_FAILED && status != STATUS_EXPIRED && status != STATUS_CANCELED &&
		status != STATUS_UNCERTAIN)
		return false;

	if (blanked)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("message %lld cannot be sent again: its text was blanked", (long long) id)));
	/* Past any lease that still names it, or it would look as if on its way. */
	due = Max(leased_at(id, &on_its_way) + 1, GetCurrentTimestamp());
	values[0] = Int64GetDatum(id);
	values[1] = TimestampTzGetDatum(due);
	outbox_fire(PLAN_REQUEUE, values, role);
	wake_at_commit(due);
	return true;
}

/* Decides an uncertain message; false if it is not uncertain. */
bool
outbox_resolve(int64 id, Status status, Oid role)
{
	bool blanked;

	if (lock_message(id, role, &blanked) != STATUS_UNCERTAIN)
		return false;
	set_status(id, status, role);
	return true;
}
