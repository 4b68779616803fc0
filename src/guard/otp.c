/*
 * otp.c
 *		One-time passwords: made and checked here, or by the provider, but in any case counted here.
 *
 * Each sending adds a row and touches no other, so nobody waits for anybody's
 * transaction; the last row of a phone is the one that counts.  The row of a code that was made here
 * holds its salted hash; the clear code exists in memory only, and in the request.  The row of a
 * provider's code says that there is one.
 *
 * Wrong tries are counted per phone (counter.c), whatever becomes of the transaction: MAX_TRIES for
 * a code, and MAX_TRIES times otp_per_phone in its time, whatever codes there were.  A phone without a code is
 * counted in the same way, so that a check says and takes the same whether there is one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "db/scope.h"
#include "db/sql.h"
#include "guard/counter.h"
#include "guard/mac.h"
#include "guard/otp.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define SALT_SIZE 16
#define MAX_TRIES 5

StaticAssertDecl(sizeof(((Otp *) NULL)->salt) == SALT_SIZE && sizeof(((Otp *) NULL)->hash) == MAC_SIZE,
				 "what is kept of a code has its size");

static Statement otp_insert = {
	.sql = "INSERT INTO @sms_gateway_otp (expires_at, gateway, sent_by, phone, salt, hash) "
		   "VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
	.args = {TIMESTAMPTZOID, NAMEOID, NAMEOID, TEXTOID, BYTEAOID, BYTEAOID},
};

static Statement otp_last = {
	.sql = "SELECT id, expires_at, gateway, sent_by, salt, hash FROM @sms_gateway_otp "
		   "WHERE phone = $2 AND $1 IN (gateway, sent_by) ORDER BY id DESC LIMIT 1",
	.args = {NAMEOID, TEXTOID},
};
enum
{
	LAST_ID,
	LAST_EXPIRES_AT,
	LAST_GATEWAY,
	LAST_SENT_BY,
	LAST_SALT,
	LAST_HASH,
};

/* Of several sessions that use up the same row at once, one succeeds: the others wait for nobody. */
static Statement otp_delete = {
	.sql = "WITH mine AS MATERIALIZED (SELECT c.id FROM @sms_gateway_otp c "
		   "WHERE c.phone = $3 AND c.id <= $4 AND (c.gateway IN ($1, $2) OR c.sent_by IN ($1, $2)) "
		   "FOR UPDATE SKIP LOCKED) "
		   "DELETE FROM @sms_gateway_otp c USING mine m WHERE c.id = m.id RETURNING c.id",
	.args = {NAMEOID, NAMEOID, TEXTOID, INT8OID},
};

static Statement otp_delete_unsent = {
	.sql = "WITH void AS MATERIALIZED (SELECT c.id FROM @sms_gateway_otp c "
		   "WHERE c.id = ANY ($1) FOR UPDATE SKIP LOCKED) "
		   "DELETE FROM @sms_gateway_otp c USING void v WHERE c.id = v.id",
	.args = {INT8ARRAYOID},
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

/*
 * Keeps a code that is being sent for so many seconds, as a hash; with NULL that the provider makes one.
 * "gateway" is the one that was asked for it, "sent_by" the one that it came to.  Returns the row's id.  The caller
 * has entered the outbox.
 */
int64
otp_keep(const char *gateway, const char *sent_by, const char *phone, const char *code, int ttl)
{
	uint8 salt[SALT_SIZE];
	uint8 hash[MAC_SIZE];
	NameData asked;
	NameData sender;
	Datum values[] = {
		TimestampTzGetDatum(GetCurrentTimestamp() + ttl * USECS_PER_SEC),
		name_datum(&asked, gateway),
		name_datum(&sender, sent_by),
		CStringGetTextDatum(phone),
		(Datum) 0,
		(Datum) 0,
	};
	int64 id;

	if (code != NULL)
	{
		strong_random(salt, sizeof(salt));
		hash_code(salt, gateway, phone, code, hash);
		values[4] = bytes_datum(salt, SALT_SIZE);
		values[5] = bytes_datum(hash, MAC_SIZE);
	}
	sql_run_nulls(&otp_insert, values, code != NULL ? NULL : "    nn");
	id = sql_int64(0, 0);
	sql_done();
	return id;
}

/* Copies what is kept of a code; false if nothing is. */
static bool
read_bytes(int column, uint8 *bytes, int n)
{
	bytea *value;

	memset(bytes, 0, n);
	if (sql_is_null(0, column))
		return false;
	value = DatumGetByteaPP(sql_datum(0, column, &(bool){false}));
	memcpy(bytes, VARDATA_ANY(value), Min((int) VARSIZE_ANY_EXHDR(value), n));
	return true;
}

/* Finds the last code for a phone that was asked of a gateway, or sent by it in another's place. */
void
otp_find(const char *gateway, const char *phone, Otp *otp)
{
	OwnerScope scope;
	NameData name;
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(phone)};

	memset(otp, 0, sizeof(*otp));
	namestrcpy(&otp->asked, gateway);
	scope_enter(&scope);
	if (sql_read_latest(&otp_last, values) > 0)
	{
		otp->id = sql_int64(0, LAST_ID);
		otp->live = sql_time(0, LAST_EXPIRES_AT, DT_NOBEGIN) > GetCurrentTimestamp();
		namestrcpy(&otp->asked, sql_name(0, LAST_GATEWAY));
		namestrcpy(&otp->sent_by, sql_name(0, LAST_SENT_BY));
		otp->here = read_bytes(LAST_SALT, otp->salt, SALT_SIZE) && read_bytes(LAST_HASH, otp->hash, MAC_SIZE);
	}
	sql_done();
	scope_leave(&scope);
}

/* Is it this code, which was made here?  Takes the same time where there is none. */
bool
otp_is_right(const Otp *otp, const char *phone, const char *code)
{
	char *tried = pstrdup(code);
	uint8 hash[MAC_SIZE];

	/* People do not see in which case letters were sent. */
	for (char *p = tried; *p; p++)
		*p = (char) pg_ascii_toupper((unsigned char) *p);
	hash_code(otp->salt, NameStr(otp->asked), phone, tried, hash);
	return mac_equal(hash, otp->hash) && otp->here;
}

typedef struct Try
{
	const Otp *otp;
	int64 allowed;     /* tries of all codes in a window; 0: any number */
	TimestampTz until; /* the end of a new window */
	bool right;
	bool counts; /* neither too late nor tried too often */
} Try;

/* Counts a wrong try; a right one is used up by its row's deletion. */
static bool
count_try(Counter *counter, void *arg)
{
	Try *attempt = arg;
	const Otp *otp = attempt->otp;

	if (counter->until <= GetCurrentTimestamp())
	{
		counter->count = 0;
		counter->until = attempt->until;
	}
	/* Codes are numbered as they are sent: what was newer once, in a transaction that failed, ends this one. */
	if (otp->id > counter->code)
	{
		counter->code = otp->id;
		counter->tries = 0;
	}
	attempt->counts = otp->live && otp->id == counter->code && counter->tries < MAX_TRIES &&
					  (attempt->allowed == 0 || counter->count < attempt->allowed);
	if (attempt->counts && attempt->right)
		return false;
	counter->count++;
	if (attempt->counts)
		counter->tries++;
	return true;
}

/* Takes back a try of which nobody knows whether it was right. */
static bool
uncount_try(Counter *counter, void *arg)
{
	const Otp *otp = arg;

	counter->count = Max(counter->count - 1, 0);
	if (otp->id == counter->code)
		counter->tries = Max(counter->tries - 1, 0);
	return true;
}

/* Through whichever gateway a code is tried, its tries are counted in one place. */
static void
change_tries(const Otp *otp, const char *phone, CounterChange change, void *arg)
{
	char hidden[HIDDEN_PHONE_SIZE];

	mac_hide_phone(phone, hidden);
	counter_change(NameStr(otp->asked), psprintf("check %s", hidden), change, arg);
	counter_flush();
}

/*
 * Counts a try, durably, unless it is known to be right.  Returns whether it counts: the code lives, and was not
 * tried too often, nor were others of the phone.
 */
bool
otp_try(const Gateway *gateway, const char *phone, const Otp *otp, bool right)
{
	const Rate *rate = &gateway->otp_per_phone;
	Try attempt = {
		.otp = otp,
		.allowed = (int64) rate->messages * MAX_TRIES,
		.until = GetCurrentTimestamp() + (rate->seconds > 0 ? rate->seconds : SECS_PER_HOUR) * USECS_PER_SEC,
		.right = right,
	};

	if (rate->seconds == 0)
		attempt.allowed = 0;
	change_tries(otp, phone, count_try, &attempt);
	return attempt.counts;
}

/* The provider did not say whether it was right: that try was none. */
void
otp_take_back_try(const char *phone, const Otp *otp)
{
	change_tries(otp, phone, uncount_try, unconstify(Otp *, otp));
}

/* Uses up a phone's codes through the same gateways up to this one; false if another session has, or is about to. */
bool
otp_use_up(const Otp *otp, const char *phone)
{
	OwnerScope scope;
	Datum values[] = {NameGetDatum(&otp->asked), NameGetDatum(&otp->sent_by), CStringGetTextDatum(phone),
					  Int64GetDatum(otp->id)};
	int64 n;
	bool used = false;

	scope_enter(&scope);
	n = sql_run(&otp_delete, values);
	for (int i = 0; i < n; i++)
		used = used || sql_int64(i, 0) == otp->id;
	sql_done();
	scope_leave(&scope);
	return used;
}

/* Forgets codes, an array of ids, that nobody has got: who is right about one has guessed.  The caller has entered the outbox. */
void
otp_forget(Datum ids)
{
	sql_run(&otp_delete_unsent, &ids);
	sql_done();
}
