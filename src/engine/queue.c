/*
 * queue.c
 *		One gateway's messages that wait to start, and when they may: its requests at
 *		once, its rate limit, the rests that it asks for, its pauses, its flow.
 */
#include "postgres.h"

#include <math.h>

#include "base/clock.h"
#include "base/encoding.h"
#include "base/settings.h"
#include "engine/queue.h"
#include "gateway/gateway.h"
#include "outbox/event.h"
#include "outbox/pause.h"
#include "provider/answer.h"
#include "text/details.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "wake/slot.h"

#define PROBE_FIRST       5000.0   /* ms until a paused gateway is tried again … */
#define PROBE_MAX         900000.0 /* … doubling up to this */
#define SUSPECT_MAX       60000.0  /* … or this, if it may be that only some messages are refused */
#define FAILURES          5        /* to reach a gateway, in a row, are trouble */
#define UNREACHABLE_FIRST 1000.0
#define UNREACHABLE_MAX   300000.0
#define CALM              60000.0 /* ms without a wish for rest, until a gateway is active again … */
#define CALM_RESTS        60      /* … or so many of the rests that it wished for last */
#define LONG_REST         1000.0  /* messages spend it in the outbox */
#define TOLD_REST         5000.0  /* the table of pauses says how long it is */
#define RATE_SLACK        50.0    /* ms a rate limit may run behind and catch up */
#define ASIDE_SHARE       0.01    /* of a rate limit, for questions while messages wait */
#define SLOT_SHARE        4
#define SPARE_SLOTS       8 /* of so many, there is one to spare */

/* Returns the queue of a gateway, which is made if there is none; it lives as long as the engine. */
GatewayQueue *
queue_find(Engine *engine, const char *name)
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
		queue->below = PG_INT16_MIN;
		queue->next = engine->queues;
		engine->queues = queue;
	}
	return queue;
}

/* ------------------------------------------------------------------------
 * Messages that wait to start
 * ------------------------------------------------------------------------ */

/* Puts a message behind those that wait with a priority, or a higher one. */
static void
push_behind(Engine *engine, GatewayQueue *queue, OutboxItem *item, int priority)
{
	dlist_node *after = &queue->ready.head;
	dlist_iter iter;

	dlist_reverse_foreach (iter, &queue->ready)
	{
		if (dlist_container(OutboxItem, row.node, iter.cur)->priority >= priority)
		{
			after = iter.cur;
			break;
		}
	}
	dlist_insert_after(after, &item->row.node);
	queue->nready++;
	engine->nready++;
}

/* Puts a message among those to start: by priority, then in the order of calls. */
void
queue_push(Engine *engine, GatewayQueue *queue, OutboxItem *item)
{
	push_behind(engine, queue, item, item->priority);
}

/* Puts a message back, before those of its priority. */
void
queue_push_again(Engine *engine, GatewayQueue *queue, OutboxItem *item)
{
	push_behind(engine, queue, item, item->priority + 1);
}

/* Takes out the message that is to start next; there has to be one. */
OutboxItem *
queue_pop(Engine *engine, GatewayQueue *queue)
{
	queue->nready--;
	engine->nready--;
	return dlist_container(OutboxItem, row.node, dlist_pop_head_node(&queue->ready));
}

/* Returns how many messages wait to start and are not below a priority. */
int
queue_ready_from(GatewayQueue *queue, int priority)
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

/* May messages of this gateway be due in the outbox, as far as is known? */
bool
queue_has_due(const GatewayQueue *queue)
{
	for (int i = 0; i < queue->nlanes; i++)
	{
		if (!queue->lanes[i].drained)
			return true;
	}
	return queue->below > PG_INT16_MIN;
}

/* ------------------------------------------------------------------------
 * Slots
 * ------------------------------------------------------------------------ */

/*
 * Slots go to whoever comes first.  A gateway has all of them while nothing waits for another; else no more than
 * SLOT_SHARE times what is left free.  Some more than there are, the spare ones, are for gateways that have
 * little under way, and the last half of those for such as have nothing: whatever hangs, one that comes anew
 * finds some at once.
 */

/* Returns how many transfers there may be beyond so many. */
int
queue_spare_slots(int slots)
{
	return Max(slots / SPARE_SLOTS, 2);
}

/* Does no message wait for another gateway? */
static bool
is_alone(const Engine *engine, const GatewayQueue *queue)
{
	for (const GatewayQueue *other = engine->queues; other != NULL; other = other->next)
	{
		if (other != queue &&
			(other->nready + other->taken > 0 || (other->state == GATEWAY_ACTIVE && queue_has_due(other))))
			return false;
	}
	return true;
}

/* Returns how many more messages to claim for this gateway, as far as slots go. */
int
queue_room(const Engine *engine, const GatewayQueue *queue)
{
	int own = queue->in_flight + queue->nready + queue->taken;
	int free = engine->slots - engine->in_flight - engine->nready - engine->taken;
	int spare = queue_spare_slots(engine->slots);
	int left = free + spare;
	int room = Min((SLOT_SHARE * left - own) / (SLOT_SHARE + 1), free);

	if (room < free && is_alone(engine, queue))
		room = free;
	return Max(Max(room, (left - spare / 2 - own) / 2), own == 0 ? 1 : 0);
}

/* May one more request of this gateway be under way? */
static bool
has_slot(const Engine *engine, const GatewayQueue *queue)
{
	int own = queue->in_flight;
	int free = engine->slots - engine->in_flight;
	int spare = queue_spare_slots(engine->slots);
	int left = free + spare;

	if (own >= queue->max_in_flight || left <= 0)
		return false;
	return own == 0 || own < left - spare / 2 ||
		   (free > 0 && (own < SLOT_SHARE * left || is_alone(engine, queue)));
}

/* May this gateway's next message start?  Of one in trouble, only one at a time, now and then. */
bool
queue_may_start(const Engine *engine, const GatewayQueue *queue, double now)
{
	if (queue->nready == 0 || !has_slot(engine, queue) || queue->held_until > now ||
		(queue->rate_limit > 0 && queue->next_start > now))
		return false;
	return queue->state <= GATEWAY_RESTING || (queue->in_flight == 0 && queue->probe_at <= now);
}

/* ------------------------------------------------------------------------
 * The rate
 * ------------------------------------------------------------------------ */

/* Takes over a rate that has changed, by the options or by answers. */
static void
use_rate(GatewayQueue *queue)
{
	double now = now_ms();
	double rate = queue->pace.rate;

	if (rate == 0 || (queue->option > 0 && queue->option < rate))
		rate = queue->option;
	if (rate == queue->rate_limit)
		return;
	if (queue->rate_limit == 0)
		queue->next_start = Max(queue->next_start, now);
	else if (rate > 0)
		queue->next_start = Min(queue->next_start, Max(now + 1000.0 / rate, queue->held_until));
	queue->rate_limit = rate;
}

/* Takes over what a gateway's options say: requests a second, 0 for no limit. */
void
queue_set_rate_limit(GatewayQueue *queue, double limit)
{
	queue->option = limit;
	use_rate(queue);
}

/* A request is made: within the rate limit, the next has to wait its turn. */
void
queue_count_request(GatewayQueue *queue, double now)
{
	double slack = queue->pace.rate > 0 ? pace_slack(&queue->pace) : RATE_SLACK;

	pace_started(&queue->pace);
	if (queue->rate_limit <= 0)
		return;
	queue->next_start = Max(queue->next_start, now - slack) + 1000.0 / queue->rate_limit;
	if (queue->pace.rate > 0 && queue->next_start > now + LONG_REST)
		queue->held_until = Max(queue->held_until, queue->next_start); /* it takes next to nothing */
}

/*
 * May a request that is not a message be made within a gateway's rate limit?  Counts it
 * if so; sets *again to when to ask next.  Such requests get what messages leave, and a hundredth.
 */
bool
queue_spare_request(Engine *engine, const Gateway *gateway, double now, double *again)
{
	GatewayQueue *queue = queue_find(engine, gateway->name);

	queue_set_rate_limit(queue, gateway->rate_limit);
	*again = queue->next_start;
	if (queue->rate_limit <= 0)
		return true;
	if (queue->nready > 0 || queue_has_due(queue))
		*again = Max(queue->next_start, queue->next_aside);
	if (*again > now)
		return false;
	queue_count_request(queue, now);
	queue->next_aside = now + 1000.0 / (queue->rate_limit * ASIDE_SHARE);
	return true;
}

/* ------------------------------------------------------------------------
 * Trouble
 * ------------------------------------------------------------------------ */

static const char *const state_names[] = {
	[GATEWAY_ACTIVE] = "active",
	[GATEWAY_RESTING] = "resting",
	[GATEWAY_UNREACHABLE] = "unreachable",
	[GATEWAY_PAUSED] = "paused",
};

/* The name of a state, as the table of pauses has it. */
const char *
queue_state_name(GatewayState state)
{
	return state_names[state];
}

/* A gateway comes into a state: of trouble there is one warning, whatever follows. */
static void
enter_state(GatewayQueue *queue, GatewayState state)
{
	queue->state = state;
	queue->since = GetCurrentTimestamp();
	queue->lost = 0;
	queue->change = true;
	ereport(WARNING,
			(errmsg("gateway \"%s\" is %s: %s", NameStr(queue->name), state_names[state],
					from_utf8(queue->reason)),
			 state == GATEWAY_RESTING
				 ? errdetail("It is sent no more than it takes, until it has asked for no rest for a while.")
				 : errdetail("One message is tried again in %.0f s, the others wait.",
							 queue->probe_wait / 1000)));
}

/*
 * A gateway has trouble: one message is tried after so many milliseconds, which a failed try
 * doubles up to "longest".  What was under way together fails together: that counts once.
 */
static void
have_trouble(GatewayQueue *queue, GatewayState state, const Answer *answer, double first, double longest)
{
	double now = now_ms();
	bool same = queue->state == state;

	queue->lost++;
	if (queue->state != GATEWAY_ACTIVE && queue->probe_at > now)
		return;
	queue->probe_wait = Min(same ? Max(queue->probe_wait * 2, first) : first, longest);
	queue->probe_at = now + queue->probe_wait;
	queue->news = true;
	answer_reason(answer, queue->reason,
				  sizeof(queue->reason)); /* another one, maybe, once its server was changed */
	if (!same)
		enter_state(queue, state);
}

/* A gateway's answer says that it takes no messages from us. */
void
queue_pause(GatewayQueue *queue, const Answer *answer)
{
	have_trouble(queue, GATEWAY_PAUSED, answer, PROBE_FIRST, PROBE_MAX);
}

/*
 * An answer that may be to the message alone, as a firewall refuses a text, or to all, as a path is wrong: several
 * messages in a row that draw it are the gateway's trouble.
 */
void
queue_suspect(GatewayQueue *queue, int64 id, const Answer *answer)
{
	if (queue->state <= GATEWAY_RESTING)
	{
		for (int i = 0; i < queue->nsuspects; i++)
		{
			if (queue->suspects[i] == id)
				return;
		}
		if (queue->nsuspects < (int) lengthof(queue->suspects))
		{
			queue->suspects[queue->nsuspects++] = id;
			return;
		}
	}
	have_trouble(queue, GATEWAY_PAUSED, answer, PROBE_FIRST, SUSPECT_MAX);
}

/*
 * A request found nobody, or somebody who is broken.  One may be the message's bad luck; several in a
 * row are the gateway's trouble.
 */
void
queue_unreachable(GatewayQueue *queue, const Answer *answer)
{
	queue->failures++;
	if (queue->state == GATEWAY_ACTIVE && queue->failures < Min(FAILURES, 2 * queue->max_in_flight))
		return;
	have_trouble(queue, GATEWAY_UNREACHABLE, answer, UNREACHABLE_FIRST, Min(UNREACHABLE_MAX, guc_retry_max));
}

/*
 * An answer, to a request made at a time, says that requests come too fast: they go at the rate that the
 * gateway takes, after the rest that it asks for, up to sms_gateway.retry_max.
 */
void
queue_rest(GatewayQueue *queue, const Answer *answer, double started_at)
{
	double now = now_ms();
	double rest = answer->retry_after > 0 ? Min(answer->retry_after * 1000.0, guc_retry_max) : 0;

	queue->failures = 0;
	pace_refused(&queue->pace, now, started_at, queue->in_flight + 1, rest);
	queue->held_until = Max(queue->held_until, now + rest);
	queue->next_start = Max(queue->next_start, queue->held_until);
	use_rate(queue);
	queue->calm_at = now + Max(CALM, CALM_RESTS * rest);
	if (queue->state != GATEWAY_RESTING)
	{
		answer_reason(answer, queue->reason, sizeof(queue->reason));
		enter_state(queue, GATEWAY_RESTING);
	}
	queue->probe_at = 0;
	queue->lost++;
	queue->news = queue->news || queue->change || rest >= TOLD_REST;
}

/* Will this gateway rest for so long that messages had better wait in the outbox? */
bool
queue_rests(const GatewayQueue *queue, double now)
{
	return queue->held_until > now + LONG_REST ||
		   (queue->state > GATEWAY_RESTING && (queue->by_user || queue->probe_at > now));
}

/* Lets a gateway begin anew, whatever it was. */
void
queue_begin_anew(GatewayQueue *queue)
{
	queue->state = GATEWAY_ACTIVE;
	queue->by_user = false;
	queue->failures = queue->nsuspects = 0;
	queue->held_until = 0;
	queue->pace = (Pace){0};
	use_rate(queue);
}

/* A gateway's trouble has ended. */
static void
recover(GatewayQueue *queue)
{
	ereport(LOG,
			(errmsg_plural("gateway \"%s\" sends again after %.0f s: %d request of this process had failed",
						   "gateway \"%s\" sends again after %.0f s: %d requests of this process had failed",
						   queue->lost, NameStr(queue->name), (GetCurrentTimestamp() - queue->since) / 1e6,
						   queue->lost)));
	queue_begin_anew(queue);
	queue->news = queue->change = true;
}

/*
 * A gateway has answered a request, made at a time, as it should; returns whether that ended its trouble.
 * One that asked for rest is watched for a while: it takes what it takes.
 */
bool
queue_recovered(GatewayQueue *queue, double started_at)
{
	bool shut = queue->pace.shut;

	queue->failures = queue->nsuspects = 0;
	pace_taken(&queue->pace, now_ms(), started_at);
	if (shut && !queue->pace.shut)
		queue->held_until = 0;
	use_rate(queue);
	if (queue->state == GATEWAY_ACTIVE || (queue->state == GATEWAY_RESTING && queue->pace.rate > 0))
		return false;
	recover(queue);
	return true;
}

/* Measures how many messages a second every gateway takes, lately, and ends what its answers asked for long ago. */
void
queue_measure_flow(Engine *engine, double now)
{
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		double elapsed = now - queue->flow_since;

		if (queue->state == GATEWAY_RESTING && now >= queue->calm_at)
			recover(queue);
		if (elapsed < 20)
			continue;
		queue->flow = elapsed > 1000 ? 0 : 0.5 * queue->flow + 0.5 * queue->finished * 1000.0 / elapsed;
		queue->finished = 0;
		queue->flow_since = now;
	}
}

/* Takes over trouble that another engine had: a new one has not tried yet, and waits at first as that would have. */
void
queue_inherit(GatewayQueue *queue, GatewayState state, TimestampTz since, double wait)
{
	double now = now_ms();

	queue->state = state;
	queue->since = since;
	queue->calm_at = now + CALM;
	queue->probe_wait = state == GATEWAY_UNREACHABLE ? UNREACHABLE_FIRST : PROBE_FIRST;
	if (state == GATEWAY_RESTING)
		queue->held_until = now + Min(wait, guc_retry_max);
	else /* one that crashes again and again is not to ask each time; one that had yielded goes on */
		queue->probe_at = now + Max(slot_goes_on() ? 0 : queue->probe_wait, wait);
	/* The table says when it is tried. */
	queue->news = state != GATEWAY_RESTING && queue->probe_at > now + wait + 1;
}

/*
 * In a transaction: looks at a gateway's server and user mappings; returns whether they have changed since they were
 * seen last.
 */
bool
queue_see(GatewayQueue *queue)
{
	uint64 print = gateway_fingerprint(NameStr(queue->name), &queue->mappings);
	bool changed = queue->seen && queue->fingerprint != print;

	queue->seen = true;
	queue->fingerprint = print;
	return changed;
}

/*
 * Makes the messages of a gateway due that wait to be tried again: those of a role, or of all (InvalidOid) but those
 * whose credentials are refused.
 */
void
queue_hurry(GatewayQueue *queue, Oid role)
{
	queue->hurry_role = !queue->hurry || queue->hurry_role == role ? role : InvalidOid;
	queue->hurry = true;
	queue->due = HURRY_START;
}

/* A gateway's server or user mappings have changed: it is tried now, unless the user holds it. */
void
queue_try_now(GatewayQueue *queue)
{
	queue_hurry(queue, InvalidOid);
	if (queue->by_user || queue->state == GATEWAY_ACTIVE)
		return;
	if (queue->state == GATEWAY_RESTING)
		recover(queue);
	queue->probe_at = now_ms();
	queue->probe_wait = 0;
	queue->news = true;
}

/* ------------------------------------------------------------------------
 * Time
 * ------------------------------------------------------------------------ */

/* Returns milliseconds until a gateway may do what it may not do now; infinite if that is never. */
double
queue_time_to_wait(const Engine *engine, double now)
{
	double wait = HUGE_VAL;

	if (!guc_enabled)
		return wait;
	for (const GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		if (queue->nready > 0 && queue->rate_limit > 0 && queue->in_flight < queue->max_in_flight)
			wait = Min(wait, queue->next_start - now);
		if (queue->held_until > now)
			wait = Min(wait, queue->held_until - now);
		if (queue->state > GATEWAY_RESTING && !queue->by_user && queue->probe_at > now)
			wait = Min(wait, queue->probe_at - now);
	}
	return wait;
}
