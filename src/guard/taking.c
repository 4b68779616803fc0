/*
 * taking.c
 *		What this session's transactions take from counters, and when it goes back.
 *
 * Each limit is a counter (counter.c) of a window that starts with its first
 * message.  What a transaction queues is taken from the counters at once, so that no
 * two sessions get the same last message, and nobody waits for anybody.  If the
 * transaction rolls back, what it took is given back by this session: as soon as it is idle, or, what
 * somebody held then, in its next transaction that takes something.  Until then the count is too high, never
 * too low; what a session that ends has not given back stays counted until the window ends.
 *
 * Why that is not mended: when a session ends, no transaction can be begun any more but by a callback at exit, and one that
 * reads tables there may wait, and holds up a fast stop.  ROLLBACK PREPARED is another session's, which is told of no
 * state of ours.  A list in shared memory for the worker would have to be as long as what all transactions have taken, or lose
 * some of it: the same again, at a cost for each message.
 *
 * A statement that queues thousands takes from a counter in larger pieces, never
 * more than a small part of what is left; what is left over is given back before
 * commit.
 *
 * Giving back never waits, for no table and no row: a session that is idle, or commits, has asked for nothing that
 * could be canceled.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "pgtime.h"
#include "base/compat.h"
#include "db/sql.h"
#include "guard/counter.h"
#include "guard/taking.h"
#include "miscadmin.h"
#include "storage/sinval.h"
#include "utils/datetime.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define LARGEST_PIECE 1000
#define SPARE_SHARE   16 /* a piece is at most this part of what is left */
#define MOST_HELD     16 /* counters that somebody holds, until giving back is given up for now */
#define MANY_TAKINGS  64 /* are rather forgotten all at once */

/* What this transaction took from one counter, in one of its subtransactions. */
struct Taking
{
	TakingKey key;
	Oid table;         /* of counters */
	TimestampTz until; /* the window it was taken from */
	int level;         /* nesting level of the subtransaction */
	int taken;         /* used by messages */
	int spare;         /* taken ahead; or, of one that is closed, to be given back */
	bool sending;      /* a direct message that may have gone */
	Taking *next;
};

/* Small, as a transaction may take from a million.  Two keys of one digest only take from their counters more often. */
typedef struct TakingEntry
{
	uint64 digest; /* hash key: the taking's key's */
	Taking *last;
} TakingEntry;

/*
 * What this session took and has not given back, in TopMemoryContext: it outlives the transaction,
 * as what a failed one took goes back in the next.
 */
static struct
{
	Taking *first; /* of this transaction, the newest first: none is on a lower level than the next */
	Taking *given; /* closed: to be given back now */
	Taking *held;  /* the same, but somebody held their counters: to be tried again */
	HTAB *by_key;  /* the last taking of each key; NULL: nothing is taken */
	uint64 closed; /* how many were, ever */
	MemoryContextCallback at_end; /* of a transaction that failed */
	bool watching_end;            /* that is registered */
	bool watching;                /* the callbacks are, for this process's life */
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

static bool
put_back(Counter *counter, void *arg)
{
	Taking *taking = arg;
	int n = taking->spare;

	taking->spare = 0; /* whatever fails from here on, it is not given back twice */
	if (counter->until != taking->until || n == 0)
		return false;
	counter->count = Max(counter->count - n, 0);
	return true;
}

static uint64
digest_of(const TakingKey *key)
{
	return hash_bytes_extended(
		(const unsigned char *) key->subject, (int) strlen(key->subject),
		hash_bytes((const unsigned char *) NameStr(key->gateway), (int) strlen(NameStr(key->gateway))));
}

/* Lets nobody take from a taking any more. */
static void
close_taking(Taking *taking)
{
	takings.closed++;
	if (takings.by_key != NULL)
	{
		uint64 digest = digest_of(&taking->key);
		TakingEntry *entry = hash_search(takings.by_key, &digest, HASH_FIND, NULL);

		if (entry != NULL && entry->last == taking)
			hash_search(takings.by_key, &digest, HASH_REMOVE, NULL);
	}
}

/* Before all are closed. */
static void
forget_keys(void)
{
	if (takings.by_key != NULL && hash_get_num_entries(takings.by_key) >= MANY_TAKINGS)
	{
		hash_destroy(takings.by_key);
		takings.by_key = NULL;
	}
}

/* Ends the first taking of a list: its messages keep it, or it is to be given back. */
static void
end_first(Taking **list, bool keep)
{
	Taking *taking = *list;

	*list = taking->next;
	close_taking(taking);
	if (!keep)
		taking->spare += taking->taken;
	if (taking->spare == 0)
	{
		pfree(taking);
		return;
	}
	taking->next = takings.given;
	takings.given = taking;
}

/* So many of a taking that goes on, which it has no longer, are to be given back. */
static void
return_some(const Taking *taking, int n)
{
	Taking *part = MemoryContextAlloc(TopMemoryContext, sizeof(Taking));

	*part = *taking;
	part->spare = n;
	part->next = takings.given;
	takings.given = part;
}

/* Gives back what is to be given back, until an error. */
static void
give_back(void *arg)
{
	(void) arg;
	while (takings.given != NULL)
	{
		Taking *taking = takings.given;

		takings.given = taking->next;
		taking->next = takings.held; /* where it stays, if that fails */
		takings.held = taking;
		if (taking->until > GetCurrentTimestamp())
			counter_change_now(taking->table, NameStr(taking->key.gateway), taking->key.subject, put_back,
							   taking);
		takings.held = taking->next;
		pfree(taking);
	}
}

/*
 * Gives back what is to be given back.  No error of that is this transaction's, and none may reach a client who
 * has asked for nothing.
 */
static void
settle(void)
{
	/* An error, though it is caught, forgets that a message of the client's is about to be read. */
	uint32 reading = QueryCancelHoldoffCount;

	for (int i = 0; i < MOST_HELD && takings.given != NULL; i++)
	{
		ErrorData *error = sql_try(give_back, NULL, 0);

		if (error != NULL)
			FreeErrorData(error);
	}
	QueryCancelHoldoffCount = reading;
}

/* Before commit: messages keep what they took, the rest goes back. */
static void
settle_before_commit(void)
{
	for (Taking *taking = takings.first; taking != NULL; taking = taking->next)
	{
		if (taking->spare > 0)
			return_some(taking, taking->spare);
		taking->spare = 0;
	}
	settle();
}

/*
 * A transaction that failed is over, also for its client, who may do nothing more: as soon as this session
 * is idle, it does a transaction of its own, as it does when it is told to catch up with invalidations.
 */
static void
catch_up_when_idle(void *arg)
{
	(void) arg;
	takings.watching_end = false;
	if (takings.given != NULL)
		HandleCatchupInterrupt();
}

static void
watch_end(void)
{
	if (takings.given == NULL || takings.watching_end)
		return;
	takings.at_end.func = catch_up_when_idle;
	MemoryContextRegisterResetCallback(TopTransactionContext, &takings.at_end);
	takings.watching_end = true;
}

static void
settle_at_end(XactEvent event, void *arg)
{
	(void) arg;
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			settle_before_commit();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			forget_keys();
			while (takings.first != NULL)
				end_first(&takings.first, true);
			break;
		case XACT_EVENT_ABORT:
			forget_keys();
			/* What was being sent at once may have gone. */
			while (takings.first != NULL)
				end_first(&takings.first, takings.first->sending);
			watch_end();
			break;
		default:
			break;
	}
}

static void
settle_at_subtransaction_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int level = GetCurrentTransactionNestLevel();

	(void) mine;
	(void) parent;
	(void) arg;
	if (event == SUBXACT_EVENT_ABORT_SUB)
	{
		while (takings.first != NULL && takings.first->level >= level)
			end_first(&takings.first, takings.first->sending);
	}
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
	{
		for (Taking *taking = takings.first; taking != NULL && taking->level >= level; taking = taking->next)
			taking->level = level - 1;
	}
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

/* Is a taking of this subtransaction, and of a window that is not over? */
static bool
is_current(const Taking *taking)
{
	return taking != NULL && taking->level == GetCurrentTransactionNestLevel() &&
		   taking->until > GetCurrentTimestamp();
}

/* What this subtransaction took so far from the window of now; NULL if nothing. */
static Taking *
find_taking(const TakingKey *key)
{
	uint64 digest = digest_of(key);
	TakingEntry *entry =
		takings.by_key != NULL ? hash_search(takings.by_key, &digest, HASH_FIND, NULL) : NULL;

	if (entry == NULL || memcmp(&entry->last->key, key, sizeof(*key)) != 0 || !is_current(entry->last))
		return NULL;
	return entry->last;
}

static Taking *
add_taking(const TakingKey *key, TimestampTz until)
{
	Oid table = counter_table();
	uint64 digest = digest_of(key);
	Taking *taking;
	TakingEntry *entry;

	if (!takings.watching)
	{
		RegisterXactCallback(settle_at_end, NULL);
		RegisterSubXactCallback(settle_at_subtransaction_end, NULL);
		takings.watching = true;
	}
	if (takings.by_key == NULL)
	{
		HASHCTL info = {.keysize = sizeof(uint64), .entrysize = sizeof(TakingEntry)};

		takings.by_key = hash_create("sms_gateway limits", 16, &info, HASH_ELEM | HASH_BLOBS);
	}
	taking = MemoryContextAllocZero(TopMemoryContext, sizeof(Taking));
	taking->key = *key;
	taking->table = table;
	taking->until = until;
	taking->level = GetCurrentTransactionNestLevel();
	entry = hash_search(takings.by_key, &digest, HASH_ENTER, NULL);
	entry->last = taking;
	taking->next = takings.first;
	takings.first = taking;
	return taking;
}

/* Takes n messages from what a taking has to spare; false if that is not enough. */
bool
taking_take_spare(Taking *taking, int n)
{
	if (!is_current(taking) || taking->spare < n)
		return false;
	taking->spare -= n;
	taking->taken += n;
	return true;
}

/*
 * Takes n messages from one limit.  Returns the taking, or NULL and the time at which to try
 * again, if it has not so many left.
 */
Taking *
taking_take(const TakingKey *key, int64 limit, int seconds, int n, TimestampTz *again)
{
	Taking *taking = find_taking(key);
	Request request = {.limit = limit, .wanted = n};

	if (taking_take_spare(taking, n))
		return taking;
	request.until = seconds == TAKING_A_DAY ? end_of_day() : GetCurrentTimestamp() + seconds * USECS_PER_SEC;
	request.piece = taking != NULL ? Min(taking->taken, LARGEST_PIECE) : 0;
	/* Nothing may fail between counting and noting it: there is no memory to be had then. */
	if (taking == NULL)
		taking = add_taking(key, request.until);
	counter_change(NameStr(key->gateway), key->subject, take, &request);
	*again = request.until;
	if (request.got == 0)
		return NULL;
	if (taking->until != request.until && taking->taken + taking->spare > 0)
		taking = add_taking(key, request.until); /* a window has ended this very moment */
	taking->until = request.until;
	taking->taken += n;
	taking->spare += (int) request.got - n;
	return taking;
}

/* Gives n messages of a taking back at once: they were refused. */
void
taking_put_back(Taking *taking, int n)
{
	return_some(taking, n);
	taking->taken -= n;
	settle();
}

/*
 * Before something is taken: gives back what failed transactions and subtransactions took.  Who held a counter when
 * this was last tried has a new chance in each transaction.
 */
void
taking_give_back(void)
{
	while (takings.first == NULL && takings.held != NULL)
	{
		Taking *taking = takings.held;

		takings.held = taking->next;
		taking->next = takings.given;
		takings.given = taking;
	}
	settle();
}

/* What was taken directly is being sent from now on: it may have gone, whatever becomes of the transaction. */
void
taking_send(void)
{
	for (Taking *taking = takings.first; taking != NULL; taking = taking->next)
		taking->sending = taking->key.direct;
}

/* What was taken directly has gone, or has certainly not. */
void
taking_sent(bool gone)
{
	Taking **link = &takings.first;

	while (*link != NULL)
	{
		if ((*link)->key.direct)
			end_first(link, gone);
		else
			link = &(*link)->next;
	}
	taking_give_back();
}

/* A taking is good for as long as this is the same. */
uint64
taking_generation(void)
{
	return takings.closed;
}
