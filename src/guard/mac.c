/*
 * mac.c
 *		Keyed hashes with the database's own secret: what was made here can be
 *		recognised, and cannot be made elsewhere.
 */
#include "postgres.h"

#include "common/hmac.h"
#include "common/sha2.h"
#include "db/home.h"
#include "guard/mac.h"
#include "utils/builtins.h"

/* Characters of a MAC in a token: five bits each. */
#define TOKEN_DIGITS 26

/* Fills bytes with what nobody can guess; an error if the system has no such. */
void
strong_random(void *bytes, size_t n)
{
	if (!pg_strong_random(bytes, n))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate a random number")));
}

/* A number that nobody can guess; an error as above. */
int64
random_int64(void)
{
	int64 random;

	strong_random(&random, sizeof(random));
	return random;
}

/* HMAC-SHA-256 (RFC 2104) over texts, each with its NUL. */
static void
mac_with_key(const uint8 *key, const char *const *texts, int n, uint8 mac[MAC_SIZE])
{
	pg_hmac_ctx *ctx = pg_hmac_create(PG_SHA256);
	bool ok = ctx != NULL && pg_hmac_init(ctx, key, HOME_SECRET_SIZE) == 0;

	for (int i = 0; i < n && ok; i++)
		ok = pg_hmac_update(ctx, (const uint8 *) texts[i], strlen(texts[i]) + 1) == 0;
	ok = ok && pg_hmac_final(ctx, mac, MAC_SIZE) == 0;
	if (ctx != NULL)
		pg_hmac_free(ctx);
	if (!ok)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not compute a keyed hash")));
}

/* The MAC of a purpose and texts, so that neither can pass for another.  Raises 55000 in a copy of the database. */
void
mac_texts(const char *const *texts, int n, uint8 mac[MAC_SIZE])
{
	mac_with_key(home_secret(), texts, n, mac);
}

/*
 * Writes what stands for a phone number where it is only recognised: without the database's secret nobody can
 * tell which it is, or find it by trying all there are.  Good in a copy of the database, too.
 */
void
mac_hide_phone(const char *phone, char hidden[HIDDEN_PHONE_SIZE])
{
	const char *const texts[] = {"phone", phone};
	uint8 mac[MAC_SIZE];

	mac_with_key(home_hiding_key(), texts, lengthof(texts), mac);
	hex_encode((const char *) mac, HIDDEN_PHONE_SIZE / 2, hidden);
	hidden[HIDDEN_PHONE_SIZE - 1] = '\0';
}

/* Are two MACs the same?  Takes the same time wherever they differ. */
bool
mac_equal(const uint8 *a, const uint8 *b)
{
	uint8 difference = 0;

	for (int i = 0; i < MAC_SIZE; i++)
		difference |= a[i] ^ b[i];
	return difference == 0;
}

/* Writes the token of a message: its id, and what only this database can put behind it. */
void
mac_token(int64 id, char *token, size_t size)
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuv";
	char number[24];
	const char *const texts[] = {"token", number};
	uint8 mac[MAC_SIZE];
	char text[TOKEN_DIGITS + 1];

	snprintf(number, sizeof(number), "%lld", (long long) id);
	mac_texts(texts, lengthof(texts), mac);
	for (int i = 0; i < TOKEN_DIGITS; i++)
	{
		int bit = i * 5;
		int two = mac[bit / 8] << 8 | mac[bit / 8 + 1];

		text[i] = digits[(two >> (11 - bit % 8)) & 31];
	}
	text[TOKEN_DIGITS] = '\0';
	snprintf(token, size, "%s-%s", number, text);
}

/* The message whose token this is; 0 if it is no token of ours. */
int64
mac_token_id(const char *token)
{
	char right[64];
	uint8 difference = 0;
	char *end;
	int64 id;

	errno = 0;
	id = strtoll(token, &end, 10);
	if (errno != 0 || end == token || *end != '-' || id <= 0)
		return 0;
	mac_token(id, right, sizeof(right));
	if (strlen(token) != strlen(right))
		return 0;
	for (size_t i = 0; right[i]; i++)
		difference |= (uint8) (right[i] ^ token[i]);
	return difference == 0 ? id : 0;
}
