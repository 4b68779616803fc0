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
#include "text/details.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define PROBE_FIRST       5000.0   /* ms until a paused gateway is tried again … */
#define PROBE_MAX         900000.0 /* … doubling up to this */
#define FAILURES          5        /* to reach a gateway, in a row, are trouble */
#define UNREACHABLE_FIRST 1000.0
#define UNREACHABLE_MAX   300000.0
#define THROTTLE_FIRST    1000.0
#define THROTTLE_MAX      60000.0
#define LONG_REST         1000.0 /* one that is worth telling */
#define RATE_SLACK        50.0   /* ms a rate limit may run behind and catch up */
#define ASIDE_SHARE       0.01   /* of a rate limit, for questions while messages wait */
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

/* Puts a message among those to start: by priority, then in the order of calls. */
void
queue_push(Engine *engine, GatewayQueue *queue, OutboxItem *item)
{
	dlist_node *after = &queue->ready.head;
	dlist_iter iter;

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
	return queue->state == GATEWAY_ACTIVE || (queue->in_flight == 0 && queue->probe_at <= now);
}

/* ------------------------------------------------------------------------
 * The rate limit, and the flow
 * ------------------------------------------------------------------------ */

/* Takes over what a gateway's options say: requests a second, 0 for no limit. */
void
queue_set_rate_limit(GatewayQueue *queue, double limit)
{
	if (queue->rate_limit == limit)
		return;
	queue->rate_limit = limit;
	queue->next_start = Max(queue->next_start, now_ms());
}

/* A request is made: within the rate limit, the next has to wait its turn. */
void
queue_count_request(GatewayQueue *queue, double now)
{
	if (queue->rate_limit > 0)
		queue->next_start = Max(queue->next_start, now - RATE_SLACK) + 1000.0 / queue->rate_limit;
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

/* Measures how many messages a second every gateway takes, lately. */
void
queue_measure_flow(Engine *engine, double now)
{
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		double elapsed = now - queue->flow_since;

		if (elapsed < 20)
			continue;
		queue->flow = elapsed > 1000 ? 0 : 0.5 * queue->flow + 0.5 * queue->finished * 1000.0 / elapsed;
		queue->finished = 0;
		queue->flow_since = now;
	}
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

/* The state of a name as the table has it. */
static GatewayState
state_of_name(const char *name)
{
	int state = GATEWAY_PAUSED;

	while (state > GATEWAY_ACTIVE && strcmp(state_names[state], name) != 0)
		state--;
	return (GatewayState) state;
}

/* A gateway comes into a state: of trouble there is one warning, whatever follows. */
static void
enter_state(GatewayQueue *queue, GatewayState state, const Answer *answer)
{
	queue->state = state;
	queue->since = GetCurrentTimestamp();
	queue->lost = 0;
	queue->change = true;
	snprintf(queue->reason, sizeof(queue->reason), "%s%s%s", answer->code, answer->message[0] ? ": " : "",
			 answer->message);
	ereport(WARNING,
			(errmsg("gateway \"%s\" is %s: %s", NameStr(queue->name), state_names[state],
					from_utf8(queue->reason)),
			 errdetail("One message is tried again in %.0f s, the others wait.", queue->probe_wait / 1000)));
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
	if (!same)
		enter_state(queue, state, answer);
}

/* A gateway's answer says that it takes no messages from us. */
void
queue_pause(GatewayQueue *queue, const Answer *answer)
{
	have_trouble(queue, GATEWAY_PAUSED, answer, PROBE_FIRST, PROBE_MAX);
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
 * Gives a gateway the rest that its answer asks for, up to sms_gateway.retry_max; if it does not say how long,
 * longer each time.
 */
void
queue_rest(GatewayQueue *queue, const Answer *answer)
{
	double now = now_ms();
	double wait = answer->retry_after >= 0 ? Min(answer->retry_after * 1000.0, guc_retry_max)
										   : Min(ldexp(THROTTLE_FIRST, Min(queue->rests, 20)), THROTTLE_MAX);

	queue->failures = 0;
	/* Requests that were under way together are refused together: that is one rest. */
	if (queue->held_until > now && answer->retry_after < 0)
		return;
	queue->rests++;
	queue->held_until = Max(queue->held_until, now + wait);
	if (wait >= LONG_REST)
		have_trouble(queue, GATEWAY_RESTING, answer, wait, wait);
}

/* Will this gateway rest for so long that messages had better wait in the outbox? */
bool
queue_rests(const GatewayQueue *queue, double now)
{
	return queue->held_until > now + 1000 ||
		   (queue->state != GATEWAY_ACTIVE && (queue->by_user || queue->probe_at > now));
}

/* Lets a gateway begin anew, whatever it was. */
static void
be_active(GatewayQueue *queue)
{
	queue->state = GATEWAY_ACTIVE;
	queue->by_user = false;
	queue->failures = queue->rests = 0;
	queue->held_until = 0;
}

/* A gateway has answered as it should; returns whether that ended its trouble. */
bool
queue_recovered(GatewayQueue *queue)
{
	queue->failures = queue->rests = 0;
	if (queue->state == GATEWAY_ACTIVE)
		return false;
	ereport(LOG, (errmsg("gateway \"%s\" sends again after %.0f s: %d requests had failed",
						 NameStr(queue->name), (GetCurrentTimestamp() - queue->since) / 1e6, queue->lost)));
	be_active(queue);
	queue->news = queue->change = true;
	return true;
}

/* ------------------------------------------------------------------------
 * The table of pauses
 * ------------------------------------------------------------------------ */

/* Returns the next gateway whose pause is to be written, in turn; NULL if there is none. */
GatewayQueue *
queue_with_news(const Engine *engine, const GatewayQueue *last)
{
	for (GatewayQueue *queue = last != NULL ? last->next : NULL; queue != NULL; queue = queue->next)
	{
		if (queue->news)
			return queue;
	}
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		if (queue->news)
			return queue;
	}
	return NULL;
}

/* Tells those who listen that a gateway is in another state. */
static void
tell_state(const GatewayQueue *queue, const char *state, const char *reason)
{
	const char *name = NameStr(queue->name);
	char *text;

	if (gateway_events(name) == EVENTS_OFF)
		return;
	text = gateway_text(name, state, reason);
	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	event_say(pstrdup(text));
	free(text);
}

/* In a transaction: writes into the table of pauses what is new of a gateway, and tells of a new state. */
void
queue_write_pause(const GatewayQueue *queue)
{
	const char *name = NameStr(queue->name);
	const char *state = state_names[queue->state];
	const char *reason = queue->state != GATEWAY_ACTIVE ? from_utf8(queue->reason) : NULL;

	if (reason == NULL)
		pause_end(name, false);
	else
		pause_note(name, state, reason, queue->since,
				   GetCurrentTimestamp() + (TimestampTz) ((queue->probe_at - now_ms()) * 1000));
	if (queue->change)
		tell_state(queue, state, reason);
}

/* After commit: what queue_write_pause() wrote is no news any more. */
void
queue_pause_written(GatewayQueue *queue)
{
	queue->news = queue->change = false;
}

/* Takes over one row of the table: what another engine, or the user, has put there. */
static void
take_over(GatewayQueue *queue, const GatewayPause *pause)
{
	double first = pause->state[0] == 'u' ? UNREACHABLE_FIRST : PROBE_FIRST;
	double now = now_ms();

	queue->listed = true;
	if (pause->by_user)
		queue->state = GATEWAY_PAUSED;
	else if (queue->state == GATEWAY_ACTIVE && !queue->news)
	{
		/* A new engine has not tried it yet, and waits at first as the old one would have. */
		queue->state = state_of_name(pause->state);
		queue->since = pause->since;
		queue->probe_wait = first;
		queue->probe_at = now + Max(first, ms_until(pause->next_probe_at, GetCurrentTimestamp()));
	}
	queue->by_user = pause->by_user;
}

/*
 * In a round: takes over what the table of pauses says, if it changed, but for what is new here.  False if that is
 * not known yet, as somebody has locked the table.
 */
bool
queue_read_pauses(Engine *engine)
{
	List *pauses;
	ListCell *lc;

	if (!engine->pauses_stale)
		return true;
	if (!pause_list(&pauses))
		return engine->pauses_known;
	engine->pauses_stale = false;
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
		queue->listed = false;
	foreach (lc, pauses)
	{
		GatewayPause *pause = lfirst(lc);

		take_over(queue_find(engine, NameStr(pause->gateway)), pause);
	}
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		if (queue->state != GATEWAY_ACTIVE && !queue->listed && !queue->news)
			be_active(queue); /* sms_resume */
	}
	return true;
}

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
		if (queue->state != GATEWAY_ACTIVE && !queue->by_user && queue->probe_at > now)
			wait = Min(wait, queue->probe_at - now);
	}
	return wait;
}
