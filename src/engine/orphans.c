/*
 * orphans.c
 *		Messages that another engine was sending when it ended: sent again where that
 *		is harmless, else uncertain.
 *
 * The first round only learns which they are: from then on nothing claims them, and all others are
 * sent.  They are settled beside the rounds, those that somebody holds later.  Until all are, the leases
 * of that engine stay, so that a next engine knows of the rest.
 */
#include "postgres.h"

#include "engine/orphans.h"
#include "engine/outcome.h"
#include "outbox/lease.h"
#include "outbox/record.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Inside a transaction: finds out which messages are in doubt. */
void
orphans_find(Engine *engine)
{
	Orphans *orphans = &engine->orphans;

	if (!engine->started)
		orphans->up_to = lease_newest();
	orphans->nfound = lease_doubtful(orphans->up_to, &orphans->found);
}

/* After its commit: takes over what orphans_find() found last. */
void
orphans_found(Engine *engine)
{
	Orphans *orphans = &engine->orphans;
	HASHCTL info = {.keysize = sizeof(int64), .entrysize = sizeof(int64), .hcxt = engine->context};

	if (orphans->ids != NULL)
		hash_destroy(orphans->ids);
	orphans->ids = hash_create("sms_gateway orphans", 64, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = 0; i < orphans->nfound; i++)
		hash_search(orphans->ids, &orphans->found[i], HASH_ENTER, NULL);
	orphans->found = NULL;
}

/* Is a message in doubt, and not to be touched? */
bool
orphans_include(const Engine *engine, int64 id)
{
	return engine->orphans.ids != NULL && hash_search(engine->orphans.ids, &id, HASH_FIND, NULL) != NULL;
}

/* What becomes of a message that another engine was sending when it ended. */
static void
settle_orphan(OutboxItem *item)
{
	TimestampTz now = GetCurrentTimestamp();
	bool repeat;

	item->attempts++;
	if (item->unsure_since == 0)
		item->unsure_since = item->claimed_at;
	repeat = item->gateway != NULL && item->attempts < item->gateway->max_attempts &&
			 outcome_may_repeat(item, now);
	item->new_status = repeat ? STATUS_QUEUED : STATUS_UNCERTAIN;
	item->next_attempt_at = repeat ? now : 0;
	outcome_explain(item, "crash", "the server or its worker stopped while this message was being sent");
}

/*
 * Inside a transaction: settles what is in doubt and nobody holds, and finds out what remains; with
 * nothing left, the leases end.
 */
void
orphans_settle(Engine *engine)
{
	Orphans *orphans = &engine->orphans;
	List *items = lease_orphans(orphans->up_to, engine->scratch);
	dlist_head outcomes;
	ListCell *lc;

	dlist_init(&outcomes);
	foreach (lc, items)
	{
		OutboxItem *item = lfirst(lc);

		settle_orphan(item);
		dlist_push_tail(&outcomes, &item->row.node);
	}
	if (items != NIL)
		record_outcomes(&outcomes);
	orphans->nsettled = 0;
	foreach (lc, items)
		orphans->nsettled += ((OutboxItem *) lfirst(lc))->row.recorded;
	orphans_find(engine);
	if (orphans->nfound == 0)
		lease_clear(orphans->up_to);
}
