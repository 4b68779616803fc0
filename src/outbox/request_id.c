/*
 * request_id.c
 *		Request ids that are made here: made, read and told from those of users.
 *
 * They are unique by construction: they name the database, the time and the message.
 */
#include "postgres.h"

#include "outbox/request_id.h"

/* Was a request_id made here? */
bool
request_id_is_ours(const char *request_id)
{
	return strncmp(request_id, REQUEST_ID_PREFIX, strlen(REQUEST_ID_PREFIX)) == 0;
}

/* Makes a request_id that no other message of any database has. */
char *
request_id_make(int64 origin, int64 id, TimestampTz created_at)
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuv";
	char where[14];
	char when[14];
	uint64 origin_bits = (uint64) origin;
	uint64 time_bits = (uint64) created_at;

	/* 32 digits: five bits each; 13 hold 64 bits. */
	for (int i = 12; i >= 0; i--, origin_bits >>= 5, time_bits >>= 5)
	{
		where[i] = digits[origin_bits & 31];
		when[i] = digits[time_bits & 31];
	}
	where[13] = when[13] = '\0';
	return psprintf(REQUEST_ID_PREFIX "%s%s-%lld", where, when + 2, (long long) id);
}

/* The id in a request_id that was made here; 0 if it is none. */
int64
request_id_message(const char *request_id)
{
	const char *last = strrchr(request_id, '-');

	if (strncmp(request_id, REQUEST_ID_PREFIX, strlen(REQUEST_ID_PREFIX)) != 0)
		return 0;
	return strtoll(last + 1, NULL, 10);
}
