/*
 * request_id.c
 *		Request ids: made, read and tested here alone.
 *
 * Those that are made here are unique by construction: they name the database, the time and the
 * message.  So they are in no index; those of users are, which tells when one comes twice.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "catalog/pg_collation.h"
#include "db/home.h"
#include "db/sql.h"
#include "outbox/request_id.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#define NUMBER_DIGITS 13

/* Was a request_id made here? */
bool
request_id_is_ours(const char *request_id)
{
	return strncmp(request_id, REQUEST_ID_PREFIX, strlen(REQUEST_ID_PREFIX)) == 0;
}

/* Writes a number as 13 digits of 32, five bits each, and a NUL. */
static void
write_number(uint64 number, char *text)
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuv";

	for (int i = NUMBER_DIGITS - 1; i >= 0; i--, number >>= 5)
		text[i] = digits[number & 31];
	text[NUMBER_DIGITS] = '\0';
}

/* Makes a request_id that no other message of any database has, palloc'd. */
char *
request_id_make(int64 origin, int64 id, TimestampTz created_at)
{
	char where[NUMBER_DIGITS + 1];
	char when[NUMBER_DIGITS + 1];

	write_number((uint64) origin, where);
	write_number((uint64) created_at, when);
	return psprintf(REQUEST_ID_PREFIX "%s%s-%lld", where, when + 2, (long long) id);
}

/* Was a request_id made in the database of that origin? */
bool
request_id_is_from(const char *request_id, int64 origin)
{
	char where[NUMBER_DIGITS + 1];

	write_number((uint64) origin, where);
	return request_id_is_ours(request_id) &&
		   strncmp(request_id + strlen(REQUEST_ID_PREFIX), where, NUMBER_DIGITS) == 0;
}

/* The id in a request_id that was made here; 0 if it is none. */
int64
request_id_message(const char *request_id)
{
	const char *last = strrchr(request_id, '-');

	if (!request_id_is_ours(request_id))
		return 0;
	return strtoll(last + 1, NULL, 10);
}

/*
 * Has a message with this request_id, a user's, been queued for this gateway?  Takes no
 * lock that outlives the call: the caller is about to wait for the network.
 */
bool
request_id_is_used(const char *gateway, const char *request_id)
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
