/*
 * engine.c
 *		Drains the outbox: claims, sends, decides what an answer means for the
 *		message, records it.
 *
 * The engine turns in one loop.  Requests are started and answers taken between
 * two short transactions ("rounds"); a round records the outcomes at hand and
 * claims the next messages, in one commit.  While it runs, requests stay in
 * flight; while the network is awaited, no transaction is open.
 *
 * One engine at a time drains a database: it holds a lock that ends with its
 * process.  So a lease found at the start belongs to an engine that is gone, and
 * its messages may or may not have been sent.
 *
 * Times: deadlines of the engine are monotonic milliseconds; times on rows are
 * the wall clock's.
 */
#include "postgres.h"

#include <math.h>
#include <time.h>

#include "access/xact.h"
#include "catalog/namespace.h"
#include "common/hashfn.h"
#include "common/pg_prng.h"
#include "text/details.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "base/clock.h"
#include "base/compat.h"
#include "base/encoding.h"
#include "base/extension.h"
#include "base/settings.h"
#include "db/scope.h"
#include "db/sql.h"
#include "engine/engine.h"
#include "engine/poll.h"
#include "outbox/claim.h"
#include "outbox/cleanup.h"
#include "outbox/item.h"
#include "outbox/lease.h"
#include "outbox/pause.h"
#include "outbox/record.h"
#include "outbox/report.h"
#include "provider/answer.h"
#include "wake/slot.h"
#include "worker/worker.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(sms_gateway_claimed);

#define ENGINE_LOCK_KEY 0x736D7367 /* "smsg" */

#define SAFETY_POLL       5000.0   /* ms between looks that nobody asked for */
#define RECORD_DELAY      4.0      /* ms that an outcome may wait for company … */
#define RECORD_DELAY_BUSY 25.0     /* … while there is more to send anyway */
#define FULL_LOOK_SHARE   50.0     /* a look from the start may take 1/50 of the time */
#define PROBE_FIRST       5000.0   /* ms until a paused gateway is tried again … */
#define PROBE_MAX         900000.0 /* … doubling up to this */
#define THROTTLE_FIRST    1000.0
#define THROTTLE_MAX      60000.0
#define ERROR_FIRST       250.0
#define ERROR_MAX         30000.0
#define HELD_RETRY        60000 /* ms until a message without credentials is tried again */
#define RATE_SLACK        50.0  /* ms a rate limit may run behind and catch up */
#define ASIDE_SHARE       0.01  /* of a rate limit, for questions while messages wait */
#define REPEAT_MARGIN     600   /* s before the end of a repeat window */
#define PURGE_PERIOD      10000.0
#define TIDY_PERIOD       60000.0
#define LEAVE_WITHIN      4500.0 /* ms for requests under way when the server goes down */

/* The messages of one claim that are not settled yet. */
typedef struct Lease
{
	int64 id;
	int size;
	int settled;  /* in the round under way */
	bool shrinks; /* some of those went back to the queue */
	dlist_node node;
} Lease;

/* What the engine knows of one gateway while it runs. */
typedef struct GatewayQueue
{
	NameData name;
	dlist_head ready; /* claimed, not started; highest priority first */
	int nready;
	int in_flight;
	int max_in_flight;
	bool repeat_safe; /* as of the message claimed last */
	double rate_limit;
	double next_start; /* when the rate limit allows the next request */
	double next_aside; /* … and, while messages wait, one that is not a message */
	double held_until; /* the gateway asked for a rest, or is out of reach */
	int rests;         /* in a row */
	bool paused;
	bool paused_by_user;
	bool pause_news; /* to be written down in the next round */
	char reason[600];
	double probe_at;
	double probe_wait;
	int finished; /* since flow was last measured */
	double flow_since;
	double flow; /* messages a second, lately */
	struct GatewayQueue *next;
} GatewayQueue;

typedef struct Engine
{
	MemoryContext context;
	MemoryContext scratch; /* of one turn of the loop */
	bool in_session;
	HTAB *items; /* messages in our hands, by id */
	GatewayQueue *queues;
	Lane *lanes;
	int nlanes;
	int lanes_size;
	dlist_head outcomes;
	int noutcomes;
	double record_at; /* when the outcomes at hand are to be recorded */
	dlist_head leases;
	HttpQueue finished;
	int nready;
	int in_flight;
	int slots;      /* transfers that file descriptors allow */
	bool started;   /* orphans are settled */
	bool look;      /* somebody queued something */
	double look_at; /* next safety poll */
	bool full_look; /* the next round is one from the start of every lane */
	TimestampTz next_expiry;
	double purge_at;
	int64 purge_after;
	double tidy_at;  /* no reason by itself for a round */
	double retry_at; /* after an error */
	double error_wait;
	OutboxState state; /* as the last round found it */
	bool leaving;      /* this process was told to end: nothing new is started … */
	double leave_at;   /* … and what is under way has until then */
} Engine;

typedef struct ItemEntry
{
	int64 id; /* hash key */
	OutboxItem *item;
} ItemEntry;

static Engine *engine = NULL;
static bool pauses_stale = true;
static bool pauses_callback = false;

/* ------------------------------------------------------------------------
 * Small things
 * ------------------------------------------------------------------------ */

/* Is a message in the hands of this process's engine? */
bool
engine_claimed(int64 id)
{
	return engine != NULL && hash_search(engine->items, &id, HASH_FIND, NULL) != NULL;
}

static void
on_relation_change(Datum arg, Oid relation)
{
	(void) arg;
	(void) relation;
	pauses_stale = true;
}

static void
set_engine_lock_tag(LOCKTAG *tag)
{
	SET_LOCKTAG_ADVISORY(*tag, MyDatabaseId, ENGINE_LOCK_KEY, 1, OUR_LOCK_CLASS);
}

static GatewayQueue *
find_queue(const char *name)
{
	GatewayQueue *queue = engine->queues;

	while (queue != NULL && strcmp(NameStr(queue->name), name) != 0)
		queue = queue->next;
	if (queue == NULL)
	{
		queue = MemoryContextAllocZero(engine->context, sizeof(GatewayQueue));
		namestrcpy(&queue->name, name);
		dlist_init(&queue->ready);
		queue->max_in_flight = 1;
		queue->next = engine->queues;
		engine->queues = queue;
	}
	return queue;
}

/* Moves a lane's bound back so that it finds messages due from a time on. */
static void
lower_bound_of(Lane *lane, TimestampTz due)
{
	if (lane->after_due < due)
		return;
	lane->after_due = due > DT_NOBEGIN ? due - 1 : DT_NOBEGIN;
	lane->after_id = PG_INT64_MAX;
}

/*
 * Lets lanes look again at messages due from a time on.  DT_NOBEGIN: at all, which
 * walks over whatever an old snapshot keeps; DT_NOEND: as far as they know already.
 */
static void
look_back(TimestampTz due)
{
	for (int i = 0; i < engine->nlanes; i++)
	{
		lower_bound_of(&engine->lanes[i], due);
		engine->lanes[i].drained = false;
	}
	engine->look = true;
}

static Lane *
find_lane(const char *gateway, int priority)
{
	for (int i = 0; i < engine->nlanes; i++)
	{
		if (engine->lanes[i].priority == priority && strcmp(NameStr(engine->lanes[i].gateway), gateway) == 0)
			return &engine->lanes[i];
	}
	return NULL;
}

/* A message goes back into the queue: its lane has to find it when it is due. */
static void
expect_due(const char *gateway, int priority, TimestampTz due)
{
	Lane *lane = find_lane(gateway, priority);

	if (lane == NULL)
	{
		engine->look = true;
		return;
	}
	lower_bound_of(lane, due);
	lane->next_due = Min(lane->next_due, due);
}

static TimestampTz
back_off(int attempts)
{
	double wait = Min(ldexp(guc_retry_initial, Min(attempts - 1, 30)), guc_retry_max);

	/* Jitter keeps messages that failed together from coming back together. */
	wait *= 0.75 + 0.5 * pg_prng_double(&pg_global_prng_state);
	return GetCurrentTimestamp() + (TimestampTz) (wait * 1000);
}

/* ------------------------------------------------------------------------
 * Outcomes: what an answer means for the message
 * ------------------------------------------------------------------------ */

static void
add_outcome(OutboxItem *item, Status status, TimestampTz next_attempt_at)
{
	item->new_status = status;
	item->next_attempt_at = next_attempt_at;
	item->row.recorded = false;
	dlist_push_tail(&engine->outcomes, &item->row.node);
	if (engine->noutcomes++ == 0)
		engine->record_at = now_ms() + RECORD_DELAY;
}

static Answer *
new_answer(OutboxItem *item)
{
	Answer *answer = MemoryContextAllocZero(item->context, sizeof(Answer));

	answer->retry_after = -1;
	return answer;
}

/* Takes over new details; false if there are none. */
static bool
set_details(OutboxItem *item, char *details)
{
	if (details == NULL)
		return false;
	item->new_details = MemoryContextStrdup(item->context, details);
	free(details);
	return true;
}

/*
 * Moves a message that failed for certain to the gateway's fallback.  Returns
 * false if there is none, or it was tried already.
 */
static bool
fall_back(OutboxItem *item)
{
	const char *fallback = item->gateway->fallback;

	if (fallback == NULL || strcmp(fallback, item->gateway_name) == 0 ||
		!set_details(item, details_with_failure(item->new_details ? item->new_details : item->details,
												item->gateway_name, item->answer->code, item->answer->message,
												fallback)))
		return false;
	item->new_gateway = fallback;
	item->attempts = 0;
	add_outcome(item, STATUS_QUEUED, GetCurrentTimestamp());
	return true;
}

static void
fail_item(OutboxItem *item)
{
	if (item->unsure_since != 0)
		add_outcome(item, STATUS_UNCERTAIN, 0);
	else if (item->gateway == NULL || !fall_back(item))
		add_outcome(item, STATUS_FAILED, 0);
}

/* Is another request for this message harmless, if it is made at a time? */
static bool
may_repeat(const OutboxItem *item, TimestampTz at)
{
	const Provider *provider = item->gateway->provider;

	if (item->gateway->resend_uncertain)
		return true;
	if (!provider->repeat_safe(item->prepared.settings, &item->prepared.message))
		return false;
	return provider->repeat_window == 0 || item->unsure_since == 0 ||
		   at < item->unsure_since + (provider->repeat_window - REPEAT_MARGIN) * USECS_PER_SEC;
}

/* Another attempt if there is one left; "unsure" if this one may have been accepted. */
static void
try_again(OutboxItem *item, bool unsure)
{
	TimestampTz next = back_off(item->attempts);

	if (unsure && item->unsure_since == 0)
		item->unsure_since = GetCurrentTimestamp();
	if (item->attempts >= item->gateway->max_attempts)
		fail_item(item);
	else if (item->unsure_since != 0 && !may_repeat(item, next))
		add_outcome(item, STATUS_UNCERTAIN, 0);
	else
		add_outcome(item, STATUS_QUEUED, next);
}

static void
pause_queue(GatewayQueue *queue, const Answer *answer)
{
	double now = now_ms();

	if (queue->paused && queue->probe_at > now)
		return; /* said so already */
	queue->probe_wait = queue->paused ? Min(queue->probe_wait * 2, PROBE_MAX) : PROBE_FIRST;
	queue->probe_at = now + queue->probe_wait;
	queue->paused = true;
	queue->pause_news = true;
	snprintf(queue->reason, sizeof(queue->reason), "%s%s%s", answer->code, answer->message[0] ? ": " : "",
			 answer->message);
	ereport(WARNING, (errmsg("gateway \"%s\" is paused: %s", NameStr(queue->name), from_utf8(queue->reason)),
					  errdetail("One message is tried again in %.0f s.", queue->probe_wait / 1000)));
}

/* Gives a gateway a rest: as long as it asks for, else longer each time. */
static void
rest_queue(GatewayQueue *queue, int seconds, double first, double longest)
{
	double now = now_ms();
	double wait = seconds >= 0 ? seconds * 1000.0 : Min(ldexp(first, Min(queue->rests, 20)), longest);

	/* Requests that were under way together fail together: that is one rest. */
	if (queue->held_until > now && seconds < 0)
		return;
	queue->rests++;
	queue->held_until = Max(queue->held_until, now + wait);
}

/* Learns about the gateway from an answer. */
static void
judge_gateway(GatewayQueue *queue, const OutboxItem *item)
{
	const Answer *answer = item->answer;

	if (answer->verdict == VERDICT_GATEWAY)
	{
		if (!queue->paused_by_user)
			pause_queue(queue, answer);
		return;
	}
	if (queue->paused && !queue->paused_by_user)
	{
		queue->paused = false;
		queue->pause_news = true;
		look_back(DT_NOEND);
		ereport(LOG, (errmsg("gateway \"%s\" sends again", NameStr(queue->name))));
	}
	if (answer->verdict == VERDICT_THROTTLED)
		rest_queue(queue, answer->retry_after, THROTTLE_FIRST, THROTTLE_MAX);
	else if (answer->verdict == VERDICT_TRANSIENT && answer->http_status == 0)
		rest_queue(queue, -1, 10, 10000); /* out of reach */
	else
		queue->rests = 0;
}

/* Decides what becomes of a message, now that its request has ended. */
static void
decide(OutboxItem *item)
{
	Answer *answer = item->answer;

	if (answer->token[0])
		set_details(item, details_with_token(item->details, answer->token));
	switch (answer->verdict)
	{
		case VERDICT_ACCEPTED:
			item->attempts++;
			item->sent_at = GetCurrentTimestamp();
			item->unsure_since = 0;
			item->poll_at = poll_sent(item->gateway, answer);
			add_outcome(item, STATUS_SENT, 0);
			break;
		case VERDICT_PERMANENT:
			item->attempts++;
			fail_item(item);
			break;
		case VERDICT_TRANSIENT:
			item->attempts++;
			try_again(item, false);
			break;
		case VERDICT_UNCERTAIN:
			item->attempts++;
			try_again(item, true);
			break;
		case VERDICT_THROTTLED:
		case VERDICT_GATEWAY:
			/* It was not the message's fault: its turn stays, and its attempts. */
			add_outcome(item, STATUS_QUEUED, item->due);
			break;
	}
}

/*
 * Gives a message back to the queue as it is: only its lease ends.
 */
static void
hand_back(OutboxItem *item)
{
	item->row.unchanged = true;
	add_outcome(item, STATUS_QUEUED, item->due);
}

/* A message that cannot even be tried: its gateway, mapping or options changed. */
static void
refuse(OutboxItem *item)
{
	const Refusal *refusal = item->refusal;

	item->answer = new_answer(item);
	snprintf(item->answer->message, sizeof(item->answer->message), "%s", refusal->message);
	if (refusal->sqlstate == ERRCODE_UNDEFINED_OBJECT)
	{
		snprintf(item->answer->code, sizeof(item->answer->code), "held");
		add_outcome(item, STATUS_QUEUED, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HELD_RETRY));
	}
	else
	{
		snprintf(item->answer->code, sizeof(item->answer->code), "refused");
		fail_item(item);
	}
}

/* ------------------------------------------------------------------------
 * Sending
 * ------------------------------------------------------------------------ */

static void
take_finished(void)
{
	HttpTransfer *transfer;
	HttpAnswer http;
	void *tag;

	while ((transfer = http_next(&engine->finished, &http, &tag)) != NULL)
	{
		OutboxItem *item = tag;
		GatewayQueue *queue = item->queue;

		item->answer = new_answer(item);
		answer_read(item->gateway->provider, item->prepared.settings, &item->prepared.message, &http,
					item->answer);
		http_release(transfer);
		item->transfer = NULL;
		queue->in_flight--;
		queue->finished++;
		engine->in_flight--;
		judge_gateway(queue, item);
		decide(item);
	}
}

/* Puts one message on the wire, or decides at once that it must not go. */
static void
start_item(OutboxItem *item)
{
	GatewayQueue *queue = item->queue;
	HttpRequest request;
	TimestampTz now = GetCurrentTimestamp();

	if (item->expires_at <= now)
	{
		item->answer = new_answer(item);
		snprintf(item->answer->message, sizeof(item->answer->message), "not sent before expires_at");
		add_outcome(item, item->unsure_since != 0 ? STATUS_UNCERTAIN : STATUS_EXPIRED, 0);
		return;
	}
	if (item->unsure_since != 0 && !may_repeat(item, now))
	{
		item->answer = new_answer(item);
		snprintf(item->answer->message, sizeof(item->answer->message), "too late for a repeat that is safe");
		add_outcome(item, STATUS_UNCERTAIN, 0);
		return;
	}
	memset(&request, 0, sizeof(request));
	if (item->gateway->provider->build(item->prepared.settings, &item->prepared.message, &request))
		item->transfer =
			http_start(&item->gateway->endpoint, &request,
					   item->gateway->provider->repeat_safe(item->prepared.settings, &item->prepared.message),
					   &engine->finished, item);
	if (item->transfer == NULL)
	{
		item->answer = new_answer(item);
		item->attempts++;
		snprintf(item->answer->code, sizeof(item->answer->code), "memory");
		snprintf(item->answer->message, sizeof(item->answer->message), "out of memory");
		try_again(item, false);
		return;
	}
	queue->in_flight++;
	engine->in_flight++;
}

/* May this gateway's next message start? */
static bool
may_start(const GatewayQueue *queue, double now)
{
	if (queue->nready == 0 || queue->in_flight >= queue->max_in_flight ||
		engine->in_flight >= engine->slots || queue->held_until > now ||
		(queue->rate_limit > 0 && queue->next_start > now))
		return false;
	return !queue->paused || (queue->in_flight == 0 && queue->probe_at <= now);
}

/*
 * Messages that were claimed for a gateway that rests now go back to the queue:
 * there they can be canceled, can expire, and are not in doubt after a crash.
 */
static void
hand_back_resting(double now)
{
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		bool rests = engine->leaving || queue->held_until > now + 1000 ||
					 (queue->paused && (queue->paused_by_user || queue->probe_at > now));

		while (rests && queue->nready > 0)
		{
			hand_back(dlist_container(OutboxItem, row.node, dlist_pop_head_node(&queue->ready)));
			queue->nready--;
			engine->nready--;
		}
	}
}

/* Starts what may start, one message of each gateway in turn. */
static void
start_ready(void)
{
	double now = now_ms();
	bool any = guc_enabled && !engine->leaving;

	hand_back_resting(now);
	while (any)
	{
		any = false;
		for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
		{
			OutboxItem *item;

			if (!may_start(queue, now))
				continue;
			item = dlist_container(OutboxItem, row.node, dlist_pop_head_node(&queue->ready));
			queue->nready--;
			engine->nready--;
			if (queue->rate_limit > 0 && !item->gateway->stale)
				queue->next_start = Max(queue->next_start, now - RATE_SLACK) + 1000.0 / queue->rate_limit;
			/* Its server or user mapping has changed since it was claimed. */
			if (item->gateway->stale)
				hand_back(item);
			else
				start_item(item);
			any = true;
		}
	}
}

static void
set_rate_limit(GatewayQueue *queue, double limit)
{
	if (queue->rate_limit == limit)
		return;
	queue->rate_limit = limit;
	queue->next_start = Max(queue->next_start, now_ms());
}

/*
 * May a request that is not a message be made within a gateway's rate limit?  Takes its place
 * if so; else says when to ask again.  It gets what messages leave, and a hundredth.
 */
bool
engine_spare_request(const Gateway *gateway, double now, double *again)
{
	GatewayQueue *queue = find_queue(gateway->name);
	bool waiting = queue->nready > 0;

	for (int i = 0; i < engine->nlanes && !waiting; i++)
		waiting = !engine->lanes[i].drained && strcmp(NameStr(engine->lanes[i].gateway), gateway->name) == 0;
	set_rate_limit(queue, gateway->rate_limit);
	*again = waiting ? Max(queue->next_start, queue->next_aside) : queue->next_start;
	if (queue->rate_limit <= 0)
		return true;
	if (*again > now)
		return false;
	queue->next_start = Max(queue->next_start, now - RATE_SLACK) + 1000.0 / queue->rate_limit;
	queue->next_aside = now + 1000.0 / (queue->rate_limit * ASIDE_SHARE);
	return true;
}

/* ------------------------------------------------------------------------
 * Rounds: the transactions of the engine
 * ------------------------------------------------------------------------ */

/* Puts a claimed message among those to start: by priority, then in order. */
static void
add_ready(OutboxItem *item)
{
	GatewayQueue *queue = find_queue(item->gateway_name);
	dlist_node *after = &queue->ready.head;
	dlist_iter iter;

	item->queue = queue;
	if (item->refusal != NULL)
	{
		refuse(item);
		return;
	}
	queue->max_in_flight = item->gateway->max_in_flight;
	queue->repeat_safe =
		item->gateway->resend_uncertain ||
		item->gateway->provider->repeat_safe(item->prepared.settings, &item->prepared.message);
	set_rate_limit(queue, item->gateway->rate_limit);
	dlist_reverse_foreach (iter, &queue->ready)
	{
		if (dlist_container(OutboxItem, row.node, iter.cur)->priority >= item->priority)
		{
			after = iter.cur;
			break;
		}
	}
	dlist_insert_after(after, &item->row.node);
	queue->nready++;
	engine->nready++;
}

/* Messages of a gateway that wait to start and are not below a priority. */
static int
ready_from(GatewayQueue *queue, int priority)
{
	int n = 0;
	dlist_iter iter;

	if (queue->nready == 0 || dlist_tail_element(OutboxItem, row.node, &queue->ready)->priority >= priority)
		return queue->nready;
	dlist_foreach (iter, &queue->ready)
	{
		if (dlist_container(OutboxItem, row.node, iter.cur)->priority < priority)
			break;
		n++;
	}
	return n;
}

/*
 * How many messages of a lane to claim now.  What is claimed cannot be canceled
 * and is in doubt after a crash: so no more than about a twentieth of a second's
 * worth waits for a free slot, or a hundredth where the doubt would stay.
 */
static int
lane_limit(const Lane *lane, double now)
{
	GatewayQueue *queue = find_queue(NameStr(lane->gateway));
	double ahead;
	int limit;

	if (queue->paused)
		return !queue->paused_by_user && queue->probe_at <= now && queue->nready + queue->in_flight == 0 ? 1
																										 : 0;
	if (queue->held_until > now)
		return 0;
	ahead = queue->flow / (queue->repeat_safe ? 20 : 100);
	limit = queue->max_in_flight - queue->in_flight + (int) Max(ahead, 1) - ready_from(queue, lane->priority);
	if (queue->rate_limit > 0)
		limit = Min(limit, (int) ceil(queue->rate_limit / 10) - ready_from(queue, lane->priority));
	else if (limit < Max(ahead, queue->max_in_flight) / 2 && queue->nready > queue->max_in_flight)
		return 0; /* not worth a commit yet */
	return Max(Min(limit, guc_batch_size), 0);
}

static void
measure_flow(GatewayQueue *queue, double now)
{
	double elapsed = now - queue->flow_since;

	if (elapsed < 20)
		return;
	queue->flow = elapsed > 1000 ? 0 : 0.5 * queue->flow + 0.5 * queue->finished * 1000.0 / elapsed;
	queue->finished = 0;
	queue->flow_since = now;
}

static int
compare_lanes(const void *a, const void *b)
{
	const Lane *x = a;
	const Lane *y = b;
	int order = strcmp(NameStr(x->gateway), NameStr(y->gateway));

	return order != 0 ? order : (int) x->priority - (int) y->priority;
}

static void
add_lane(const NameData *gateway, int16 priority)
{
	Lane *lane;

	if (engine->nlanes == engine->lanes_size)
	{
		engine->lanes_size = Max(16, engine->lanes_size * 2);
		engine->lanes = engine->lanes == NULL
							? MemoryContextAlloc(engine->context, sizeof(Lane) * engine->lanes_size)
							: repalloc(engine->lanes, sizeof(Lane) * engine->lanes_size);
	}
	lane = &engine->lanes[engine->nlanes++];
	memset(lane, 0, sizeof(Lane));
	lane->gateway = *gateway;
	lane->priority = priority;
	lane->after_due = DT_NOBEGIN;
	lane->next_due = DT_NOEND;
	pg_qsort(engine->lanes, engine->nlanes, sizeof(Lane), compare_lanes);
}

/*
 * Finds lanes that are not known yet.  It looks into the gaps between the known
 * ones only, so the dead index entries that lie in those cost nothing.
 */
static void
discover_lanes(void)
{
	LaneKey from = {{{0}}, PG_INT16_MIN};

	for (int i = 0; i <= engine->nlanes; i++)
	{
		LaneKey found = from;
		LaneKey to;

		claim_lane_end(&to);
		if (i < engine->nlanes)
		{
			to.gateway = engine->lanes[i].gateway;
			to.priority = engine->lanes[i].priority;
		}
		if (claim_next_lane(&found, &to))
			add_lane(&found.gateway, found.priority); /* it is number i now */
		if (i < engine->nlanes)
		{
			from.gateway = engine->lanes[i].gateway;
			from.priority = engine->lanes[i].priority;
		}
	}
}

/* Claims what is due at "wall" from all lanes, the highest priority of all gateways first. */
static List *
claim(MemoryContext parent, TimestampTz wall)
{
	double now = now_ms();
	List *claimed = NIL;
	int last = PG_INT16_MAX + 1;

	for (;;)
	{
		int priority = PG_INT16_MIN - 1;

		for (int i = 0; i < engine->nlanes; i++)
		{
			if (engine->lanes[i].priority < last)
				priority = Max(priority, engine->lanes[i].priority);
		}
		if (priority < PG_INT16_MIN)
			return claimed;
		for (int i = 0; i < engine->nlanes; i++)
		{
			Lane *lane = &engine->lanes[i];
			int limit;
			List *items;

			if (lane->priority != priority || (lane->drained && lane->next_due > wall) ||
				(limit = lane_limit(lane, now)) == 0)
				continue;
			if (gateway_provider(NameStr(lane->gateway)) == NULL)
			{
				/* The server is gone: its messages are held until there is one again. */
				lane->drained = true;
				lane->next_due = DT_NOEND;
				continue;
			}
			items = claim_due(lane, limit, wall, parent);
			claimed = list_concat(claimed, items);
			if (items != NIL)
			{
				OutboxItem *item = llast(items);

				lane->after_due = item->due;
				lane->after_id = item->row.id;
			}
			lane->drained = list_length(items) < limit;
			lane->next_due = lane->drained ? claim_lane_due(lane, wall) : DT_NOBEGIN;
		}
		last = priority;
	}
}

/* Reads the table of pauses, if it changed, and writes news into it. */
static void
exchange_pauses(void)
{
	ListCell *lc;

	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		if (!queue->pause_news)
			continue;
		if (queue->paused)
			pause_begin(NameStr(queue->name), from_utf8(queue->reason), false);
		else
			pause_end(NameStr(queue->name), false);
	}
	if (!pauses_stale)
		return;
	pauses_stale = false;
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		if (queue->pause_news)
			continue;
		queue->paused = queue->paused_by_user = false;
	}
	foreach (lc, pause_list())
	{
		GatewayPause *pause = lfirst(lc);
		GatewayQueue *queue = find_queue(NameStr(pause->gateway));

		queue->paused = queue->paused || !queue->pause_news || pause->by_user;
		queue->paused_by_user = pause->by_user;
	}
}

/*
 * Settles the messages that another engine was sending when it ended: sent
 * again where that is harmless, else uncertain.
 */
static void
settle_orphans(void)
{
	List *orphans = lease_orphans(engine->scratch);
	dlist_head outcomes;
	ListCell *lc;

	dlist_init(&outcomes);
	foreach (lc, orphans)
	{
		OutboxItem *item = lfirst(lc);
		TimestampTz now = GetCurrentTimestamp();
		bool repeat;

		item->answer = new_answer(item);
		item->attempts++;
		if (item->unsure_since == 0)
			item->unsure_since = item->claimed_at;
		repeat =
			item->gateway != NULL && item->attempts < item->gateway->max_attempts && may_repeat(item, now);
		item->new_status = repeat ? STATUS_QUEUED : STATUS_UNCERTAIN;
		item->next_attempt_at = repeat ? now : 0;
		snprintf(item->answer->code, sizeof(item->answer->code), "crash");
		snprintf(item->answer->message, sizeof(item->answer->message),
				 "the server or its worker stopped while this message was being sent");
		dlist_push_tail(&outcomes, &item->row.node);
	}
	if (orphans != NIL)
	{
		record_outcomes(&outcomes);
		foreach (lc, orphans)
		{
			if (!((OutboxItem *) lfirst(lc))->row.recorded)
				ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
								errmsg("a message that was being sent is locked")));
		}
		ereport(LOG,
				(errmsg("%d messages were being sent when the last worker stopped", list_length(orphans))));
	}
	lease_clear();
}

/* Ends leases whose messages are all settled, and shortens those that lose some to the queue. */
static void
settle_leases(void)
{
	dlist_iter iter;
	dlist_mutable_iter lease_iter;

	dlist_foreach (iter, &engine->outcomes)
	{
		OutboxItem *item = dlist_container(OutboxItem, row.node, iter.cur);

		if (!item->row.recorded)
			continue;
		item->lease->settled++;
		if (item->new_status == STATUS_QUEUED)
			item->lease->shrinks = true;
	}
	dlist_foreach_modify (lease_iter, &engine->leases)
	{
		Lease *lease = dlist_container(Lease, node, lease_iter.cur);

		if (lease->settled == lease->size)
			lease_drop(lease->id);
		else if (lease->shrinks)
		{
			Datum *ids = palloc(sizeof(Datum) * lease->size);
			HASH_SEQ_STATUS status;
			ItemEntry *entry;
			int n = 0;

			hash_seq_init(&status, engine->items);
			while ((entry = hash_seq_search(&status)) != NULL)
			{
				if (entry->item->lease == lease && !entry->item->row.recorded)
					ids[n++] = Int64GetDatum(entry->id);
			}
			lease_set(lease->id, ids, n);
		}
	}
}

/* After commit: forgets what is recorded. */
static void
forget_recorded(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, &engine->outcomes)
	{
		OutboxItem *item = dlist_container(OutboxItem, row.node, iter.cur);

		if (!item->row.recorded)
			continue;
		if (item->new_status == STATUS_QUEUED)
			expect_due(item->new_gateway ? item->new_gateway : item->gateway_name, item->priority,
					   item->next_attempt_at);
		dlist_delete(iter.cur);
		engine->noutcomes--;
		hash_search(engine->items, &item->row.id, HASH_REMOVE, NULL);
		item_free(item);
	}
	dlist_foreach_modify (iter, &engine->leases)
	{
		Lease *lease = dlist_container(Lease, node, iter.cur);

		lease->size -= lease->settled;
		lease->settled = 0;
		lease->shrinks = false;
		if (lease->size == 0)
		{
			dlist_delete(iter.cur);
			pfree(lease);
		}
	}
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
		queue->pause_news = false;
	engine->record_at = now_ms() + (engine->noutcomes > 0 ? 1000 : 0); /* rows somebody holds */
}

/* After an abort: what was to be recorded is still to be. */
static void
unmark_recorded(void)
{
	dlist_iter iter;

	dlist_foreach (iter, &engine->outcomes)
		dlist_container(OutboxItem, row.node, iter.cur)->row.recorded = false;
	dlist_foreach (iter, &engine->leases)
	{
		Lease *lease = dlist_container(Lease, node, iter.cur);

		lease->settled = 0;
		lease->shrinks = false;
	}
	pauses_stale = true;
}

/* After commit: takes claimed messages into our hands. */
static void
adopt_claimed(List *claimed, int64 lease_id)
{
	Lease *lease;
	ListCell *lc;

	if (claimed == NIL)
		return;
	lease = MemoryContextAllocZero(engine->context, sizeof(Lease));
	lease->id = lease_id;
	lease->size = list_length(claimed);
	dlist_push_tail(&engine->leases, &lease->node);
	foreach (lc, claimed)
	{
		OutboxItem *item = lfirst(lc);
		ItemEntry *entry = hash_search(engine->items, &item->row.id, HASH_ENTER, NULL);

		entry->item = item;
		item->lease = lease;
		MemoryContextSetParent(item->context, engine->context);
	}
	foreach (lc, claimed)
		add_ready(lfirst(lc));
}

/* The work of a round, inside its transaction. */
static List *
do_round(MemoryContext claim_context, int64 *lease_id)
{
	double now = now_ms();
	TimestampTz wall = GetCurrentTimestamp();
	List *claimed = NIL;

	if (!engine->started)
		settle_orphans();
	exchange_pauses();
	if (engine->noutcomes > 0)
	{
		record_outcomes(&engine->outcomes);
		settle_leases();
		report_match(true);
	}
	else if (engine->look)
		report_match(false);
	if (!guc_enabled || engine->leaving)
		return NIL;
	poll_round();
	if (engine->look || wall >= engine->next_expiry)
		cleanup_expire(wall, &engine->next_expiry);
	if (guc_retention > 0 && now >= engine->purge_at)
	{
		TimestampTz before = wall - guc_retention * USECS_PER_SEC;

		/* Page after page while there is something to delete, but never all at once. */
		engine->purge_at = now + (cleanup_purge(before, &engine->purge_after) ? 20 : PURGE_PERIOD);
	}
	if (now >= engine->tidy_at)
	{
		cleanup_purge_kept();
		engine->tidy_at = now + TIDY_PERIOD;
	}
	if (engine->look)
		discover_lanes();
	/* A lease is of messages that were due when it was taken: orphans are known by that. */
	wall = GetCurrentTimestamp();
	claimed = claim(claim_context, wall);
	if (claimed != NIL)
		*lease_id = lease_add(claimed, wall);
	return claimed;
}

static void
end_transaction(void)
{
	PopActiveSnapshot();
	scope_leave_worker();
}

/*
 * One transaction.  Notes if there is nothing to drain any more.  An error in a
 * session goes to the user; in the worker it is logged, and the round is tried
 * again after a while, with nothing lost.
 */
static void
round_once(void)
{
	MemoryContext claim_context =
		AllocSetContextCreate(engine->context, "sms_gateway claim", ALLOCSET_SMALL_SIZES);
	MemoryContext scratch = engine->scratch;
	List *volatile claimed = NIL;
	int64 lease_id = 0;
	volatile bool failed = false;
	Oid user;
	int security;
	double began = now_ms();

	GetUserIdAndSecContext(&user, &security);
	if (!engine->in_session)
	{
		SetCurrentStatementStartTimestamp();
		pgstat_report_activity(STATE_RUNNING, "draining the outbox");
		StartTransactionCommand();
	}
	PG_TRY();
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		engine->state = scope_enter_worker(engine->in_session ? ERROR : LOG);
		if (engine->state == OUTBOX_READY)
		{
			MemoryContextSwitchTo(scratch);
			claimed = do_round(claim_context, &lease_id);
			end_transaction();
		}
		else
			PopActiveSnapshot();
		if (engine->in_session)
		{
			SetUserIdAndSecContext(user, security);
			sql_commit();
		}
		else
		{
			CommitTransactionCommand();
			SetUserIdAndSecContext(user, security);
		}
	}
	PG_CATCH();
	{
		unmark_recorded();
		poll_aborted();
		if (engine->in_session)
			PG_RE_THROW();
		EmitErrorReport();
		FlushErrorState();
		AbortCurrentTransaction();
		failed = true;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(scratch);
	if (!engine->in_session)
	{
		pgstat_report_stat(false);
		pgstat_report_activity(STATE_IDLE, NULL);
	}
	if (failed)
	{
		MemoryContextDelete(claim_context);
		engine->error_wait = Min(Max(engine->error_wait * 2, ERROR_FIRST), ERROR_MAX);
		engine->retry_at = now_ms() + engine->error_wait;
		look_back(DT_NOBEGIN);
		return;
	}
	engine->error_wait = 0;
	if (engine->full_look)
	{
		/*
		 * Under an old snapshot, a look from the start of the index walks over
		 * every message sent since: it must not take all the time.
		 */
		engine->look_at = now_ms() + Max(SAFETY_POLL, (now_ms() - began) * FULL_LOOK_SHARE);
		engine->full_look = false;
	}
	if (engine->state == OUTBOX_READY)
	{
		engine->started = true;
		engine->look = false;
		forget_recorded();
		poll_committed();
		adopt_claimed(claimed, lease_id);
	}
	MemoryContextDelete(claim_context);
}

/* ------------------------------------------------------------------------
 * The loop
 * ------------------------------------------------------------------------ */

/*
 * When the outcomes at hand are to be recorded.  While requests are started
 * anyway, a larger batch is worth more than a few milliseconds; with many
 * outcomes at hand, neither is.
 */
static double
record_time(void)
{
	if (engine->noutcomes >= guc_batch_size)
		return engine->record_at - RECORD_DELAY;
	return engine->record_at + (engine->nready > 0 ? RECORD_DELAY_BUSY - RECORD_DELAY : 0);
}

/* Is there anything that a transaction could do now? */
static bool
round_needed(double now, TimestampTz wall)
{
	if (now < engine->retry_at)
		return false;
	if (!engine->started || engine->look)
		return true;
	if (engine->noutcomes > 0 && now >= record_time())
		return true;
	if (!guc_enabled || engine->leaving)
		return false;
	if (wall >= engine->next_expiry || (guc_retention > 0 && now >= engine->purge_at))
		return true;
	if (poll_round_needed(now, wall))
		return true;
	for (int i = 0; i < engine->nlanes; i++)
	{
		Lane *lane = &engine->lanes[i];

		if ((!lane->drained || lane->next_due <= wall) && lane_limit(lane, now) > 0)
			return true;
	}
	return false;
}

static double
until(TimestampTz time, TimestampTz wall)
{
	return time == DT_NOEND ? SAFETY_POLL : Max((time - wall) / 1000.0, 0);
}

/* Milliseconds that the engine may wait for the network or its latch. */
static long
time_to_wait(double now, TimestampTz wall)
{
	double wait = Max(engine->look_at - now, 0);

	if (engine->leaving)
		return engine->noutcomes > 0 ? (long) ceil(Max(record_time() - now, 0)) : 100;
	if (engine->noutcomes > 0)
		wait = Min(wait, record_time() - now);
	wait = Min(wait, until(engine->next_expiry, wall));
	wait = Min(wait, poll_time_to_wait(now, wall));
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		if (queue->nready > 0 && queue->rate_limit > 0 && queue->in_flight < queue->max_in_flight)
			wait = Min(wait, queue->next_start - now);
		if (queue->held_until > now)
			wait = Min(wait, queue->held_until - now);
		if (queue->paused && !queue->paused_by_user && queue->probe_at > now)
			wait = Min(wait, queue->probe_at - now);
	}
	for (int i = 0; i < engine->nlanes; i++)
	{
		if (engine->lanes[i].next_due > wall)
			wait = Min(wait, until(engine->lanes[i].next_due, wall));
	}
	if (engine->retry_at > now)
		wait = Max(wait, 0) < 1 ? Min(engine->retry_at - now, 50) : Min(wait, engine->retry_at - now);
	return (long) ceil(Max(wait, 0));
}

/* Looks for reasons to look into the outbox. */
static void
notice_news(double now)
{
	TimestampTz due = worker_take_wake();

	if (due != DT_NOEND)
		look_back(due);
	if (now >= engine->look_at)
	{
		look_back(DT_NOBEGIN);
		engine->full_look = true;
		pauses_stale = true;
		engine->look_at = now + SAFETY_POLL;
	}
	if (!engine->in_session && ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		engine->look = true;
		engine->slots = Min(guc_max_in_flight, http_reserve(guc_max_in_flight));
	}
}

static bool
nothing_left(void)
{
	if (guc_enabled && !poll_idle(GetCurrentTimestamp()))
		return false;
	if (engine->noutcomes > 0 || engine->in_flight > 0 || engine->nready > 0 || !engine->started ||
		engine->look)
		return false;
	for (int i = 0; i < engine->nlanes; i++)
	{
		Lane *lane = &engine->lanes[i];

		if (!lane->drained && guc_enabled && !find_queue(NameStr(lane->gateway))->paused)
			return false;
	}
	return true;
}

static void
turn(void)
{
	double now = now_ms();

	MemoryContextReset(engine->scratch);
	MemoryContextSwitchTo(engine->scratch);
	notice_news(now);
	take_finished();
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
		measure_flow(queue, now);
	start_ready();
	if (!engine->leaving)
		poll_turn(engine->nready > 0);
	now = now_ms();
	if (round_needed(now, GetCurrentTimestamp()))
	{
		round_once();
		/*
		 * A wait for a synchronous standby that ends because we are to die, or the postmaster has
		 * died, looks like a commit.  But who is promoted may know nothing of the claim.
		 */
		if (ProcDiePending)
		{
			InterruptPending = true; /* the postmaster's death sets only the other */
			CHECK_FOR_INTERRUPTS();
		}
		start_ready();
	}
}

/*
 * Was the worker told to end, and has nothing under way any more, or no more time
 * for it?  What is under way then is settled by the next one.
 */
static bool
may_leave(void)
{
	double now = now_ms();

	if (engine->in_session || !worker_asked_to_leave())
		return false;
	if (!engine->leaving)
	{
		engine->leaving = true;
		engine->leave_at = now + LEAVE_WITHIN;
	}
	return worker_must_hurry() || now >= engine->leave_at || !engine->started ||
		   (engine->in_flight == 0 && engine->nready == 0 && engine->noutcomes == 0);
}

static void
create_engine(bool in_session)
{
	HASHCTL info = {0};
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "sms_gateway engine", ALLOCSET_DEFAULT_SIZES);

	engine = MemoryContextAllocZero(context, sizeof(Engine));
	engine->context = context;
	engine->scratch = AllocSetContextCreate(context, "sms_gateway turn", ALLOCSET_DEFAULT_SIZES);
	engine->in_session = in_session;
	info.keysize = sizeof(int64);
	info.entrysize = sizeof(ItemEntry);
	info.hcxt = context;
	engine->items = hash_create("sms_gateway messages", 1024, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_init(&engine->outcomes);
	dlist_init(&engine->leases);
	engine->look = true;
	engine->look_at = now_ms() + SAFETY_POLL;
	engine->next_expiry = DT_NOEND;
	engine->slots = Min(guc_max_in_flight, http_reserve(guc_max_in_flight));
	if (!pauses_callback)
	{
		CacheRegisterRelcacheCallback(on_relation_change, (Datum) 0);
		pauses_callback = true;
	}
	pauses_stale = true;
	poll_create(context);
}

/* Lets go of everything; messages still on their way become orphans. */
static void
destroy_engine(void)
{
	HASH_SEQ_STATUS status;
	ItemEntry *entry;
	Engine *old = engine;

	poll_destroy();
	hash_seq_init(&status, engine->items);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->item->transfer != NULL)
			http_release(entry->item->transfer);
	}
	engine = NULL;
	MemoryContextDelete(old->context);
}

/* Becomes the engine of this database; in a session, only if there is none. */
static bool
lock_engine(bool wait)
{
	LOCKTAG tag;
	LockAcquireResult result;

	set_engine_lock_tag(&tag);
	if (!IsTransactionState())
		StartTransactionCommand();
	result = LockAcquire(&tag, ExclusiveLock, true, !wait);
	if (wait)
		CommitTransactionCommand();
	return result != LOCKACQUIRE_NOT_AVAIL;
}

static void
unlock_engine(void)
{
	LOCKTAG tag;

	set_engine_lock_tag(&tag);
	LockRelease(&tag, ExclusiveLock, true);
}

/*
 * In a session beside another engine: waits until that has done the work, or is
 * gone.  Returns false when nothing is left to do.
 */
static bool
wait_for_turn(void)
{
	int all_locked = 0;

	for (int steps = 1; !lock_engine(false); steps++)
	{
		OwnerScope scope;
		bool idle;

		/*
		 * A message of a paused gateway, or that somebody is canceling, is not waited for.  But who
		 * has locked all that is due may be the worker, which claims it: so look twice, a second apart.
		 */
		scope_enter(&scope);
		idle = claim_is_idle(true, false);
		if (!idle && steps % 50 == 0)
			idle = claim_is_idle(true, true) && ++all_locked == 2;
		scope_leave(&scope);
		sql_commit();
		if (idle)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/*
 * Drains the outbox.  As the worker, for good: it returns when the extension is gone, or
 * the outbox is held (and then true).  In a session, until nothing is due or on its way; the caller
 * is connected to SPI in a way that lets it commit.
 */
bool
engine_run(bool in_session)
{
	MemoryContext caller = CurrentMemoryContext;
	volatile bool held = false;

	if (in_session)
	{
		if (!wait_for_turn())
			return false;
	}
	else
	{
		lock_engine(true);
		worker_leaves_gently();
	}

	PG_TRY();
	{
		create_engine(in_session);
		turn();
		while (engine->state == OUTBOX_READY && !(in_session && nothing_left()) && !may_leave())
		{
			double now = now_ms();

			http_wait(round_needed(now, GetCurrentTimestamp()) ? 0
															   : time_to_wait(now, GetCurrentTimestamp()));
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
			turn();
		}
		held = engine->state == OUTBOX_HELD;
	}
	PG_FINALLY();
	{
		MemoryContextSwitchTo(caller);
		if (engine != NULL)
			destroy_engine();
		unlock_engine();
	}
	PG_END_TRY();
	return held;
}

/* SQL filter of a claim: is this message in the hands of this session's engine? */
Datum
sms_gateway_claimed(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(engine_claimed(PG_GETARG_INT64(0)));
}
