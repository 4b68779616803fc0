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
#include "base/compat.h"
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

/* The taking of a limit that all rows of a statement share, found without a look-up. */
typedef struct Recent
{
	Oid server;
	Oid role;
	Taking *taking;
} Recent;

/*
 * What this session took and has not given back, in TopMemoryContext: it outlives the transaction,
 * as what a failed one took goes back in the next.
 */
static struct
{
	Taking *first;
	int ngiven;      /* of them are to be given back */
	HTAB *by_key;    /* the last taking of each key; NULL: nothing was ever taken */
	Recent per_role; /* the last of each of these limits that was taken from */
	Recent daily_budget;
} takings;

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
	TakingEntry *entry = hash_search(takings.by_key, &taking->key, HASH_FIND, NULL);

	if (entry != NULL && entry->last == taking)
		hash_search(takings.by_key, &taking->key, HASH_REMOVE, NULL);
	if (takings.per_role.taking == taking)
		takings.per_role.taking = NULL;
	if (takings.daily_budget.taking == taking)
		takings.daily_budget.taking = NULL;
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
	takings.ngiven++;
}

/* Gives back what is marked so, and forgets it. */
static void
give_back(void)
{
	Taking **link = &takings.first;
	Relation table = NULL;

	while (*link != NULL && takings.ngiven > 0)
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
		takings.ngiven--;
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
	for (Taking *taking = takings.first; taking != NULL; taking = taking->next)
		mark(taking, true);
	give_back();
}

static void
settle_at_end(XactEvent event, void *arg)
{
	(void) arg;
	if (takings.first == NULL)
		return;
	if (event == XACT_EVENT_PRE_COMMIT || event == XACT_EVENT_PRE_PREPARE)
		settle();
	else if (event == XACT_EVENT_ABORT)
	{
		/* What was being sent at once may have gone. */
		for (Taking *taking = takings.first; taking != NULL; taking = taking->next)
			mark(taking, taking->key.direct);
	}
}

static void
settle_at_subtransaction_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();

	(void) mine;
	(void) parent;
	(void) arg;
	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	for (Taking *taking = takings.first; taking != NULL; taking = taking->next)
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
settle_at_exit(int code, Datum arg)
{
	(void) code;
	(void) arg;
	if (takings.first == NULL)
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
	TakingEntry *entry = takings.by_key != NULL ? hash_search(takings.by_key, key, HASH_FIND, NULL) : NULL;

	if (entry == NULL || entry->last->given || entry->last->level != GetCurrentTransactionNestLevel())
		return NULL;
	return entry->last;
}

static Taking *
add_taking(const TakingKey *key)
{
	Taking *taking;
	TakingEntry *entry;

	if (takings.by_key == NULL)
	{
		HASHCTL info = {.keysize = sizeof(TakingKey), .entrysize = sizeof(TakingEntry)};

		takings.by_key = hash_create("sms_gateway limits", 16, &info, HASH_ELEM | HASH_BLOBS);
		RegisterXactCallback(settle_at_end, NULL);
		RegisterSubXactCallback(settle_at_subtransaction_end, NULL);
		before_shmem_exit(settle_at_exit, (Datum) 0);
	}
	taking = MemoryContextAllocZero(TopMemoryContext, sizeof(Taking));
	taking->key = *key;
	taking->level = GetCurrentTransactionNestLevel();
	entry = hash_search(takings.by_key, key, HASH_ENTER, NULL);
	entry->last = taking;
	taking->next = takings.first;
	takings.first = taking;
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

/* One limit of a gateway, as it applies to a message. */
typedef struct Limit
{
	const char *option;
	const char *subject; /* with "by_phone" or "by_role" that is appended */
	Rate rate;           /* seconds: 0: there is no such limit; A_DAY */
	int n;               /* messages that it takes, of each subject */
	bool by_phone;
	bool by_role;
	Recent *recent; /* NULL: it is looked up each time */
} Limit;

/* Raises 53400: a limit has not so many messages left. */
pg_noreturn static void
refuse_limit(const Gateway *gateway, const Limit *limit, TimestampTz again)
{
	ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					errmsg("the limit %s of gateway \"%s\" is reached", limit->option, gateway->name),
					limit->by_phone  ? errdetail("It allows %d messages to one phone in %d seconds.",
												 limit->rate.messages, limit->rate.seconds)
					: limit->by_role ? errdetail("It allows a role %d messages in %d seconds.",
												 limit->rate.messages, limit->rate.seconds)
									 : errdetail("It allows %d messages a day.", limit->rate.messages),
					errhint("Try again after %s.", timestamptz_to_str(again))));
}

/* Takes from a limit for one subject: "which" is a phone, a role, or "".  Raises 53400. */
static void
take_for(const Gateway *gateway, const Limit *limit, const char *which, bool direct)
{
	TakingKey key;
	TimestampTz again = 0;

	memset(&key, 0, sizeof(key));
	namestrcpy(&key.gateway, gateway->name);
	key.direct = direct;
	/* For each row that is queued: no snprintf. */
	strlcpy(key.subject, limit->subject, sizeof(key.subject));
	strlcat(key.subject, which, sizeof(key.subject));
	if (!take_from(&key, limit->rate.messages, limit->rate.seconds, limit->n, &again))
		refuse_limit(gateway, limit, again);
	if (limit->recent != NULL)
		*limit->recent = (Recent){gateway->server, GetUserId(), find_taking(&key)};
}

/* Takes a message from one limit, for all whom that concerns.  Raises 53400. */
static void
take_limit(const Gateway *gateway, const Limit *limit, const Message *message, bool direct)
{
	const Recent *recent = limit->recent;

	if (limit->rate.seconds == 0)
		return;
	if (recent != NULL && recent->server == gateway->server && recent->role == GetUserId() &&
		take_spare(recent->taking, limit->n))
		return;
	if (limit->by_phone)
	{
		for (int i = 0; i < message->nphones; i++)
			take_for(gateway, limit, message->phones[i], direct);
	}
	else
		take_for(gateway, limit, limit->by_role ? GetUserNameFromId(GetUserId(), false) : "", direct);
}

/*
 * Takes a message of this session's user from all limits of a gateway that apply: to each receiver, or
 * one for each, as the limit counts.  "direct": the message is sent at once, limits_keep() follows.
 * Raises 53400 if one of them has not so many left.
 */
void
limits_take(const Gateway *gateway, const Message *message, bool direct)
{
	const Rate no_rate = {0, 0};
	const Limit limits[] = {
		{
			.option = "otp_per_phone",
			.subject = "otp ",
			.rate = message->call == CALL_OTP ? gateway->otp_per_phone : no_rate,
			.n = 1,
			.by_phone = true,
		},
		{
			.option = "per_phone",
			.subject = "phone ",
			.rate = gateway->per_phone,
			.n = 1,
			.by_phone = true,
		},
		{
			.option = "per_role",
			.subject = "role ",
			.rate = gateway->per_role,
			.n = message->nphones,
			.by_role = true,
			.recent = direct ? NULL : &takings.per_role,
		},
		{
			.option = "daily_budget",
			.subject = "day",
			.rate = {gateway->daily_budget, gateway->daily_budget > 0 ? A_DAY : 0},
			.n = message->nphones,
			.recent = direct ? NULL : &takings.daily_budget,
		},
	};

	give_back();
	for (int i = 0; i < (int) lengthof(limits); i++)
		take_limit(gateway, &limits[i], message, direct);
}

/*
 * A message was sent at once: it has gone, whatever becomes of the transaction.
 * With "sent" false it has certainly not, and counts for nothing.
 */
void
limits_keep(bool sent)
{
	for (Taking *taking = takings.first; taking != NULL; taking = taking->next)
	{
		if (taking->key.direct)
			mark(taking, sent);
	}
	give_back();
}
