/*
 * otp.c
 *		One-time passwords of gateways whose provider makes none: made here, kept
 *		as a salted hash, checked here.
 *
 * Each sending adds a row and touches no other, so nobody waits for anybody's
 * transaction; the last row of a phone is the one that counts.  The clear
 * code exists in memory only, and in the request.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/scope.h"
#include "db/sql.h"
#include "guard/counter.h"
#include "guard/mac.h"
#include "guard/otp.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#define SALT_SIZE 16
#define MAX_TRIES 5

static Statement otp_insert = {
	.sql = "INSERT INTO @sms_gateway_otp (tries, expires_at, gateway, phone, salt, hash) "
		   "VALUES (0, $5, $1, $2, $3, $4)",
	.args = {NAMEOID, TEXTOID, BYTEAOID, BYTEAOID, TIMESTAMPTZOID},
};

/*
 * Of several sessions that use up the same row at once, one succeeds: the others wait for its
 * transaction, and find none.
 */
static Statement otp_delete = {
	.sql = "DELETE FROM @sms_gateway_otp WHERE gateway = $1 AND phone = $2 AND id <= $3",
	.args = {NAMEOID, TEXTOID, INT8OID},
};

/* Columns of sms_gateway_otp. */
enum
{
	OTP_TRIES = 1,
	OTP_EXPIRES_AT,
	OTP_ID,
	OTP_GATEWAY,
	OTP_PHONE,
	OTP_SALT,
	OTP_HASH,
};

/*
 * Makes a code.  Without digits_only it has capital letters too, but none that
 * is easily taken for a digit.
 */
char *
otp_make(int length, bool digits_only)
{
	static const char alphabet[] = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ";
	unsigned size = digits_only ? 10 : lengthof(alphabet) - 1;
	unsigned fair = 256 - 256 % size; /* bytes from here on would favour some characters */
	char *code = palloc0(length + 1);

	for (int i = 0; i < length;)
	{
		uint8 byte;

		strong_random(&byte, 1);
		if (byte < fair)
			code[i++] = alphabet[byte % size];
	}
	return code;
}

static void
hash_code(const uint8 *salt, const char *gateway, const char *phone, const char *code, uint8 *hash)
{
	char salt_text[2 * SALT_SIZE + 1];
	const char *const texts[] = {"otp", salt_text, gateway, phone, code};

	hex_encode((const char *) salt, SALT_SIZE, salt_text);
	salt_text[2 * SALT_SIZE] = '\0';
	mac_texts(texts, lengthof(texts), hash);
}

static Datum
bytes_datum(const uint8 *bytes, int n)
{
	bytea *value = palloc(VARHDRSZ + n);

	SET_VARSIZE(value, VARHDRSZ + n);
	memcpy(VARDATA(value), bytes, n);
	return PointerGetDatum(value);
}

/* Adds a one-time password's hash; the caller has entered. */
static void
add_hash(const char *gateway, const char *phone, Datum salt, Datum hash, TimestampTz until)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(phone), salt, hash,
					  TimestampTzGetDatum(until)};

	sql_run(&otp_insert, values);
}

/* Uses up a phone's one-time passwords up to this one; false if another session just did. */
static bool
use_up(const char *gateway, const char *phone, int64 id)
{
	OwnerScope scope;
	NameData name;
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(phone), Int64GetDatum(id)};
	bool used;

	scope_enter(&scope);
	used = sql_any(&otp_delete, values);
	scope_leave(&scope);
	return used;
}

/* Keeps a code, as a hash, for so many seconds; the caller has entered the outbox. */
void
otp_keep(const char *gateway, const char *phone, const char *code, int ttl)
{
	uint8 salt[SALT_SIZE];
	uint8 hash[MAC_SIZE];

	strong_random(salt, sizeof(salt));
	hash_code(salt, gateway, phone, code, hash);
	add_hash(gateway, phone, bytes_datum(salt, SALT_SIZE), bytes_datum(hash, MAC_SIZE),
			 GetCurrentTimestamp() + ttl * USECS_PER_SEC);
}

typedef struct Try
{
	bool right;
	bool counts; /* neither expired nor tried too often */
} Try;

/* Counts a wrong try; a right one is used up by its row's deletion. */
static bool
count_try(Counter *counter, void *arg)
{
	Try *attempt = arg;

	attempt->counts = counter->count < MAX_TRIES && counter->until > GetCurrentTimestamp();
	if (!attempt->counts || attempt->right)
		return false;
	counter->count++;
	return true;
}

/*
 * Is this the last code that was sent to a phone?  A right one is used up if the
 * transaction commits; a wrong one counts even if it does not, durably.
 */
bool
otp_check(const char *gateway, const char *phone, const char *code)
{
	Relation table = table_open(home_relation("sms_gateway_otp"), RowExclusiveLock);
	HeapTuple tuple = counter_find(table, "sms_gateway_otp_phone", gateway, phone);
	TupleDesc desc = RelationGetDescr(table);
	uint8 salt[SALT_SIZE] = {0};
	uint8 expected[MAC_SIZE] = {0};
	uint8 hash[MAC_SIZE];
	char *tried = pstrdup(code);
	Try attempt = {false, false};
	int64 id = 0;
	bool isnull;

	if (tuple != NULL)
	{
		bytea *kept_salt = DatumGetByteaPP(heap_getattr(tuple, OTP_SALT, desc, &isnull));
		bytea *kept_hash = DatumGetByteaPP(heap_getattr(tuple, OTP_HASH, desc, &isnull));

		memcpy(salt, VARDATA_ANY(kept_salt), Min(VARSIZE_ANY_EXHDR(kept_salt), SALT_SIZE));
		memcpy(expected, VARDATA_ANY(kept_hash), Min(VARSIZE_ANY_EXHDR(kept_hash), MAC_SIZE));
		id = DatumGetInt64(heap_getattr(tuple, OTP_ID, desc, &isnull));
	}
	/* People do not see in which case letters were sent. */
	for (char *p = tried; *p; p++)
		*p = (char) pg_ascii_toupper((unsigned char) *p);
	hash_code(salt, gateway, phone, tried, hash); /* also where there is none: it takes the same time */
	attempt.right = mac_equal(hash, expected);
	if (tuple != NULL && !counter_change(table, &tuple->t_self, true, count_try, &attempt))
		attempt.counts = false;
	table_close(table, RowExclusiveLock);
	return attempt.right && attempt.counts && use_up(gateway, phone, id);
}
