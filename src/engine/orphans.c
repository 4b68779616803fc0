/*
 * orphans.c
 *		Messages that another engine was sending when it ended: sent again where that
 *		is harmless, else uncertain.
 *
 * Which messages that engine had claimed, its leases say; which of them had started, and what had been
 * answered, the note of starts (starts.c), if it holds.  What had not started is taken off the leases at
 * once, and waits again as if nothing had been.  What was answered becomes what it would have
 * become.
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

static int
compare_leases(const void *a, const void *b)
{
	int64 x = ((const Doubt *) a)->lease;
	int64 y = ((const Doubt *) b)->lease;

	return x < y ? -1 : x > y;
}

/* Has a lease name these messages alone. */
static void
reduce_lease(int64 lease, const Doubt *doubts, int n)
{
	Datum *ids = palloc(sizeof(Datum) * (n + 1));

	for (int i = 0; i < n; i++)
		ids[i] = Int64GetDatum(doubts[i].id);
	if (n == 0)
		lease_drop(lease);
	else
		lease_set(lease, ids, n);
	pfree(ids);
}

/* Takes messages that certainly were not started off their leases, and out of those found. */
static void
take_off_unstarted(Engine *engine)
{
	Orphans *orphans = &engine->orphans;
	Doubt *found = orphans->found;
	int n = orphans->nfound;
	int kept = 0;
	int next;

	qsort(found, n, sizeof(Doubt), compare_leases);
	for (int i = 0; i < n; i = next)
	{
		int64 lease = found[i].lease;
		int first = kept;

		for (next = i; next < n && found[next].lease == lease; next++)
		{
			if (starts_find(engine->starts, found[next].id, found[next].claimed_at) != START_NOT_YET)
				found[kept++] = found[next];
		}
		if (kept - first < next - i)
			reduce_lease(lease, found + first, kept - first);
	}
	orphans->unstarted = n - kept;
	orphans->nfound = kept;
}

/* Inside a transaction: finds out which messages are in doubt. */
void
orphans_find(Engine *engine)
{
	Orphans *orphans = &engine->orphans;
	bool first = !engine->started;

	if (first)
	{
		orphans->up_to = lease_newest();
		if (engine->starts == NULL)
			engine->starts = starts_open(engine->context);
	}
	orphans->nfound = lease_doubtful(orphans->up_to, &orphans->found);
	if (first)
		take_off_unstarted(engine);
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
		hash_search(orphans->ids, &orphans->found[i].id, HASH_ENTER, NULL);
	orphans->found = NULL;
	starts_forget(engine->starts, orphans->nfound > 0);
	if (orphans->unstarted > 0)
		ereport(LOG,
				(errmsg_plural(
					"%d message was claimed but not started when the last worker stopped: it waits again",
					"%d messages were claimed but not started when the last worker stopped: they wait again",
					(unsigned long) orphans->unstarted, orphans->unstarted)));
	orphans->unstarted = 0;
}

/* Is a message in doubt, and not to be touched? */
bool
orphans_include(const Engine *engine, int64 id)
{
	return engine->orphans.ids != NULL && hash_search(engine->orphans.ids, &id, HASH_FIND, NULL) != NULL;
}

/* What becomes of a message that may have gone, as nobody knows. */
static void
settle_doubt(OutboxItem *item, TimestampTz now)
{
	bool repeat;

	item->attempts++;
	if (item->unsure_since == 0)
		item->unsure_since = item->claimed_at;
	repeat = item->gateway != NULL && item->attempts < item->gateway->max_attempts &&
			 outcome_may_repeat(item, now);
	item->new_status = repeat ? STATUS_QUEUED : STATUS_UNCERTAIN;
	item->next_attempt_at = now;
	if (item_makes_code(item))
		outcome_change_request_id(item);
	outcome_explain(item, "crash", "the server or its worker stopped while this message was being sent");
}

/*
 * Settles a message by the answer that had come, as it would have been; false if there is none, or its
 * gateway, by which to judge it, is gone.
 */
static bool
settle_answered(Engine *engine, OutboxItem *item)
{
	TimestampTz answered_at;

	if (item->gateway == NULL ||
		starts_find(engine->starts, item->row.id, item->claimed_at) != START_ANSWERED)
		return false;
	item->answer = outcome_new_answer(item);
	answered_at = starts_read_answer(engine->starts, item->row.id, item->claimed_at, item->answer);
	outcome_judge(engine, item);
	if (item->new_status == STATUS_SENT)
		item->sent_at = answered_at;
	return true;
}

/* What becomes of a message that another engine was sending when it ended. */
static void
settle_orphan(Engine *engine, OutboxItem *item)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!settle_answered(engine, item))
		settle_doubt(item, now);
	outcome_will_be_followed(engine, item);
	/* That it is due later than its lease was taken says that it is settled: whatever the clock does. */
	if (item->new_status == STATUS_QUEUED)
		item->next_attempt_at = Max(Max(item->next_attempt_at, now), item->claimed_at + 1);
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

		settle_orphan(engine, item);
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
