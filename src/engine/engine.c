/*
 * engine.c
 *		Drains the outbox: claims, sends, decides what an answer means for the
 *		message, records it.
 *
 * The engine turns in one loop.  Requests are started and answers taken (send.c)
 * between two short transactions, "rounds" (round.c); a round records the outcomes at
 * hand and claims the next messages, in one commit.  While it runs, requests stay in
 * flight; while the network is awaited, no transaction is open.
 *
 * One engine at a time drains a database: its host holds a lock that ends with the
 * process.  So a lease found at the start belongs to an engine that is gone, and
 * its messages may or may not have been sent.
 */
#include "postgres.h"

#include <math.h>

#include "base/clock.h"
#include "base/compat.h"
#include "base/extension.h"
#include "base/settings.h"
#include "base/wait_event.h"
#include "engine/chore.h"
#include "engine/credentials.h"
#include "engine/engine.h"
#include "engine/lanes.h"
#include "engine/orphans.h"
#include "engine/outcome.h"
#include "engine/poll.h"
#include "engine/queue.h"
#include "engine/round.h"
#include "engine/send.h"
#include "engine/settle.h"
#include "fmgr.h"
#include "outbox/event.h"
#include "outbox/notefile.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "text/details.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "wake/slot.h"

PG_FUNCTION_INFO_V1(sms_gateway_claimed);

#define WORTH_LEAVING 200.0 /* ms with nothing to do for which another database may have the process */

/*
 * The engine that runs in this process, or NULL.  All that the engine does itself is told
 * which engine it is; but sms_gateway_claimed() is called by SQL in the midst of a round,
 * and mark_pauses_stale() by the server: nobody can hand it to those.
 */
static Engine *running = NULL;

/* ------------------------------------------------------------------------
 * The loop
 * ------------------------------------------------------------------------ */

static void
reserve_slots(Engine *engine)
{
	int spare = queue_spare_slots(guc_max_in_flight);

	engine->slots = Max(http_reserve(guc_max_in_flight + spare) - spare, 1);
	engine->slots_again_at = 0;
}

/* Tells, in the log and those who listen, that sms_gateway.enabled has been switched. */
static void
tell_switch(Engine *engine)
{
	char *text;

	if (engine->switched_on == guc_enabled)
		return;
	engine->switched_on = guc_enabled;
	ereport(LOG, (guc_enabled ? errmsg("the outbox is drained again: sms_gateway.enabled is on")
							  : errmsg("the outbox is held: sms_gateway.enabled is off")));
	text = guc_enabled ? outbox_text("active", NULL) : outbox_text("held", "sms_gateway.enabled is off");
	if (text == NULL)
		return;
	event_say(text);
	event_settle(true); /* no transaction has to commit for that */
	free(text);
}

/* Looks for reasons to look into the outbox. */
static void
notice_news(Engine *engine, double now)
{
	TimestampTz due = slot_take_wake();

	if (due != DT_NOEND)
		lane_look_back(engine, due);
	if (now >= engine->look_at)
	{
		lane_look_back(engine, DT_NOBEGIN);
		engine->full_look = true;
		engine->pauses_stale = true;
		engine->look_wait = Min(engine->look_wait * 2, SAFETY_POLL_MAX);
		engine->look_at = now + engine->look_wait;
	}
	if (engine->slots_again_at != 0 && now >= engine->slots_again_at)
		reserve_slots(engine);
	if (engine->host->reload())
	{
		engine->look = true;
		reserve_slots(engine);
		tell_switch(engine);
	}
}

/*
 * Takes note of it when the host is told to end: from then on nothing is started.  Where requests may take
 * as long as they have, the time within which all ends counts from the last answer.
 */
static bool
note_leaving(Engine *engine)
{
	double end;

	if (!engine->host->leaving())
		return false;
	end = now_ms() + engine->host->leave_within();
	if (engine->leave_at == 0)
		send_take_back(engine);
	if (engine->leave_at == 0 || (engine->host->awaits_answers && engine->in_flight > 0))
		engine->leave_at = end;
	engine->leave_at = Min(engine->leave_at, end);
	engine->leaving = true;
	return true;
}

/* A turn of the loop: takes what has come in, sends what may go, makes a round if that has work, and does a chore. */
static void
turn(Engine *engine)
{
	double now = now_ms();
	bool worked;

	MemoryContextReset(engine->scratch);
	MemoryContextSwitchTo(engine->scratch);
	notice_news(engine, now);
	send_take_finished(engine);
	queue_measure_flow(engine, now);
	send_start_ready(engine);
	if (!engine->leaving)
	{
		poll_turn(engine, engine->nready > 0);
		settle_turn(engine, engine->nready > 0);
	}
	now = now_ms();
	worked = round_needed(engine, now, GetCurrentTimestamp());
	if (worked && engine->spaced)
		http_wait(
			0, wait_event(engine->host->waits_as)); /* after the round it would go together with the next */
	engine->spaced = false;
	if (worked)
		round_run(engine);
	if (!chore_run_due(engine) && !worked)
		return;
	/*
	 * A wait for a synchronous standby that ends because we are to die, or the postmaster has
	 * died, looks like a commit.  But who is promoted may know nothing of the claim.
	 */
	if (ProcDiePending)
	{
		InterruptPending = true; /* the postmaster's death sets only the other */
		CHECK_FOR_INTERRUPTS();
	}
	note_leaving(engine);
	send_start_ready(engine);
}

/* Milliseconds until messages, questions or chores have something to do; infinite if that is not known. */
static double
time_to_work(const Engine *engine, double now, TimestampTz wall)
{
	double wait = chore_time_to_wait(engine, now, wall);

	wait = Min(wait, queue_time_to_wait(engine, now));
	return Min(wait, lane_time_to_wait(engine, now, wall));
}

/* Milliseconds that the engine may wait for the network or its latch. */
static long
time_to_wait(const Engine *engine, double now, TimestampTz wall)
{
	double wait = Max(engine->look_at - now, 0);

	if (engine->nheld > 0)
		wait = Min(wait, Max(engine->held_at - now, 0));
	if (engine->noutcomes > 0)
		wait = Min(wait, outcome_record_time(engine) - now);
	wait = Min(wait, engine->leaving ? 100 : time_to_work(engine, now, wall));
	if (engine->retry_at > now)
		wait = Max(wait, 0) < 1 ? Min(engine->retry_at - now, 50) : Min(wait, engine->retry_at - now);
	return (long) ceil(Max(wait, 0));
}

/* Waits for the network or the latch, unless there is work for a round. */
static void
wait_for_work(Engine *engine)
{
	double now = now_ms();
	TimestampTz wall = GetCurrentTimestamp();

	http_wait(round_needed(engine, now, wall) || slot_has_wake() ? 0 : time_to_wait(engine, now, wall),
			  wait_event(engine->host->waits_as));
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Is nothing due or on its way any more? */
static bool
nothing_left(Engine *engine)
{
	if (engine->noutcomes > 0 || engine->nheld > 0 || engine->in_flight > 0 || engine->nready > 0 ||
		!engine->started || engine->look)
		return false;
	if (guc_enabled && !poll_idle(engine, GetCurrentTimestamp()) && engine->chores[CHORE_POLLS].wait == 0)
		return false;
	if (guc_enabled && !settle_idle(engine, GetCurrentTimestamp()) && engine->chores[CHORE_SETTLE].wait == 0)
		return false;
	return chore_idle(engine) && (!guc_enabled || lane_all_drained(engine));
}

/*
 * Was the host told to end, and has nothing under way any more, or no more time
 * for it?  What is under way then is settled by the next engine.
 */
static bool
may_leave(Engine *engine)
{
	if (!note_leaving(engine))
		return false;
	return engine->host->must_hurry() || now_ms() >= engine->leave_at || !engine->started ||
		   (engine->in_flight == 0 && engine->nready == 0 && engine->noutcomes == 0 && engine->nheld == 0 &&
			chore_idle(engine));
}

/*
 * Does the host end?  It yields its process only when nothing is under way: all answers have come, and
 * are recorded.  An answer whose row somebody holds may take long, and meanwhile messages go.
 */
static bool
host_ends(Engine *engine)
{
	bool idle;
	bool stops;

	if (may_leave(engine))
		return true;
	if (engine->leave_at != 0)
		return false;
	idle = nothing_left(engine) && time_to_work(engine, now_ms(), GetCurrentTimestamp()) >= WORTH_LEAVING;
	stops = engine->leaving && engine->in_flight == 0 && engine->nready == 0 && engine->noutcomes == 0;
	engine->leaving = engine->host->yields(idle) && engine->nheld == 0;
	return engine->leaving && (idle || stops);
}

/* Does the engine end now? */
static bool
is_done(Engine *engine)
{
	return engine->state != OUTBOX_READY || (engine->host->ends_when_done && nothing_left(engine)) ||
		   host_ends(engine);
}

/* ------------------------------------------------------------------------
 * Beginning and end
 * ------------------------------------------------------------------------ */

/* Somebody may have written into the table of pauses. */
static void
mark_pauses_stale(Datum arg, Oid relation)
{
	(void) arg;
	(void) relation;
	if (running != NULL)
		running->pauses_stale = true;
}

/* Has mark_pauses_stale() called, for as long as this process lives: nothing can undo that. */
static void
watch_pauses(void)
{
	static bool watched = false;

	if (!watched)
		CacheRegisterRelcacheCallback(mark_pauses_stale, (Datum) 0);
	watched = true;
}

/* Makes the engine of this process, which is "running" then, until destroy(). */
static Engine *
create(const EngineHost *host)
{
	HASHCTL info = {.keysize = sizeof(int64), .entrysize = sizeof(ItemEntry)};
	/* After an error half-way it goes with whoever called; else it outlives all transactions. */
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "sms_gateway engine", ALLOCSET_DEFAULT_SIZES);
	Engine *engine = MemoryContextAllocZero(context, sizeof(Engine));

	engine->host = host;
	engine->context = context;
	engine->scratch = AllocSetContextCreate(context, "sms_gateway turn", ALLOCSET_DEFAULT_SIZES);
	info.hcxt = context;
	engine->items = hash_create("sms_gateway messages", 1024, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_init(&engine->outcomes);
	dlist_init(&engine->held);
	dlist_init(&engine->leases);
	engine->look = true;
	engine->look_wait = SAFETY_POLL;
	engine->look_at = now_ms() + engine->look_wait;
	engine->noticed = DT_NOBEGIN;
	engine->next_due = engine->next_expiry = DT_NOEND;
	engine->pauses_stale = true;
	engine->switched_on = guc_enabled;
	reserve_slots(engine);
	poll_create(engine);
	credentials_create(engine);
	watch_pauses();
	MemoryContextSetParent(context, TopMemoryContext);
	event_keep_in(context);
	running = engine;
	return engine;
}

/* Lets go of everything; messages still on their way become orphans. */
static void
destroy(Engine *engine)
{
	HASH_SEQ_STATUS status;
	ItemEntry *entry;

	poll_destroy(engine);
	settle_destroy(engine);
	hash_seq_init(&status, engine->items);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->item->transfer != NULL)
			http_release(entry->item->transfer);
	}
	starts_close(engine->starts);
	if (engine->state == OUTBOX_GONE)
		notefile_remove();
	running = NULL;
	event_keep_in(NULL);
	MemoryContextDelete(engine->context);
}

/* How an engine ends that is destroyed next. */
static EngineEnd
take_stock(Engine *engine)
{
	EngineEnd end = {.outbox = engine->state, .next_due = DT_NOEND};
	TimestampTz wall = GetCurrentTimestamp();
	double wait;

	engine->leaving = false; /* as the next engine will see it */
	wait = engine->look || lane_any_due(engine, now_ms(), wall) ? 0 : time_to_work(engine, now_ms(), wall);
	if (wait < HUGE_VAL)
		end.next_due = TimestampTzPlusMilliseconds(wall, (int64) Max(ceil(wait), 0));
	return end;
}

/*
 * Drains the outbox for a host, which holds engine_lock(); no transaction has to be open
 * but a host's own.  Returns when the extension is not here, the outbox is held, or the host
 * ends.  Raises what host->failed() throws again.
 */
EngineEnd
engine_run(const EngineHost *host)
{
	MemoryContext caller = CurrentMemoryContext;
	Engine *engine = create(host);
	EngineEnd end;

	PG_TRY();
	{
		turn(engine);
		while (!is_done(engine))
		{
			wait_for_work(engine);
			turn(engine);
		}
		end = take_stock(engine);
	}
	PG_FINALLY();
	{
		MemoryContextSwitchTo(caller);
		destroy(engine);
	}
	PG_END_TRY();
	return end;
}

/* SQL filter of a claim: is this message in the hands of this process's engine, or in doubt? */
Datum
sms_gateway_claimed(PG_FUNCTION_ARGS)
{
	int64 id = PG_GETARG_INT64(0);

	PG_RETURN_BOOL(running != NULL && (hash_search(running->items, &id, HASH_FIND, NULL) != NULL ||
									   orphans_include(running, id)));
}
