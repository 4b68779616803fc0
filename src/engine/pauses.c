/*
 * pauses.c
 *		The table of pauses: what an engine writes there of its gateways, and what it takes over from it.
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/encoding.h"
#include "engine/credentials.h"
#include "engine/pauses.h"
#include "engine/queue.h"
#include "gateway/gateway.h"
#include "outbox/event.h"
#include "outbox/pause.h"
#include "text/details.h"
#include "utils/timestamp.h"

/* The state of a name as the table has it. */
static GatewayState
state_of_name(const char *name)
{
	int state = GATEWAY_PAUSED;

	while (state > GATEWAY_ACTIVE && strcmp(queue_state_name((GatewayState) state), name) != 0)
		state--;
	return (GatewayState) state;
}

/* Returns the next gateway whose pause is to be written, in turn; NULL if there is none. */
GatewayQueue *
pauses_with_news(const Engine *engine, const GatewayQueue *last)
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

/* When a gateway in trouble is tried; DT_NOEND: it is sent what it takes. */
static TimestampTz
next_try(const GatewayQueue *queue)
{
	bool rests = queue->state == GATEWAY_RESTING;
	double wait = (rests ? queue->held_until : queue->probe_at) - now_ms();

	return rests && wait <= 0 ? DT_NOEND : GetCurrentTimestamp() + (TimestampTz) (wait * 1000);
}

/* In a transaction: writes into the table of pauses what is new of a gateway, and tells of a new state. */
void
pauses_write(const GatewayQueue *queue)
{
	const char *name = NameStr(queue->name);
	const char *state = queue_state_name(queue->state);
	const char *reason = queue->state != GATEWAY_ACTIVE ? from_utf8(queue->reason) : NULL;

	if (reason == NULL)
		pause_end(name);
	else
		pause_note(name, state, reason, queue->since, next_try(queue));
	if (queue->change)
		tell_state(queue, state, reason);
}

/* After commit: what pauses_write() wrote is no news any more. */
void
pauses_written(GatewayQueue *queue)
{
	queue->news = queue->change = false;
}

/* Takes over one row of the table: what another engine, or the user, has put there. */
static void
take_over(Engine *engine, GatewayQueue *queue, const GatewayPause *pause)
{
	double wait =
		pause->next_probe_at == DT_NOEND ? 0 : ms_until(pause->next_probe_at, GetCurrentTimestamp());

	queue->listed = true;
	if (strcmp(pause->state, "resumed") == 0)
	{
		if (pause->since == queue->resumed_at)
			return;
		queue->resumed_at = pause->since;
		queue_begin_anew(queue);
		queue_hurry(queue, InvalidOid);
		credentials_forget(engine, queue);
		return;
	}
	if (pause->by_user)
		queue->state = GATEWAY_PAUSED;
	else if (queue->state == GATEWAY_ACTIVE && !queue->news)
		queue_inherit(queue, state_of_name(pause->state), pause->since, wait);
	queue->by_user = pause->by_user;
}

/*
 * In a round: takes over what the table of pauses says, if it changed, but for what is new here.  False if that is
 * not known yet, as somebody has locked the table.
 */
bool
pauses_read(Engine *engine)
{
	List *pauses;
	ListCell *lc;

	if (!engine->pauses_stale)
		return true;
	if ((!engine->pauses_known && !credentials_inherit(engine)) || !pause_list(&pauses))
		return engine->pauses_known;
	engine->pauses_stale = false;
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
		queue->listed = false;
	foreach (lc, pauses)
	{
		GatewayPause *pause = lfirst(lc);

		take_over(engine, queue_find(engine, NameStr(pause->gateway)), pause);
	}
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		if (queue->state != GATEWAY_ACTIVE && !queue->listed && !queue->news)
			queue_begin_anew(queue); /* sms_resume */
	}
	return true;
}
