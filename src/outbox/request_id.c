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
#include "guard/mac.h"
#include "miscadmin.h"
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

/* The same for a message that is in no outbox: random bits stand in the place of its time, and its id is 0. */
char *
request_id_make_for_call(int64 origin)
{
	return request_id_make(origin, 0, random_int64());
}

/* Is it, on the wire, the request_id of a message that is in no outbox? */
bool
request_id_is_of_call(const char *request_id)
{
	return request_id_is_ours(request_id) && request_id_message(request_id) == 0;
}

/*
 * A message's request_id as its provider gets it, palloc'd.  Users' own are made others': two roles, and two databases, may
 * call their messages the same, and providers know one account.  "id" is 0 for a message that is in no outbox.
 *
 * "resent" counts how often the provider has refused the message for certain: it may have kept the id of that request
 * in mind, so the next one has another, with the count behind a dot.  At most 50 characters, as REQUEST_ID_MAX.
 */
char *
request_id_on_wire(const char *request_id, int64 id, const char *creator, int resent)
{
	char *on_wire;

	if (request_id_is_ours(request_id))
		on_wire = pstrdup(request_id);
	else
	{
		const char *const texts[] = {"request_id", creator, request_id};
		uint8 mac[MAC_SIZE];
		uint64 numbers[2];
		char first[NUMBER_DIGITS + 1];
		char second[NUMBER_DIGITS + 1];

		mac_texts(texts, lengthof(texts), mac);
		memcpy(numbers, mac, sizeof(numbers));
		write_number(numbers[0], first);
		write_number(numbers[1], second);
		on_wire = psprintf(REQUEST_ID_PREFIX "%s%s-%lld", first, second + 2, (long long) id);
	}
	return resent > 0 ? psprintf("%s.%d", on_wire, resent % 10) : on_wire;
}

/* Is this what request_id_on_wire() made of a message's request_id, however often that was resent? */
bool
request_id_names(const char *on_wire, const char *request_id, int64 id, const char *creator)
{
	char *expected = request_id_on_wire(request_id, id, creator, 0);
	size_t n = strlen(expected);

	return strncmp(on_wire, expected, n) == 0 && (on_wire[n] == '\0' || on_wire[n] == '.');
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
 * Has a message with this request_id been queued for this gateway by the current user?  What others have is not looked at.  Takes no
 * lock that outlives the call: the caller is about to wait for the network.
 */
bool
request_id_is_used(const char *gateway, const char *request_id)
{
	Oid index = home_relation_or_none("sms_outbox_request_id");
	NameData name;
	Relation table;
	ScanKeyData keys[3];
	AttrNumber creator;
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
	creator = get_attnum(RelationGetRelid(table), "creator");
	if (creator != InvalidAttrNumber) /* else it is a table of 0.1.0 */
		ScanKeyInit(&keys[2], creator, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(GetUserId()));
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(table, index, true, snapshot, creator != InvalidAttrNumber ? 3 : 2, keys);
	used = HeapTupleIsValid(systable_getnext(scan));
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(table, AccessShareLock);
	return used;
}
