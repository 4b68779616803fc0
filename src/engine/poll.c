/*
 * poll.c
 *		The engine's other half: asks providers what became of the messages that they
 *		accepted, and what is left on the account.
 *
 * A message is asked about 15 s after it was sent, and then each time when it has
 * become half as old again, until its end is known or the provider has forgotten
 * it.  When that is stands on the row, so it outlives restarts.  Asking has its own few
 * requests in flight for each gateway, fewer while there are messages to send, and
 * its own rate; a gateway that does not answer only delays itself.
 *
 * Nothing is locked and nothing is claimed: to ask twice is harmless.
 */
#include "postgres.h"

#include <math.h>

#include "commands/async.h"
#include "text/details.h"
#include "miscadmin.h"
#include "base/clock.h"
#include "base/encoding.h"
#include "base/extension.h"
#include "engine/engine.h"
#include "engine/poll.h"
#include "outbox/follow.h"
#include "outbox/report.h"
#include "provider/answer.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define FIRST_POLL     (15 * USECS_PER_SEC)
#define BUSY_RATE      50.0               /* polls a second of a gateway while messages wait to be sent */
#define POLLS_AT_ONCE  100                /* read from the outbox at once */
#define RECORD_POLLS   200.0              /* ms that an answer may wait for company */
#define REST_FIRST     1000.0             /* ms after a poll that failed … */
#define REST_MAX       300000.0           /* … doubling up to this */
#define SAFETY_LOOK    60000.0            /* ms between looks that nobody asked for */
#define UNKNOWN_WINDOW (7 * SECS_PER_DAY) /* where no gateway says for how long it can be asked */
#define BALANCE_PERIOD 300000.0           /* ms between questions for the balance */

/* A question to a gateway, in its own memory context. */
typedef struct Poll
{
	MemoryContext context;
	Call call;
	Gateway *gateway;
	struct PollLane *lane;
	char *reference;
	TimestampTz sent_at;
	HttpTransfer *transfer;
	Answer answer;
	Report report;
	FollowUp followup;
	dlist_node node; /* among those to start */
} Poll;

/* The messages of one gateway that are to be asked about. */
typedef struct PollLane
{
	NameData gateway;
	dlist_head ready;
	int nready;
	int in_flight;
	int slots;
	double next_start;
	double held_until;     /* it failed */
	int failures;          /* in a row */
	TimestampTz after_due; /* read from the outbox up to here … */
	int64 after_id;
	TimestampTz next_due;
	bool no_detail; /* CALL_STATUS_DETAIL is refused */
	bool sent;      /* since the balance was asked for */
	Poll *balance;  /* the question under way */
	double balance_at;
	double min_balance;
	Oid role;      /* of the message sent last: its credentials ask for the balance */
	bool low;      /* the balance was, at the last look */
	char news[40]; /* the balance, to be told */
	struct PollLane *next;
} PollLane;

typedef struct PollEntry
{
	int64 id; /* hash key */
	Poll *poll;
} PollEntry;

static MemoryContext context = NULL;
static PollLane *lanes;
static HTAB *polls; /* in our hands, by message id */
static HttpQueue finished;
static dlist_head outcomes; /* of FollowUp */
static int noutcomes;
static double record_at;
static double look_at;

/* Makes what polling needs, in a context below parent, until poll_destroy(). */
void
poll_create(MemoryContext parent)
{
	HASHCTL info = {.keysize = sizeof(int64), .entrysize = sizeof(PollEntry)};

	context = AllocSetContextCreate(parent, "sms_gateway polls", ALLOCSET_DEFAULT_SIZES);
	info.hcxt = context;
	polls = hash_create("sms_gateway polls", 64, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	lanes = NULL;
	finished.head = finished.tail = NULL;
	dlist_init(&outcomes);
	noutcomes = 0;
	look_at = 0;
}

/* Lets go of everything; the context goes with its parent. */
void
poll_destroy(void)
{
	HASH_SEQ_STATUS status;
	PollEntry *entry;

	if (context == NULL)
		return;
	hash_seq_init(&status, polls);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->poll->transfer != NULL)
			http_release(entry->poll->transfer);
	}
	for (PollLane *lane = lanes; lane != NULL; lane = lane->next)
	{
		if (lane->balance != NULL && lane->balance->transfer != NULL)
			http_release(lane->balance->transfer);
	}
	context = NULL;
}

static PollLane *
find_lane(const char *gateway)
{
	PollLane *lane = lanes;

	while (lane != NULL && strcmp(NameStr(lane->gateway), gateway) != 0)
		lane = lane->next;
	if (lane == NULL)
	{
		lane = MemoryContextAllocZero(context, sizeof(PollLane));
		namestrcpy(&lane->gateway, gateway);
		dlist_init(&lane->ready);
		lane->slots = 1;
		lane->after_due = DT_NOBEGIN;
		lane->next_due = DT_NOEND;
		lane->next = lanes;
		lanes = lane;
	}
	return lane;
}

/* When to ask (again) about a message; 0 when the provider has forgotten it. */
static TimestampTz
next_poll(TimestampTz sent_at, int window)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz age = Max(now - sent_at, 0);
	TimestampTz next = now + Max(age / 2, FIRST_POLL);

	if (age >= window * USECS_PER_SEC)
		return 0;
	return Min(next, sent_at + window * USECS_PER_SEC);
}

/*
 * A message was sent: says when to ask about it, 0 if never.  The caller writes that
 * onto the row, in the round that follows.
 */
TimestampTz
poll_sent(Gateway *gateway, const Answer *answer)
{
	TimestampTz at = GetCurrentTimestamp() + FIRST_POLL;
	PollLane *lane;

	if (!isnan(gateway->min_balance))
	{
		lane = find_lane(gateway->name);
		lane->role = gateway->role;
		lane->min_balance = gateway->min_balance;
		lane->sent = true;
	}
	if (!gateway->poll_delivery || (answer->smsid[0] == '\0' && answer->id_omni_mess[0] == '\0'))
		return 0;
	lane = find_lane(gateway->name);
	lane->next_due = Min(lane->next_due, at);
	return at;
}

/* ------------------------------------------------------------------------
 * Asking
 * ------------------------------------------------------------------------ */

static void
free_poll(Poll *poll)
{
	if (poll->transfer != NULL)
		http_release(poll->transfer);
	if (poll->call == CALL_BALANCE)
		poll->lane->balance = NULL;
	else
		hash_search(polls, &poll->followup.row.id, HASH_REMOVE, NULL);
	MemoryContextDelete(poll->context);
}

static void
add_outcome(Poll *poll, const Report *report, TimestampTz poll_at)
{
	poll->followup.report = report;
	poll->followup.poll_at = poll_at;
	dlist_push_tail(&outcomes, &poll->followup.row.node);
	if (noutcomes++ == 0)
		record_at = now_ms() + RECORD_POLLS;
}

/* Starts a question.  Returns false when memory is out. */
static bool
start(Poll *poll)
{
	HttpRequest request;

	if (!gateway_query(poll->gateway, poll->call, poll->reference, &request))
		return false;
	poll->transfer = http_start(&poll->gateway->endpoint, &request, true, &finished, poll);
	if (poll->transfer != NULL)
		poll->lane->in_flight++;
	return poll->transfer != NULL;
}

static void
rest(PollLane *lane, const Answer *answer)
{
	double wait = Min(ldexp(REST_FIRST, Min(lane->failures, 20)), REST_MAX);

	if (answer->retry_after >= 0)
		wait = Max(wait, answer->retry_after * 1000.0);
	lane->failures++;
	lane->held_until = now_ms() + wait;
}

/* The balance was told: below the minimum, that is news once. */
static void
take_balance(PollLane *lane, const char *amount)
{
	bool low = atof(amount) < lane->min_balance;

	if (low && !lane->low)
		strlcpy(lane->news, amount, sizeof(lane->news));
	lane->low = low;
}

static void
take_answer(Poll *poll, const HttpAnswer *http)
{
	PollLane *lane = poll->lane;
	const Provider *provider = poll->gateway->provider;
	Message message = {.call = poll->call};
	bool told = false;
	char amount[40];

	answer_read(provider, poll->gateway->settings, &message, http, &poll->answer);
	http_release(poll->transfer);
	poll->transfer = NULL;
	lane->in_flight--;
	if (poll->answer.verdict == VERDICT_ACCEPTED || poll->answer.verdict == VERDICT_PERMANENT)
		lane->failures = 0;
	else if (poll->call == CALL_STATUS || poll->answer.verdict != VERDICT_GATEWAY)
		rest(lane, &poll->answer);
	if (poll->call == CALL_STATUS_DETAIL && poll->answer.verdict == VERDICT_GATEWAY)
		lane->no_detail = true; /* this account, or this server, has no such call */
	if (poll->call == CALL_BALANCE)
	{
		if (poll->answer.verdict == VERDICT_ACCEPTED && provider->balance(http, amount, sizeof(amount)))
			take_balance(lane, amount);
		free_poll(poll);
		return;
	}
	if (poll->answer.verdict == VERDICT_ACCEPTED)
		told = provider->report(http->body, http->len, &poll->report);
	if (poll->call == CALL_STATUS_DETAIL)
		add_outcome(poll, &poll->report, 0);
	else if (!told || poll->report.delivery == DELIVERY_PENDING)
		add_outcome(poll, NULL, next_poll(poll->sent_at, provider->status_window));
	else
	{
		poll->call = CALL_STATUS_DETAIL;
		if ((provider->calls & CALL_BIT(CALL_STATUS_DETAIL)) && !lane->no_detail)
		{
			dlist_push_head(&lane->ready, &poll->node);
			lane->nready++;
		}
		else
			add_outcome(poll, &poll->report, 0);
	}
}

/* May this gateway's next question start?  Takes its place within the rate limit if so. */
static bool
may_start(PollLane *lane, bool busy, double now)
{
	if (lane->nready == 0 || lane->in_flight >= (busy ? 1 : lane->slots) || lane->held_until > now ||
		lane->next_start > now ||
		!engine_spare_request(dlist_head_element(Poll, node, &lane->ready)->gateway, now, &lane->next_start))
		return false;
	lane->next_start = busy ? now + 1000.0 / BUSY_RATE : now;
	return true;
}

/* Takes answers and starts what may start; "busy": there are messages to send. */
void
poll_turn(bool busy)
{
	HttpTransfer *transfer;
	HttpAnswer http;
	void *tag;
	double now;

	while ((transfer = http_next(&finished, &http, &tag)) != NULL)
		take_answer(tag, &http);
	now = now_ms();
	for (PollLane *lane = lanes; lane != NULL; lane = lane->next)
	{
		while (may_start(lane, busy, now))
		{
			Poll *poll = dlist_container(Poll, node, dlist_pop_head_node(&lane->ready));

			lane->nready--;
			if (start(poll))
				continue;
			if (poll->call == CALL_STATUS_DETAIL)
				add_outcome(poll, &poll->report, 0);
			else
				add_outcome(poll, NULL, next_poll(poll->sent_at, poll->gateway->provider->status_window));
		}
	}
}

/* ------------------------------------------------------------------------
 * Rounds
 * ------------------------------------------------------------------------ */

static bool
lane_wants(const PollLane *lane, double now, TimestampTz wall)
{
	if (lane->news[0])
		return true;
	if (lane->sent && lane->held_until <= now && lane->balance == NULL && lane->balance_at <= now)
		return true;
	return lane->nready == 0 && lane->next_due <= wall && lane->held_until <= now;
}

/* Is there anything that a transaction could do now? */
bool
poll_round_needed(double now, TimestampTz wall)
{
	if (noutcomes > 0 && now >= record_at)
		return true;
	if (now >= look_at)
		return true;
	for (const PollLane *lane = lanes; lane != NULL; lane = lane->next)
	{
		if (lane_wants(lane, now, wall))
			return true;
	}
	return false;
}

static Poll *
new_poll(PollLane *lane, Gateway *gateway, Call call)
{
	MemoryContext own = AllocSetContextCreate(context, "sms_gateway poll", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(own);
	Poll *poll = palloc0(sizeof(Poll));

	poll->context = own;
	poll->call = call;
	poll->lane = lane;
	poll->gateway = gateway;
	gateway_hold(gateway);
	MemoryContextSwitchTo(old);
	return poll;
}

/* Takes a message into our hands, or puts it off if its gateway cannot be asked. */
static void
add_poll(PollLane *lane, const Follow *follow)
{
	Refusal refusal;
	Gateway *gateway = OidIsValid(follow->role) ? gateway_get(follow->gateway, follow->role, &refusal) : NULL;
	bool known;
	PollEntry *entry;
	Poll *poll;

	hash_search(polls, &follow->id, HASH_FIND, &known);
	if (known)
		return;
	if (gateway == NULL || follow->reference == NULL || !gateway->poll_delivery ||
		follow->status != STATUS_SENT)
	{
		FollowUp put_off = {.row = {.id = follow->id, .role = follow->role}};

		/* Without credentials, look again later; where there is nothing to ask, never. */
		if (gateway == NULL && follow->status == STATUS_SENT)
			put_off.poll_at = next_poll(follow->sent_at, UNKNOWN_WINDOW);
		follow_record_one(&put_off);
		return;
	}
	lane->slots = Max(2, gateway->max_in_flight / 8);
	poll = new_poll(lane, gateway, CALL_STATUS);
	poll->reference = MemoryContextStrdup(poll->context, to_utf8(follow->reference, "id"));
	poll->sent_at = follow->sent_at;
	poll->followup.row.id = follow->id;
	poll->followup.row.role = follow->role;
	entry = hash_search(polls, &follow->id, HASH_ENTER, NULL);
	entry->poll = poll;
	dlist_push_tail(&lane->ready, &poll->node);
	lane->nready++;
}

/* Reads due messages of a gateway. */
static void
read_lane(PollLane *lane, TimestampTz wall)
{
	List *due = report_polls(NameStr(lane->gateway), lane->after_due, lane->after_id, wall, POLLS_AT_ONCE);
	ListCell *lc;

	foreach (lc, due)
	{
		const Follow *follow = lfirst(lc);

		add_poll(lane, follow);
		lane->after_due = follow->poll_at;
		lane->after_id = follow->id;
	}
	lane->next_due =
		list_length(due) == POLLS_AT_ONCE ? wall : report_poll_due(NameStr(lane->gateway), lane->after_due);
}

/* Asks for the balance, while messages are being sent. */
static void
ask_balance(PollLane *lane, double now)
{
	Refusal refusal;
	Gateway *gateway = gateway_get(NameStr(lane->gateway), lane->role, &refusal);

	lane->sent = false;
	lane->balance_at = now + BALANCE_PERIOD;
	if (gateway == NULL || isnan(gateway->min_balance))
		return;
	lane->min_balance = gateway->min_balance;
	lane->balance = new_poll(lane, gateway, CALL_BALANCE);
	if (!start(lane->balance))
		free_poll(lane->balance);
}

/* Tells that a balance is low. */
void
poll_tell_balance(const char *gateway, const char *amount, double minimum)
{
	char *text = balance_text(gateway, amount, minimum);

	ereport(WARNING, (errmsg("the balance of gateway \"%s\" is low: %s", gateway, amount),
					  errdetail("The server option min_balance is %g.", minimum)));
	if (text != NULL)
		Async_Notify(EXTENSION_NAME, pstrdup(text));
	free(text);
}

/* The work of a round, inside the engine's transaction. */
void
poll_round(void)
{
	double now = now_ms();
	TimestampTz wall = GetCurrentTimestamp();
	ListCell *lc;

	if (noutcomes > 0)
		follow_record(&outcomes);
	if (now >= look_at)
	{
		/* From the start of every gateway: a restart, a clock that was set back. */
		foreach (lc, gateway_names())
		{
			const Provider *provider = gateway_provider(lfirst(lc));
			PollLane *lane;

			if (provider == NULL || !(provider->calls & CALL_BIT(CALL_STATUS)))
				continue;
			lane = find_lane(lfirst(lc));
			lane->after_due = DT_NOBEGIN;
			lane->after_id = 0;
			lane->next_due = report_poll_due(lfirst(lc), DT_NOBEGIN);
		}
		look_at = now + SAFETY_LOOK;
	}
	for (PollLane *lane = lanes; lane != NULL; lane = lane->next)
	{
		if (lane->news[0])
			poll_tell_balance(NameStr(lane->gateway), lane->news, lane->min_balance);
		if (!lane_wants(lane, now, wall))
			continue;
		if (lane->sent && lane->balance == NULL && lane->balance_at <= now)
			ask_balance(lane, now);
		if (lane->nready == 0 && lane->next_due <= wall && lane->held_until <= now)
			read_lane(lane, wall);
	}
}

/* The round's transaction committed: what is recorded is out of our hands. */
void
poll_committed(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, &outcomes)
	{
		Poll *poll = dlist_container(Poll, followup.row.node, iter.cur);
		PollLane *lane = poll->lane;

		if (!poll->followup.row.recorded)
			continue; /* somebody holds the row */
		if (poll->followup.poll_at != 0)
			lane->next_due = Min(lane->next_due, poll->followup.poll_at);
		dlist_delete(iter.cur);
		free_poll(poll);
		noutcomes--;
	}
	record_at = now_ms() + (noutcomes > 0 ? 1000 : 0);
	for (PollLane *lane = lanes; lane != NULL; lane = lane->next)
		lane->news[0] = '\0';
}

/* It did not: what was read is in our hands all the same, and what was recorded is not. */
void
poll_aborted(void)
{
	record_at = now_ms() + RECORD_POLLS;
}

/* Milliseconds until there is something to do. */
double
poll_time_to_wait(double now, TimestampTz wall)
{
	double wait = Max(look_at - now, 0);

	if (noutcomes > 0)
		wait = Min(wait, Max(record_at - now, 0));
	for (const PollLane *lane = lanes; lane != NULL; lane = lane->next)
	{
		double held = Max(lane->held_until - now, 0);

		if (lane->nready > 0 && lane->in_flight == 0)
			wait = Min(wait, Max(held, lane->next_start - now));
		else if (lane->nready == 0 && lane->next_due != DT_NOEND)
			wait = Min(wait, Max(held, Max((lane->next_due - wall) / 1000.0, 0)));
	}
	return wait;
}

/* Is nothing due, and nothing in our hands? */
bool
poll_idle(TimestampTz wall)
{
	if (noutcomes > 0 || look_at == 0)
		return false;
	for (const PollLane *lane = lanes; lane != NULL; lane = lane->next)
	{
		if (lane->in_flight > 0 ||
			(lane->held_until <= now_ms() && (lane->nready > 0 || lane->next_due <= wall)))
			return false;
	}
	return true;
}
