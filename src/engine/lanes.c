/*
 * lanes.c
 *		The ranges of the outbox that messages are claimed from: one for each gateway and
 *		priority of which something is due.
 *
 * A lane remembers how far it has been claimed, its bound: under an old snapshot, dead
 * index entries before it cost nothing.  So whatever puts a message before the bound has
 * to move that back.
 *
 * Priorities are many where somebody likes it so, and most of their messages may be for later:
 * nothing here costs time for each priority that there is.
 *
 * - What has become due since the last look is read from the index of times (notice()): it
 *   names gateway and priority, and makes the lane, with its bound right before it.
 * - Of what is due later, only the time of the first is known.
 * - A gateway has LANES_MAX lanes, those of its highest priorities.  Where there are more, or more
 *   has become due than is worth reading one by one, queue->below says which priorities may have
 *   unknown ones; those are looked through, some in each round, from the highest down, and only as
 *   far as there is room for their lanes (search()).
 */
#include "postgres.h"

#include <math.h>

#include "base/clock.h"
#include "base/settings.h"
#include "engine/credentials.h"
#include "engine/lanes.h"
#include "engine/queue.h"
#include "utils/builtins.h"

#define NOTICED        200  /* messages read at once … */
#define NOTICE_READS   8    /* … so often, in one look */
#define SEARCHED       250  /* priorities of a gateway looked through in one round … */
#define SEARCH_COST    4    /* … counting each statement as so many */
#define SEARCH_SHARE   50.0 /* of the time, 1/50, if there is something else to claim */
#define ALL_PRIORITIES (PG_INT16_MAX + 1)

/* A commit stops all sending until the disk has it: so it is to be worth it, by how much of what may wait there is room for. */
#define WORTH_ROUND 0.875 /* to have a round made for a claim alone … */
#define WORTH_CLAIM 0.25  /* … to claim in one that is made anyway */

/* ------------------------------------------------------------------------
 * What is due
 * ------------------------------------------------------------------------ */

/* Moves a lane's bound back so that it finds messages due from a time on. */
static void
lower_bound_of(Lane *lane, TimestampTz due)
{
	TimestampTz before = due > DT_NOBEGIN ? due - 1 : DT_NOBEGIN;

	lane->drained = false;
	if (lane->after_due >= due)
	{
		lane->after_due = before;
		lane->after_id = PG_INT64_MAX;
	}
	if (lane->passed_due >= due)
	{
		lane->passed_due = before;
		lane->passed_id = PG_INT64_MAX;
	}
}

/* Has the next round look at messages due from a time on; DT_NOEND: as far as was looked already. */
void
lane_look_back(Engine *engine, TimestampTz due)
{
	engine->noticed = Min(engine->noticed, due > DT_NOBEGIN ? due - 1 : DT_NOBEGIN);
	engine->look = true;
}

/* Makes room for one more lane of a priority; false if all that are there go before it. */
static bool
make_room(GatewayQueue *queue, int priority)
{
	int i = queue->nlanes - 1;

	if (queue->nlanes < LANES_MAX)
		return true;
	while (i >= 0 && !queue->lanes[i].drained)
		i--;
	if (i < 0)
	{
		/* It gives up one that something is due of: that is searched for again, in its time. */
		i = queue->nlanes - 1;
		queue->below = Max(queue->below, Min(queue->lanes[i].priority, priority) + 1);
		if (priority < queue->lanes[i].priority)
			return false;
	}
	queue->nlanes--;
	memmove(&queue->lanes[i], &queue->lanes[i + 1], sizeof(Lane) * (queue->nlanes - i));
	return true;
}

/* Messages of a gateway and priority are due since a time: their lane has to find them. */
static void
expect(GatewayQueue *queue, int priority, TimestampTz due)
{
	int i = 0;

	while (i < queue->nlanes && queue->lanes[i].priority > priority)
		i++;
	if (i < queue->nlanes && queue->lanes[i].priority == priority)
	{
		lower_bound_of(&queue->lanes[i], due);
		return;
	}
	if (!make_room(queue, priority))
		return;
	for (i = queue->nlanes; i > 0 && queue->lanes[i - 1].priority < priority; i--)
		queue->lanes[i] = queue->lanes[i - 1];
	queue->lanes[i] = (Lane){.priority = priority, .after_due = DT_NOEND, .passed_due = DT_NOEND};
	lower_bound_of(&queue->lanes[i], due);
	queue->nlanes++;
}

/* A message goes back into the outbox: it has to be found when it is due. */
void
lane_expect_due(Engine *engine, const char *gateway, int priority, TimestampTz due)
{
	if (due > engine->noticed)
		engine->next_due = Min(engine->next_due, due);
	else
		expect(queue_find(engine, gateway), priority, due);
}

/* ------------------------------------------------------------------------
 * Searching priorities that are not known
 * ------------------------------------------------------------------------ */

/* The first lane of a gateway, from its turn on, that is not drained; NULL if there is none. */
static Lane *
lane_in_turn(GatewayQueue *queue)
{
	while (queue->turn < queue->nlanes && queue->lanes[queue->turn].drained)
		queue->turn++;
	return queue->turn < queue->nlanes ? &queue->lanes[queue->turn] : NULL;
}

/* The first of all its lanes that is not drained. */
static Lane *
first_lane(GatewayQueue *queue)
{
	queue->turn = 0;
	return lane_in_turn(queue);
}

/* Of any priority, messages of a gateway may be due: has them searched, from the highest priority down. */
static void
begin_search(GatewayQueue *queue)
{
	/* A search that takes its time comes to its end first, or those of low priority would never be found. */
	queue->search_again = queue->below > PG_INT16_MIN && queue->search_at != 0;
	if (queue->search_again)
		return;
	queue->below = ALL_PRIORITIES;
	queue->search_at = 0;
}

/* May there be messages that no lane finds, and would their lanes have room? */
static bool
wants_search(const GatewayQueue *queue)
{
	if (queue->below == PG_INT16_MIN)
		return false;
	for (int i = 0; i < queue->nlanes; i++)
	{
		if (queue->lanes[i].drained || queue->lanes[i].priority < queue->below)
			return true;
	}
	return queue->nlanes < LANES_MAX;
}

/*
 * Looks through a gap between two lanes, for at most so many priorities.  Returns what that has cost;
 * *any: something is due.
 */
static int
search_gap(GatewayQueue *queue, TimestampTz wall, int limit, bool *any)
{
	FoundPriority *found = palloc(sizeof(FoundPriority) * limit);
	int above = PG_INT16_MIN - 1;
	int n;

	for (int i = 0; i < queue->nlanes && above < PG_INT16_MIN; i++)
	{
		if (queue->lanes[i].priority < queue->below)
			above = queue->lanes[i].priority;
	}
	n = claim_find_priorities(&queue->name, queue->below, above, wall, found, limit);
	queue->below = Max(n == limit ? found[n - 1].priority : above, PG_INT16_MIN);
	for (int i = 0; i < n; i++)
	{
		if (found[i].due == DT_NOEND)
			continue;
		expect(queue, found[i].priority, found[i].due);
		*any = true;
	}
	return n + SEARCH_COST;
}

/*
 * In a round: looks through some of a gateway's priorities.  While there is something else to send
 * and nothing is found, that takes no more than a small share of the time.
 */
static void
search(GatewayQueue *queue, TimestampTz wall)
{
	double began = now_ms();
	double ended;
	bool any = false;

	for (int left = SEARCHED; left > 0 && wants_search(queue);)
		left -= search_gap(queue, wall, left, &any);
	ended = now_ms();
	queue->search_at = any || first_lane(queue) == NULL ? 0 : ended + (ended - began) * SEARCH_SHARE;
	if (queue->below == PG_INT16_MIN && queue->search_again)
		queue->below = ALL_PRIORITIES;
	if (queue->below == ALL_PRIORITIES)
		queue->search_again = false;
}

/* ------------------------------------------------------------------------
 * Noticing what has become due
 * ------------------------------------------------------------------------ */

/* Reads what has become due since the last look; false if that is more than is worth reading one by one. */
static bool
read_due(Engine *engine, TimestampTz wall)
{
	DuePlace *found = palloc(sizeof(DuePlace) * NOTICED);
	DuePlace last;

	claim_after_all(&last, wall);
	for (int reads = 0; reads < NOTICE_READS; reads++)
	{
		int n = claim_find_due(&last, engine->noticed, found, NOTICED);

		for (int i = 0; i < n; i++)
		{
			/* Messages queued together are one. */
			if (found[i].due == last.due && found[i].priority == last.priority &&
				namestrcmp(&found[i].gateway, NameStr(last.gateway)) == 0)
				continue;
			last = found[i];
			expect(queue_find(engine, NameStr(last.gateway)), last.priority, last.due);
		}
		if (n < NOTICED)
			return true;
	}
	return false;
}

static int
compare_queues(const ListCell *a, const ListCell *b)
{
	return namestrcmp(&((GatewayQueue *) lfirst(a))->name, NameStr(((GatewayQueue *) lfirst(b))->name));
}

/*
 * Finds gateways that are not known yet.  It looks into the gaps between the known ones only, so
 * the dead index entries that lie in those cost nothing.
 */
static void
find_gateways(Engine *engine)
{
	List *known = NIL;
	ListCell *lc;
	NameData from = {{0}};
	DuePlace end;

	claim_after_all(&end, DT_NOEND);
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
		known = lappend(known, queue);
	list_sort(known, compare_queues);
	foreach (lc, known)
	{
		GatewayQueue *queue = lfirst(lc);

		while (claim_next_gateway(&from, &queue->name))
			queue_find(engine, NameStr(from));
		from = queue->name;
	}
	while (claim_next_gateway(&from, &end.gateway))
		queue_find(engine, NameStr(from));
}

/* In a round: makes lanes of what has become due since the last look, up to now. */
static void
notice(Engine *engine, TimestampTz wall)
{
	if (!read_due(engine, wall))
	{
		find_gateways(engine);
		for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
		{
			for (int i = 0; i < queue->nlanes; i++)
				lower_bound_of(&queue->lanes[i], engine->noticed);
			begin_search(queue);
		}
	}
	engine->noticed = wall;
	engine->next_due = claim_next_due(wall);
}

/* In a round: finds the lanes of what is due at "wall", as far as they are not known. */
void
lane_discover(Engine *engine, TimestampTz wall)
{
	double now = now_ms();

	if (engine->look || engine->next_due <= wall)
		notice(engine, wall);
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		if (queue->search_at <= now && wants_search(queue))
			search(queue, wall);
	}
}

/* ------------------------------------------------------------------------
 * Claiming
 * ------------------------------------------------------------------------ */

/*
 * How many messages of a lane there is room for.  What is claimed cannot be canceled
 * and is in doubt after a crash: so no more than about a twentieth of a second's
 * worth waits for a free slot, or a hundredth where the doubt would stay.  What this round
 * has claimed for the gateway already, from lanes that go before, counts too.  While messages that go
 * before wait for a slot, less than a share of what may wait is not worth it: none.
 */
static int
room_for(const Engine *engine, GatewayQueue *queue, const Lane *lane, double now, double worth)
{
	double ahead;
	int before = queue_ready_from(queue, lane->priority);
	int ready = before + queue->taken;
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
		int tenth = (int) ceil(queue->rate_limit / 10);

		limit = ready > tenth / 2 ? 0 : Min(limit, tenth - ready);
	}
	else if (limit < Max(ahead, queue->max_in_flight) * worth && before > queue->max_in_flight)
		return 0;
	return Max(limit, 0);
}

/* A claim of a round. */
typedef struct Claim
{
	MemoryContext parent; /* of the messages' contexts */
	TimestampTz wall;
	double now;
} Claim;

/* Is there a server of this name?  If there is not, the log says so once. */
static bool
check_server(GatewayQueue *queue)
{
	bool missing = gateway_provider(NameStr(queue->name)) == NULL;

	if (!queue->seen)
		(void) queue_see(queue);
	if (missing && !queue->missing)
		ereport(WARNING,
				(errmsg("messages wait for gateway \"%s\", which does not exist", NameStr(queue->name)),
				 errhint("Create the server, or cancel these messages.")));
	queue->missing = missing;
	return !missing;
}

/* Moves a lane's bound behind messages that were claimed in order, up to "limit" of them. */
static void
move_behind(Lane *lane, const List *items, int limit)
{
	if (items != NIL)
	{
		const OutboxItem *last = llast(items);

		lane->after_due = last->due;
		lane->after_id = last->row.id;
	}
	lane->drained = list_length(items) < limit;
}

/*
 * Claims messages of a lane of which those of some roles, maybe a hundred thousand, have only to be put back, as their
 * credentials are refused: others go before, and when those are claimed, some of these are put back.
 */
static List *
claim_others_first(const GatewayQueue *queue, Lane *lane, int room, const List *roles, const Claim *claim)
{
	List *others = claim_due_of(&queue->name, lane, roles, true, room, claim->wall, claim->parent);
	int limit = Min(room + 2 * queue->put_back, guc_batch_size);
	List *items;

	if (list_length(others) == room)
	{
		const OutboxItem *last = llast(others);

		lane->passed_due = last->due;
		lane->passed_id = last->row.id;
		return others;
	}
	lane->passed_due = claim->wall;
	lane->passed_id = PG_INT64_MAX;
	items = claim_due_of(&queue->name, lane, roles, false, limit, claim->wall, claim->parent);
	move_behind(lane, items, limit);
	return list_concat(others, items);
}

/* Claims messages of one lane that there is room for, and moves its bound behind them. */
static List *
claim_from(Engine *engine, GatewayQueue *queue, Lane *lane, int room, const Claim *claim)
{
	const List *roles = credentials_roles(engine, queue, true, claim->now);
	List *items;

	if (!check_server(queue))
	{
		/* The server is gone: its messages are held until there is one again. */
		lane->drained = true;
		return NIL;
	}
	if (roles != NIL)
		return claim_others_first(queue, lane, room, roles, claim);
	items = claim_due(&queue->name, lane, room, claim->wall, claim->parent);
	move_behind(lane, items, room);
	lane->passed_due = DT_NOBEGIN;
	return items;
}

/* Before a round claims, and when that is about to be in our hands: nothing is taken, all lanes are to come. */
static void
forget_taken(Engine *engine)
{
	engine->taken = 0;
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
		queue->taken = queue->turn = 0;
}

/* The gateway whose lane in turn has the highest priority of all; NULL if none is left. */
static GatewayQueue *
queue_in_turn(Engine *engine)
{
	GatewayQueue *first = NULL;

	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		Lane *lane = lane_in_turn(queue);

		if (lane != NULL && (first == NULL || lane->priority > lane_in_turn(first)->priority))
			first = queue;
	}
	return first;
}

/*
 * In a round: claims what is due at "wall" from all lanes, the highest priority of all
 * gateways first.  Returns a list of OutboxItem, each in a memory context of its own below "parent".
 */
List *
lane_claim(Engine *engine, MemoryContext parent, TimestampTz wall)
{
	Claim claim = {.parent = parent, .wall = wall, .now = now_ms()};
	List *claimed = NIL;
	GatewayQueue *queue;

	forget_taken(engine);
	while ((queue = queue_in_turn(engine)) != NULL)
	{
		Lane *lane = lane_in_turn(queue);
		int room = Min(room_for(engine, queue, lane, claim.now, WORTH_CLAIM), guc_batch_size);
		List *items;

		if (room == 0)
		{
			queue->turn = queue->nlanes; /* nor is there room for those below */
			continue;
		}
		items = claim_from(engine, queue, lane, room, &claim);
		queue->turn++;
		queue->taken += list_length(items);
		engine->taken += list_length(items);
		claimed = list_concat(claimed, items);
	}
	forget_taken(engine);
	for (queue = engine->queues; queue != NULL; queue = queue->next)
		queue->put_back = 0;
	return claimed;
}

/* Is there something to claim now, or to look for? */
bool
lane_any_due(Engine *engine, double now, TimestampTz wall)
{
	if (engine->next_due <= wall)
		return true;
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		Lane *lane = first_lane(queue);

		if (lane != NULL && room_for(engine, queue, lane, now, WORTH_ROUND) > 0)
			return true;
		if (queue->search_at <= now && wants_search(queue))
			return true;
	}
	return false;
}

/* Is nothing due of a gateway that is neither paused nor out of reach? */
bool
lane_all_drained(Engine *engine)
{
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		if (queue->state < GATEWAY_UNREACHABLE && queue_has_due(queue))
			return false;
	}
	return true;
}

/* Returns milliseconds until a message that waits for its time is due, or is searched for; infinite if there is none. */
double
lane_time_to_wait(const Engine *engine, double now, TimestampTz wall)
{
	double wait = engine->next_due > wall ? ms_until(engine->next_due, wall) : HUGE_VAL;

	for (const GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		if (queue->search_at > now && wants_search(queue))
			wait = Min(wait, queue->search_at - now);
	}
	return wait;
}
