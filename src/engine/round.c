/*
 * round.c
 *		The transactions of the engine: a round records the outcomes at hand, does what
 *		the time has come for, and claims the next messages, in one commit.
 *
 * What a transaction did counts after its commit only: until then outcomes stay at hand,
 * marked as recorded, and what it claimed is in nobody's hands.
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/settings.h"
#include "db/home.h"
#include "db/lock.h"
#include "db/sql.h"
#include "engine/chore.h"
#include "engine/lanes.h"
#include "engine/orphans.h"
#include "engine/outcome.h"
#include "engine/pauses.h"
#include "engine/queue.h"
#include "engine/reports.h"
#include "engine/round.h"
#include "engine/send.h"
#include "engine/transact.h"
#include "miscadmin.h"
#include "outbox/event.h"
#include "outbox/identity.h"
#include "outbox/lease.h"
#include "outbox/record.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define LOCK_WAIT       "10ms" /* so long all sending stands still */
#define FULL_LOOK_SHARE 50.0   /* a look from the start may take 1/50 of the time */
#define ERROR_FIRST     250.0  /* ms until a round that failed is tried again … */
#define ERROR_MAX       5000.0
#define LOCKED_MAX      300.0

/* What a round claimed; the items are in contexts below "context" until they are adopted. */
typedef struct Claimed
{
	MemoryContext context;
	List *items;
	int64 lease;
} Claimed;

/* ------------------------------------------------------------------------
 * Inside the transaction
 * ------------------------------------------------------------------------ */

/* Counts what is recorded on the leases of the messages. */
static void
count_settled(Engine *engine)
{
	dlist_iter iter;

	dlist_foreach (iter, &engine->outcomes)
	{
		OutboxItem *item = dlist_container(OutboxItem, row.node, iter.cur);

		if (!item->row.recorded)
			continue;
		item->lease->settled++;
		if (item->new_status == STATUS_QUEUED)
			item->lease->shrinks = true;
	}
}

/* Has a lease name only those of its messages that are not recorded. */
static void
shorten_lease(Engine *engine, const Lease *lease)
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

/* Ends leases whose messages are all settled, and shortens those that lose some to the outbox. */
static void
settle_leases(Engine *engine)
{
	dlist_iter iter;

	count_settled(engine);
	dlist_foreach (iter, &engine->leases)
	{
		Lease *lease = dlist_container(Lease, node, iter.cur);

		if (lease->settled == lease->size)
			lease_drop(lease->id);
		else if (lease->shrinks)
			shorten_lease(engine, lease);
	}
}

/* Writes down what has happened since the last round. */
static void
record_news(Engine *engine)
{
	if (!engine->started)
		orphans_find(engine);
	if (engine->noutcomes > 0)
	{
		record_outcomes(&engine->outcomes);
		settle_leases(engine);
	}
}

/* Claims what is due now. */
static void
claim_messages(Engine *engine, Claimed *claimed)
{
	/* A lease is of messages that were due when it was taken: orphans are known by that. */
	TimestampTz wall = GetCurrentTimestamp();

	lane_discover(engine, wall);
	claimed->items = lane_claim(engine, claimed->context, wall);
	if (claimed->items == NIL)
		return;
	claimed->lease = lease_add(claimed->items, wall);
	starts_cover(engine->starts, claimed->items, wall);
}

/* What a round cannot do without, before it does anything: so nothing is half done when somebody has it. */
static void
lock_tables(void)
{
	static const char *const tables[] = {"sms_outbox", "sms_gateway_lease"};

	for (int i = 0; i < (int) lengthof(tables); i++)
		lock_table(home_relation(tables[i]), tables[i], RowExclusiveLock);
}

/* The work of a round, inside its transaction. */
static void
do_round(Engine *engine, Claimed *claimed)
{
	engine->identity = home_relation("sms_gateway_identity");
	lock_tables();
	record_news(engine);
	/* The first round claims nothing: what is in doubt is known when it has committed. */
	if (!guc_enabled || engine->leaving || !engine->started || !pauses_read(engine))
		return;
	engine->pauses_known = true;
	claim_messages(engine, claimed);
}

/* ------------------------------------------------------------------------
 * After the transaction
 * ------------------------------------------------------------------------ */

/* Puts an outcome that could not be recorded aside: it must not keep the others waiting. */
static void
hold_item(Engine *engine, OutboxItem *item)
{
	dlist_delete(&item->row.node);
	engine->noutcomes--;
	dlist_push_tail(&engine->held, &item->row.node);
	if (engine->nheld++ == 0 || item->row.again_at < engine->held_at)
		engine->held_at = item->row.again_at;
}

/* Takes back the outcomes that are to be tried again by now. */
static void
take_back_held(Engine *engine, double now)
{
	dlist_mutable_iter iter;

	if (engine->nheld == 0 || now < engine->held_at)
		return;
	engine->held_at = now + SAFETY_POLL;
	dlist_foreach_modify (iter, &engine->held)
	{
		OutboxItem *item = dlist_container(OutboxItem, row.node, iter.cur);

		if (item->row.again_at > now)
		{
			engine->held_at = Min(engine->held_at, item->row.again_at);
			continue;
		}
		dlist_delete(iter.cur);
		engine->nheld--;
		dlist_push_tail(&engine->outcomes, &item->row.node);
		engine->noutcomes++;
	}
}

/* After commit: the messages that are recorded are out of our hands. */
static void
forget_items(Engine *engine)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, &engine->outcomes)
	{
		OutboxItem *item = dlist_container(OutboxItem, row.node, iter.cur);

		if (!item->row.recorded)
		{
			hold_item(engine, item);
			continue;
		}
		if (item->new_status == STATUS_QUEUED)
			lane_expect_due(engine, item->new_gateway ? item->new_gateway : item->gateway_name,
							item->priority, item->next_attempt_at);
		reports_note_answer(engine, item);
		dlist_delete(iter.cur);
		engine->noutcomes--;
		hash_search(engine->items, &item->row.id, HASH_REMOVE, NULL);
		starts_release(engine->starts, item);
		item_free(item);
	}
}

/* After commit: leases have shrunk, and some have ended. */
static void
forget_leases(Engine *engine)
{
	dlist_mutable_iter iter;

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
}

/* After commit: forgets what is recorded. */
static void
forget_recorded(Engine *engine)
{
	forget_items(engine);
	forget_leases(engine);
	engine->record_at = now_ms();
}

/* After an abort: what was to be recorded is still to be. */
static void
unmark_recorded(Engine *engine)
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
	engine->pauses_stale = true;
}

/* After commit: takes claimed messages into our hands. */
static void
adopt_claimed(Engine *engine, const Claimed *claimed)
{
	Lease *lease;
	ListCell *lc;

	if (claimed->items == NIL)
		return;
	lease = MemoryContextAllocZero(engine->context, sizeof(Lease));
	lease->id = claimed->lease;
	lease->size = list_length(claimed->items);
	dlist_push_tail(&engine->leases, &lease->node);
	foreach (lc, claimed->items)
	{
		OutboxItem *item = lfirst(lc);
		ItemEntry *entry = hash_search(engine->items, &item->row.id, HASH_ENTER, NULL);

		entry->item = item;
		item->lease = lease;
		MemoryContextSetParent(item->context, engine->context);
	}
	foreach (lc, claimed->items)
		send_add_ready(engine, lfirst(lc));
}

/* ------------------------------------------------------------------------
 * The transaction
 * ------------------------------------------------------------------------ */

/* What a round does in its transaction. */
static bool
work(Engine *engine, void *claimed)
{
	engine->state = scope_enter_worker(engine->host->held_level);
	if (engine->state == OUTBOX_READY)
	{
		/* What is held is set aside, so there is no point in waiting. */
		sql_set("lock_timeout", LOCK_WAIT, GUC_ACTION_LOCAL);
		MemoryContextSwitchTo(engine->scratch);
		do_round(engine, claimed);
		scope_leave_worker();
	}
	else if (home_is_moved(true))
		identity_mark_held();
	return true;
}

/* The round's commit has met an error. */
static void
take_commit_error(Engine *engine, void *claimed)
{
	MemoryContext context = MemoryContextSwitchTo(engine->scratch);
	ErrorData *error = CopyErrorData();

	(void) claimed;
	if (engine->host->keep == NULL || error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		transact_take_error(engine);
	else
	{
		engine->host->commit_failed();
		engine->host->keep(error);
	}
	MemoryContextSwitchTo(context);
}

/* After a round that failed: nothing is claimed, and it is tried again after a while, longer each time. */
static void
round_failed(Engine *engine, const Claimed *claimed)
{
	ListCell *lc;

	unmark_recorded(engine);
	foreach (lc, claimed->items)
		starts_release(engine->starts, lfirst(lc));
	/* Whoever has locked a table lets go of it some time: that is looked for more often. */
	engine->error_wait =
		Min(Max(engine->error_wait * 2, ERROR_FIRST), engine->locked ? LOCKED_MAX : ERROR_MAX);
	engine->retry_at = now_ms() + engine->error_wait;
	lane_look_back(engine, DT_NOBEGIN);
}

/* After a round that began at a time and committed. */
static void
round_committed(Engine *engine, const Claimed *claimed, double began)
{
	bool first;

	engine->error_wait = 0;
	engine->locked = false;
	if (claimed->items != NIL)
	{
		engine->look_wait = SAFETY_POLL;
		engine->look_at = Min(engine->look_at, began + SAFETY_POLL);
	}
	if (engine->full_look)
	{
		/*
		 * Under an old snapshot, a look from the start of the index walks over
		 * every message sent since: it must not take all the time.
		 */
		engine->look_at = now_ms() + Max(engine->look_wait, (now_ms() - began) * FULL_LOOK_SHARE);
		engine->full_look = false;
	}
	if (engine->state != OUTBOX_READY)
		return;
	first = !engine->started;
	if (first)
		orphans_found(engine);
	if (first && !engine->host->ends_when_done)
		reports_look_for_all(engine); /* of what the last worker recorded */
	engine->started = true;
	chore_want_after_round(engine);
	engine->look = first || (guc_enabled && !engine->pauses_known);
	forget_recorded(engine);
	if (guc_enabled && !engine->pauses_known && !first)
		engine->retry_at = now_ms() + ERROR_FIRST; /* somebody has locked the table of pauses */
	adopt_claimed(engine, claimed);
}

/*
 * One round; notes in engine->state whether there is an outbox to drain.  An error goes where
 * the host lets it go: to a session's user, or into the log, and then the round is tried
 * again after a while, with nothing lost.
 */
void
round_run(Engine *engine)
{
	Claimed claimed = {.items = NIL};
	double began = now_ms();

	take_back_held(engine, began);
	claimed.context = AllocSetContextCreate(engine->context, "sms_gateway claim", ALLOCSET_SMALL_SIZES);
	if (transact(engine, work, take_commit_error, &claimed))
		round_committed(engine, &claimed, began);
	else
		round_failed(engine, &claimed);
	MemoryContextDelete(claimed.context);
}

/* Is there anything that a round could do now? */
bool
round_needed(Engine *engine, double now, TimestampTz wall)
{
	if (now < engine->retry_at)
		return false;
	if (!engine->started || engine->look)
		return true;
	if (engine->noutcomes > 0 && now >= outcome_record_time(engine))
		return true;
	if (engine->nheld > 0 && now >= engine->held_at)
		return true;
	if (!guc_enabled || engine->leaving)
		return false;
	return lane_any_due(engine, now, wall);
}
