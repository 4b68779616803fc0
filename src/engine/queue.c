/*
 * queue.c
 *		One gateway's messages that wait to start, and when they may: its requests at
 *		once, its rate limit, the rests that it asks for, its pauses, its flow.
 */
#include "postgres.h"

#include <math.h>

#include "base/clock.h"
#include "base/encoding.h"
#include "engine/queue.h"
#include "outbox/pause.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define PROBE_FIRST 5000.0   /* ms until a paused gateway is tried again … */
#define PROBE_MAX   900000.0 /* … doubling up to this */
#define RATE_SLACK  50.0     /* ms a rate limit may run behind and catch up */
#define ASIDE_SHARE 0.01     /* of a rate limit, for questions while messages wait */

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

/* May this gateway's next message start?  Of a paused one, only one at a time, now and then. */
bool
queue_may_start(const Engine *engine, const GatewayQueue *queue, double now)
{
	if (queue->nready == 0 || queue->in_flight >= queue->max_in_flight ||
		engine->in_flight >= engine->slots || queue->held_until > now ||
		(queue->rate_limit > 0 && queue->next_start > now))
		return false;
	return !queue->paused || (queue->in_flight == 0 && queue->probe_at <= now);
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

/* Do messages of this gateway wait, here or in the outbox? */
static bool
messages_wait(const Engine *engine, const GatewayQueue *queue)
{
	if (queue->nready > 0)
		return true;
	for (int i = 0; i < engine->nlanes; i++)
	{
		if (!engine->lanes[i].drained && strcmp(NameStr(engine->lanes[i].gateway), NameStr(queue->name)) == 0)
			return true;
	}
	return false;
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
	if (messages_wait(engine, queue))
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
 * Rests and pauses
 * ------------------------------------------------------------------------ */

/*
 * Gives a gateway a rest: for so many seconds if it said how many, else (-1) longer each time,
 * from "first" to "longest" milliseconds.
 */
void
queue_rest(GatewayQueue *queue, int seconds, double first, double longest)
{
	double now = now_ms();
	double wait = seconds >= 0 ? seconds * 1000.0 : Min(ldexp(first, Min(queue->rests, 20)), longest);

	/* Requests that were under way together fail together: that is one rest. */
	if (queue->held_until > now && seconds < 0)
		return;
	queue->rests++;
	queue->held_until = Max(queue->held_until, now + wait);
}

/* Will this gateway rest for so long that messages had better wait in the outbox? */
bool
queue_rests(const GatewayQueue *queue, double now)
{
	return queue->held_until > now + 1000 ||
		   (queue->paused && (queue->paused_by_user || queue->probe_at > now));
}

/*
 * Pauses a gateway whose answer says that it takes no messages from us; warns of it.  Each
 * failed probe doubles the time to the next.
 */
void
queue_pause(GatewayQueue *queue, const Answer *answer)
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

/* Returns the next gateway whose pause is to be written, in turn; NULL if there is none. */
GatewayQueue *
queue_with_news(const Engine *engine, const GatewayQueue *last)
{
	for (GatewayQueue *queue = last != NULL ? last->next : NULL; queue != NULL; queue = queue->next)
	{
		if (queue->pause_news)
			return queue;
	}
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		if (queue->pause_news)
			return queue;
	}
	return NULL;
}

/* In a transaction: writes into the table of pauses what is new of a gateway. */
void
queue_write_pause(const GatewayQueue *queue)
{
	if (queue->paused)
		pause_begin(NameStr(queue->name), from_utf8(queue->reason), false);
	else
		pause_end(NameStr(queue->name), false);
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
	{
		if (queue->pause_news)
			continue;
		queue->paused = queue->paused_by_user = false;
	}
	foreach (lc, pauses)
	{
		GatewayPause *pause = lfirst(lc);
		GatewayQueue *queue = queue_find(engine, NameStr(pause->gateway));

		queue->paused = queue->paused || !queue->pause_news || pause->by_user;
		queue->paused_by_user = pause->by_user;
	}
	return true;
}

/* Returns milliseconds until a gateway may do what it may not do now; infinite if that is never. */
double
queue_time_to_wait(const Engine *engine, double now)
{
	double wait = HUGE_VAL;

	for (const GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		if (queue->nready > 0 && queue->rate_limit > 0 && queue->in_flight < queue->max_in_flight)
			wait = Min(wait, queue->next_start - now);
		if (queue->held_until > now)
			wait = Min(wait, queue->held_until - now);
		if (queue->paused && !queue->paused_by_user && queue->probe_at > now)
			wait = Min(wait, queue->probe_at - now);
	}
	return wait;
}
