/*
 * hurry.c
 *		Gateways that are said to be well are tried now, and so are their messages.
 *
 * Somebody who calls sms_resume, or changes a server or its user mappings, does not want to wait for a
 * back-off.  The first is told by a row in the table of pauses, the others by what is read of the catalogs.
 */
#include "postgres.h"

#include "base/clock.h"
#include "engine/credentials.h"
#include "engine/hurry.h"
#include "engine/lanes.h"
#include "engine/queue.h"
#include "outbox/pause.h"
#include "utils/timestamp.h"

#define BUSY_SHARE 4.0 /* how much longer than it takes a page waits for the next, while messages go */

static GatewayQueue *
queue_in_hurry(const Engine *engine)
{
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		if (queue->hurry)
			return queue;
	}
	return NULL;
}

/* Is there a gateway whose servers and mappings are to be looked at? */
static bool
has_news(const Engine *engine)
{
	if (engine->hurry.changes != gateway_changes())
		return true;
	for (const GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		if (!queue->seen)
			return true;
	}
	return false;
}

/* Is there something to do? */
bool
hurry_called_for(const Engine *engine)
{
	return has_news(engine) || queue_in_hurry(engine) != NULL;
}

/* Looks which gateways have changed since they were seen last. */
static void
look_at_gateways(Engine *engine)
{
	engine->hurry.changes = gateway_changes();
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		if (!queue_see(queue))
			continue;
		credentials_look(engine, queue);
		queue_try_now(queue);
	}
}

/* The work of a chore, inside its transaction: a page of the messages of one gateway. */
void
hurry_work(Engine *engine, ChoreState *state)
{
	Hurry *hurry = &engine->hurry;

	(void) state;
	if (has_news(engine))
		look_at_gateways(engine);
	hurry->tried = queue_in_hurry(engine);
	if (hurry->tried == NULL)
		return;
	hurry->next = hurry->tried->due;
	hurry->more = due_page(NameStr(hurry->tried->name), hurry->tried->hurry_role,
						   credentials_roles(engine, hurry->tried, false, 0), &hurry->next);
	if (!hurry->more)
		pause_forget_resumed(NameStr(hurry->tried->name), hurry->tried->resumed_at);
}

/* It committed.  If there is more to do, messages under way come first. */
void
hurry_committed(Engine *engine, ChoreState *state)
{
	Hurry *hurry = &engine->hurry;
	double now = now_ms();

	if (hurry->tried != NULL)
	{
		hurry->tried->hurry = hurry->more;
		hurry->tried->due = hurry->next;
		lane_look_back(engine, hurry->more ? DT_NOEND : DT_NOBEGIN);
	}
	if (queue_in_hurry(engine) != NULL)
		state->next_at = now + (engine->in_flight > 0 ? (now - state->began) * BUSY_SHARE : 0);
}
