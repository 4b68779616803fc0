/*
 * lanes.c
 *		The ranges of the outbox that messages are claimed from: one for each gateway
 *		and priority.
 *
 * A lane remembers how far it has been claimed, its bound: under an old snapshot, dead
 * index entries before it cost nothing.  So whatever puts a message before the bound has
 * to move that back.
 */
#include "postgres.h"

#include <math.h>

#include "base/clock.h"
#include "base/settings.h"
#include "engine/lanes.h"
#include "engine/queue.h"
#include "port.h"
#include "utils/memutils.h"

/* ------------------------------------------------------------------------
 * Bounds
 * ------------------------------------------------------------------------ */

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
 * Lets lanes look again, in the next round, at messages due from a time on.  DT_NOBEGIN: at
 * all, which walks over whatever an old snapshot keeps; DT_NOEND: as far as they know already.
 */
void
lane_look_back(Engine *engine, TimestampTz due)
{
	for (int i = 0; i < engine->nlanes; i++)
	{
		lower_bound_of(&engine->lanes[i], due);
		engine->lanes[i].drained = false;
	}
	engine->look = true;
}

static Lane *
find_lane(const Engine *engine, const char *gateway, int priority)
{
	for (int i = 0; i < engine->nlanes; i++)
	{
		if (engine->lanes[i].priority == priority && strcmp(NameStr(engine->lanes[i].gateway), gateway) == 0)
			return &engine->lanes[i];
	}
	return NULL;
}

/* A message goes back into the outbox: its lane has to find it when it is due. */
void
lane_expect_due(Engine *engine, const char *gateway, int priority, TimestampTz due)
{
	Lane *lane = find_lane(engine, gateway, priority);

	if (lane == NULL)
	{
		engine->look = true;
		return;
	}
	lower_bound_of(lane, due);
	lane->next_due = Min(lane->next_due, due);
}

/* ------------------------------------------------------------------------
 * Which lanes there are
 * ------------------------------------------------------------------------ */

static int
compare_lanes(const void *a, const void *b)
{
	const Lane *x = a;
	const Lane *y = b;
	int order = strcmp(NameStr(x->gateway), NameStr(y->gateway));

	return order != 0 ? order : (int) x->priority - (int) y->priority;
}

static void
add_lane(Engine *engine, const LaneKey *key)
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
	lane->gateway = key->gateway;
	lane->priority = key->priority;
	lane->after_due = DT_NOBEGIN;
	lane->next_due = DT_NOEND;
	pg_qsort(engine->lanes, engine->nlanes, sizeof(Lane), compare_lanes);
}

/*
 * In a round: finds lanes that are not known yet.  It looks into the gaps between the known
 * ones only, so the dead index entries that lie in those cost nothing.
 */
void
lane_discover(Engine *engine)
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
			add_lane(engine, &found); /* it is number i now */
		if (i < engine->nlanes)
		{
			from.gateway = engine->lanes[i].gateway;
			from.priority = engine->lanes[i].priority;
		}
	}
}

/* ------------------------------------------------------------------------
 * Claiming
 * ------------------------------------------------------------------------ */

/*
 * How many messages of a lane to claim now.  What is claimed cannot be canceled
 * and is in doubt after a crash: so no more than about a twentieth of a second's
 * worth waits for a free slot, or a hundredth where the doubt would stay.  What this round
 * has claimed for the gateway already, from lanes that go before, counts too.
 */
static int
lane_limit(Engine *engine, const Lane *lane, double now)
{
	GatewayQueue *queue = queue_find(engine, NameStr(lane->gateway));
	double ahead;
	int ready = queue_ready_from(queue, lane->priority) + queue->taken;
	int limit;

	if (queue->state > GATEWAY_RESTING)
		return !queue->by_user && queue->probe_at <= now &&
			   queue->nready + queue->taken + queue->in_flight == 0;
	if (queue->held_until > now)
		return 0;
	ahead = queue->flow / (queue->repeat_safe ? 20 : 100);
	limit = queue->max_in_flight - queue->in_flight + (int) Max(ahead, 1) - ready;
	limit = Min(limit, queue_room(engine, queue) + (int) Max(ahead, 1));
	if (queue->rate_limit > 0)
	{
		int worth = (int) ceil(queue->rate_limit / 10);

		limit = ready > worth / 2 ? 0 : Min(limit, worth - ready);
	}
	else if (limit < Max(ahead, queue->max_in_flight) / 2 && queue->nready > queue->max_in_flight)
		return 0; /* not worth a commit yet */
	return Max(Min(limit, guc_batch_size), 0);
}

/* Is there a server of this name?  If there is not, the log says so once. */
static bool
check_server(GatewayQueue *queue)
{
	bool missing = gateway_provider(NameStr(queue->name)) == NULL;

	if (missing && !queue->missing)
		ereport(WARNING,
				(errmsg("messages wait for gateway \"%s\", which does not exist", NameStr(queue->name)),
				 errhint("Create the server, or cancel these messages.")));
	queue->missing = missing;
	return !missing;
}

/* Claims up to "limit" messages of one lane, and moves its bound behind them. */
static List *
claim_from(Engine *engine, Lane *lane, int limit, MemoryContext parent, TimestampTz wall)
{
	List *items;

	if (!check_server(queue_find(engine, NameStr(lane->gateway))))
	{
		/* The server is gone: its messages are held until there is one again. */
		lane->drained = true;
		lane->next_due = DT_NOEND;
		return NIL;
	}
	items = claim_due(lane, limit, wall, parent);
	if (items != NIL)
	{
		OutboxItem *last = llast(items);

		lane->after_due = last->due;
		lane->after_id = last->row.id;
	}
	lane->drained = list_length(items) < limit;
	lane->next_due = lane->drained ? claim_lane_due(lane, wall) : DT_NOBEGIN;
	return items;
}

/* The highest priority of any lane that is below another; less than any smallint if there is none. */
static int
next_priority(const Engine *engine, int below)
{
	int priority = PG_INT16_MIN - 1;

	for (int i = 0; i < engine->nlanes; i++)
	{
		if (engine->lanes[i].priority < below)
			priority = Max(priority, engine->lanes[i].priority);
	}
	return priority;
}

/* Forgets what a round has taken: before it, and when its messages are about to be in our hands. */
static void
forget_taken(Engine *engine)
{
	engine->taken = 0;
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
		queue->taken = 0;
}

/* Counts what a lane gave, so that those after it leave the room to it; returns the same. */
static List *
count_taken(Engine *engine, const Lane *lane, List *items)
{
	queue_find(engine, NameStr(lane->gateway))->taken += list_length(items);
	engine->taken += list_length(items);
	return items;
}

/*
 * In a round: claims what is due at "wall" from all lanes, the highest priority of all
 * gateways first.  Returns a list of OutboxItem, each in a memory context of its own below "parent".
 */
List *
lane_claim(Engine *engine, MemoryContext parent, TimestampTz wall)
{
	double now = now_ms();
	List *claimed = NIL;
	int priority = PG_INT16_MAX + 1;

	forget_taken(engine);
	while ((priority = next_priority(engine, priority)) >= PG_INT16_MIN)
	{
		for (int i = 0; i < engine->nlanes; i++)
		{
			Lane *lane = &engine->lanes[i];
			int limit;

			if (lane->priority != priority || (lane->drained && lane->next_due > wall) ||
				(limit = lane_limit(engine, lane, now)) == 0)
				continue;
			claimed = list_concat(claimed,
								  count_taken(engine, lane, claim_from(engine, lane, limit, parent, wall)));
		}
	}
	forget_taken(engine);
	return claimed;
}

/* Is there a lane from which something may be claimed now? */
bool
lane_any_due(Engine *engine, double now, TimestampTz wall)
{
	for (int i = 0; i < engine->nlanes; i++)
	{
		Lane *lane = &engine->lanes[i];

		if ((!lane->drained || lane->next_due <= wall) && lane_limit(engine, lane, now) > 0)
			return true;
	}
	return false;
}

/* Is nothing due in any lane of a gateway that is neither paused nor out of reach? */
bool
lane_all_drained(Engine *engine)
{
	for (int i = 0; i < engine->nlanes; i++)
	{
		Lane *lane = &engine->lanes[i];

		if (!lane->drained && queue_find(engine, NameStr(lane->gateway))->state < GATEWAY_UNREACHABLE)
			return false;
	}
	return true;
}

/* Returns milliseconds until a message that waits for its time is due; infinite if there is none. */
double
lane_time_to_wait(const Engine *engine, TimestampTz wall)
{
	double wait = HUGE_VAL;

	for (int i = 0; i < engine->nlanes; i++)
	{
		if (engine->lanes[i].next_due > wall)
			wait = Min(wait, ms_until(engine->lanes[i].next_due, wall));
	}
	return wait;
}
