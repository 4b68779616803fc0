/*
 * limits.c
 *		Limits against abuse: how many messages a phone, a role or a day may cost.
 *
 * Each limit is a counter (counter.c) of a window that starts with its first
 * message.  What a transaction queues is taken from the counters at once, so that no
 * two sessions get the same last message, and nobody waits for anybody.  If the
 * transaction rolls back, what it took is given back by this session: when it
 * next takes something, or ends.  Until then the count is too high, never too low.
 *
 * A statement that queues thousands takes from a counter in larger pieces, never
 * more than a small part of what is left; what is left over is given back before
 * commit.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "pgtime.h"
#include "db/home.h"
#include "guard/counter.h"
#include "guard/limits.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define LARGEST_PIECE 1000
#define A_DAY         (-1) /* for a number of seconds: to the end of the day */
#define SPARE_SHARE   16   /* a piece is at most this part of what is left */

typedef struct TakingKey
{
	NameData gateway;
	char subject[NAMEDATALEN + 8];
	bool direct; /* for a message that is sent at once, and no rollback takes back */
} TakingKey;

/* What this transaction took from one counter, in one of its subtransactions. */
typedef struct Taking
{
	TakingKey key;
	TimestampTz until; /* the window it was taken from */
	ItemPointerData tid;
	int level;  /* nesting level of the subtransaction */
	int taken;  /* used by messages */
	int spare;  /* taken ahead */
	bool given; /* to be given back */
	struct Taking *next;
} Taking;

typedef struct TakingEntry
{
	TakingKey key; /* hash key */
	Taking *last;
} TakingEntry;

/* In TopMemoryContext: they outlive the transaction. */
static Taking *takings = NULL;
static int ngiven = 0;      /* of them are to be given back */
static HTAB *by_key = NULL; /* the last taking of each key */

/* The takings of the limits that all rows of a statement share, found without a look-up. */
typedef struct Recent
{
	Oid server;
	Oid role;
	Taking *taking;
} Recent;

static Recent recents[2]; /* per_role, daily_budget */

typedef struct Request
{
	int64 limit;
	int wanted;
	int piece;         /* wanted, and this much more if there is plenty */
	TimestampTz until; /* of a new window; then: of the window that counted */
	int64 got;
} Request;

/* ------------------------------------------------------------------------
 * Giving back
 * ------------------------------------------------------------------------ */

typedef struct Return
{
	TimestampTz until;
	int64 count;
} Return;

static bool
put_back(Counter *counter, void *arg)
{
	Return *back = arg;

	if (counter->until != back->until || back->count == 0)
		return false;
	counter->count = Max(counter->count - back->count, 0);
	return true;
}

static void
forget(Taking *taking)
{
	TakingEntry *entry = hash_search(by_key, &taking->key, HASH_FIND, NULL);

	if (entry != NULL && entry->last == taking)
		hash_search(by_key, &taking->key, HASH_REMOVE, NULL);
	for (int i = 0; i < (int) lengthof(recents); i++)
	{
		if (recents[i].taking == taking)
			recents[i].taking = NULL;
	}
	pfree(taking);
}

/* Has a taking given back, with what its messages took unless they keep it. */
static void
mark(Taking *taking, bool keep)
{
	if (taking->given)
		return;
	if (keep)
		taking->taken = 0;
	taking->given = true;
	ngiven++;
}

/* Gives back what is marked so, and forgets it. */
static void
give_back(void)
{
	Taking **link = &takings;
	Relation table = NULL;

	while (*link != NULL && ngiven > 0)
	{
		Taking *taking = *link;
		Return back = {taking->until, taking->taken + taking->spare};

		if (!taking->given)
		{
			link = &taking->next;
			continue;
		}
		if (table == NULL && OidIsValid(home_relation_or_none("sms_gateway_usage")))
			table = table_open(home_relation("sms_gateway_usage"), RowExclusiveLock);
		*link = taking->next;
		ngiven--;
		if (table != NULL && back.count > 0)
			counter_change(table, &taking->tid, false, put_back, &back);
		forget(taking);
	}
	if (table != NULL)
		table_close(table, RowExclusiveLock);
}

/* Before commit: messages keep what they took, the rest goes back. */
static void
settle(void)
{
	for (Taking *taking = takings; taking != NULL; taking = taking->next)
		mark(taking, true);
	give_back();
}

static void
on_transaction_end(XactEvent event, void *arg)
{
	(void) arg;
	if (takings == NULL)
		return;
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		settle();
	else if (event == XACT_EVENT_ABORT)
	{
		/* What was being sent at once may have gone. */
		for (Taking *taking = takings; taking != NULL; taking = taking->next)
			mark(taking, taking->key.direct);
	}
}

static void
on_subtransaction_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();

	(void) mine;
	(void) parent;
	(void) arg;
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	for (Taking *taking = takings; taking != NULL; taking = taking->next)
	{
		if (taking->given || taking->level < level)
			continue;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			mark(taking, taking->key.direct);
		else
			taking->level = level - 1;
	}
}

/* What a transaction that rolled back took goes back when its session ends, too. */
static void
on_session_end(int code, Datum arg)
{
	(void) code;
	(void) arg;
	if (takings == NULL)
		return;
	AbortOutOfAnyTransaction();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	give_back();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* ------------------------------------------------------------------------
 * Taking
 * ------------------------------------------------------------------------ */

static bool
take(Counter *counter, void *arg)
{
	Request *request = arg;
	int64 left;

	if (counter->until <= GetCurrentTimestamp())
	{
		counter->count = 0;
		counter->until = request->until;
	}
	request->until = counter->until;
	left = request->limit - counter->count;
	if (left < request->wanted)
		return false;
	request->got = request->wanted + Min(request->piece, (left - request->wanted) / SPARE_SHARE);
	counter->count += request->got;
	return true;
}

/* The end of the day, by the server's log_timezone: sessions cannot change that. */
static TimestampTz
end_of_day(void)
{
	struct pg_tm tm;
	fsec_t fsec;
	int tz;
	TimestampTz tomorrow;

	timestamp2tm(GetCurrentTimestamp() + USECS_PER_DAY, &tz, &tm, &fsec, NULL, log_timezone);
	tm.tm_hour = tm.tm_min = tm.tm_sec = 0;
	tz = DetermineTimeZoneOffset(&tm, log_timezone);
	if (tm2timestamp(&tm, 0, &tz, &tomorrow) != 0)
		return GetCurrentTimestamp() + USECS_PER_DAY;
	return tomorrow;
}

/* What this subtransaction took so far; NULL if nothing. */
static Taking *
find_taking(const TakingKey *key)
{
	TakingEntry *entry = by_key != NULL ? hash_search(by_key, key, HASH_FIND, NULL) : NULL;

	if (entry == NULL || entry->last->given || entry->last->level != GetCurrentTransactionNestLevel())
		return NULL;
	return entry->last;
}

static Taking *
add_taking(const TakingKey *key)
{
	Taking *taking;
	TakingEntry *entry;

	if (by_key == NULL)
	{
		HASHCTL info = {.keysize = sizeof(TakingKey), .entrysize = sizeof(TakingEntry)};

		by_key = hash_create("sms_gateway limits", 16, &info, HASH_ELEM | HASH_BLOBS);
		RegisterXactCallback(on_transaction_end, NULL);
		RegisterSubXactCallback(on_subtransaction_end, NULL);
		before_shmem_exit(on_session_end, (Datum) 0);
	}
	taking = MemoryContextAllocZero(TopMemoryContext, sizeof(Taking));
	taking->key = *key;
	taking->level = GetCurrentTransactionNestLevel();
	entry = hash_search(by_key, key, HASH_ENTER, NULL);
	entry->last = taking;
	taking->next = takings;
	takings = taking;
	return taking;
}

/* Finds the counter's row, makes it if there is none. */
static ItemPointerData
find_counter(Relation table, const char *gateway, const char *subject)
{
	HeapTuple tuple = counter_find(table, "sms_gateway_usage_pkey", gateway, subject);

	if (tuple == NULL)
	{
		counter_make(table, "sms_gateway_usage_pkey", gateway, subject);
		tuple = counter_find(table, "sms_gateway_usage_pkey", gateway, subject);
	}
	if (tuple == NULL)
		ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE), errmsg("could not count a message")));
	return tuple->t_self;
}

/* Takes n messages from what a taking has to spare; false if that is not enough. */
static bool
take_spare(Taking *taking, int n)
{
	if (taking == NULL || taking->given || taking->level != GetCurrentTransactionNestLevel() ||
		taking->spare < n || taking->until <= GetCurrentTimestamp())
		return false;
	taking->spare -= n;
	taking->taken += n;
	return true;
}

/*
 * Takes n messages from one limit.  Returns false, with the time at which to try
 * again, if it has not so many left.
 */
static bool
take_from(const TakingKey *key, int64 limit, int seconds, int n, TimestampTz *again)
{
	Taking *taking = find_taking(key);
	Request request = {.limit = limit, .wanted = n};
	Relation table;

	if (take_spare(taking, n))
		return true;
	request.until = seconds == A_DAY ? end_of_day() : GetCurrentTimestamp() + seconds * USECS_PER_SEC;
	table = table_open(home_relation("sms_gateway_usage"), RowExclusiveLock);
	if (taking != NULL && taking->until <= GetCurrentTimestamp())
	{
		/* Its window is over: what was taken from it is of no account any more. */
		mark(taking, true);
		taking = NULL;
	}
	if (taking == NULL)
	{
		ItemPointerData tid = find_counter(table, NameStr(key->gateway), key->subject);

		taking = add_taking(key);
		taking->tid = tid;
	}
	request.piece = Min(taking->taken, LARGEST_PIECE);
	if (!counter_change(table, &taking->tid, false, take, &request))
	{
		/* Purged, or moved by VACUUM FULL, since it was found. */
		taking->tid = find_counter(table, NameStr(key->gateway), key->subject);
		counter_change(table, &taking->tid, false, take, &request);
	}
	table_close(table, RowExclusiveLock);
	*again = request.until;
	if (request.got == 0)
		return false;
	taking->until = request.until;
	taking->taken += n;
	taking->spare += (int) request.got - n;
	return true;
}

/* ------------------------------------------------------------------------
 * The limits of a gateway
 * ------------------------------------------------------------------------ */

/*
 * Takes messages of this session's user from all limits of a gateway that apply.
 * "direct": the message is sent at once, limits_keep() follows.  Raises 53400 if one of
 * them has not so many left.
 */
void
limits_take(const Gateway *gateway, const Message *message, bool direct)
{
	Rate no_rate = {0, 0};
	struct
	{
		const char *option;
		const char *subject;
		Rate rate;
		int n;
		bool by_day;
	} limits[] = {
		{"otp_per_phone", "otp ", message->call == CALL_OTP ? gateway->otp_per_phone : no_rate, 1, false},
		{"per_phone", "phone ", gateway->per_phone, 1, false},
		{"per_role", "role ", gateway->per_role, message->nphones, false},
		{"daily_budget",
		 "day",
		 {gateway->daily_budget, gateway->daily_budget > 0 ? A_DAY : 0},
		 message->nphones,
		 true},
	};

	give_back();
	for (int i = 0; i < (int) lengthof(limits); i++)
	{
		bool by_phone = i < 2;
		int receivers = by_phone ? message->nphones : 1;
		Recent *recent = by_phone || direct ? NULL : &recents[i - 2];

		if (limits[i].rate.seconds == 0)
			continue;
		if (recent != NULL && recent->server == gateway->server && recent->role == GetUserId() &&
			take_spare(recent->taking, limits[i].n))
			continue;
		for (int r = 0; r < receivers; r++)
		{
			TakingKey key;
			TimestampTz again = 0;

			memset(&key, 0, sizeof(key));
			namestrcpy(&key.gateway, gateway->name);
			key.direct = direct;
			/* For each row that is queued: no snprintf. */
			strlcpy(key.subject, limits[i].subject, sizeof(key.subject));
			if (by_phone)
				strlcat(key.subject, message->phones[r], sizeof(key.subject));
			else if (!limits[i].by_day)
				strlcat(key.subject, GetUserNameFromId(GetUserId(), false), sizeof(key.subject));
			if (take_from(&key, limits[i].rate.messages, limits[i].rate.seconds, limits[i].n, &again))
			{
				if (recent != NULL)
					*recent = (Recent){gateway->server, GetUserId(), find_taking(&key)};
				continue;
			}
			ereport(ERROR,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("the limit %s of gateway \"%s\" is reached", limits[i].option, gateway->name),
					 by_phone           ? errdetail("It allows %d messages to one phone in %d seconds.",
													limits[i].rate.messages, limits[i].rate.seconds)
					 : limits[i].by_day ? errdetail("It allows %d messages a day.", limits[i].rate.messages)
										: errdetail("It allows a role %d messages in %d seconds.",
													limits[i].rate.messages, limits[i].rate.seconds),
					 errhint("Try again after %s.", timestamptz_to_str(again))));
		}
	}
}

/*
 * A message was sent at once: it has gone, whatever becomes of the transaction.
 * With "sent" false it has certainly not, and counts for nothing.
 */
void
limits_keep(bool sent)
{
	for (Taking *taking = takings; taking != NULL; taking = taking->next)
	{
		if (taking->key.direct)
			mark(taking, sent);
	}
	give_back();
}
