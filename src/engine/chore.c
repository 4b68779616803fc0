/*
 * chore.c
 *		What is done beside the rounds, each chore in a transaction of its own.
 *
 * A round records and claims, and nothing else is in it: what goes wrong in a chore costs that
 * chore alone.  When it is done next is settled before it is begun, it waits for nobody's lock for
 * long, and does a bounded piece of its work at a time.  A failure is one WARNING, and again only
 * when its cause changes, or once an hour; the chore is then tried again after a while, longer each time.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "base/clock.h"
#include "base/settings.h"
#include "commands/dbcommands.h"
#include "db/home.h"
#include "db/sql.h"
#include "engine/chore.h"
#include "engine/credentials.h"
#include "engine/hurry.h"
#include "engine/lanes.h"
#include "engine/orphans.h"
#include "engine/pauses.h"
#include "engine/poll.h"
#include "engine/queue.h"
#include "engine/reports.h"
#include "engine/settle.h"
#include "engine/transact.h"
#include "miscadmin.h"
#include "outbox/cleanup.h"
#include "outbox/event.h"
#include "outbox/identity.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define LOCK_WAIT      "20ms" /* for what cannot skip a lock: so long all sending stands still */
#define DELETE_TIME    200.0 /* ms that a page may take to be deleted: users have foreign keys and triggers */
#define WAIT_FIRST     1000.0    /* ms until a chore that failed is tried again … */
#define WAIT_MAX       300000.0  /* … doubling up to this */
#define WARN_AGAIN     3600000.0 /* ms until the same cause is told again */
#define REST_FIRST     10000.0   /* ms between looks at what could not be deleted, doubling up to WAIT_MAX */
#define HELD_FIRST     250.0     /* ms until a message in doubt that somebody holds is tried again … */
#define HELD_MAX       5000.0    /* … doubling up to this */
#define EVENTS_AT_ONCE 500
#define RETENTION_PAGE 1000
#define BUSY_SHARE                                                                                           \
	4.0 /* how much longer than it takes a page of many waits for the next, while messages go */

typedef struct Chore
{
	const char *what; /* it does, as in "could not do it in database" */
	double period;    /* ms between two runs that nothing calls for */
	double shortest;  /* ms between two runs that something calls for */
	bool always;      /* also while sending is switched off, or this process is to end */
	double limit;     /* ms that its work may take; 0: it sees to that itself */
	/* Its work, inside the transaction; may set next_at and wanted for the next. */
	void (*work)(Engine *engine, ChoreState *state);
	void (*committed)(Engine *engine, ChoreState *state); /* after its commit; or NULL */
	void (*failed)(Engine *engine, ChoreState *state);    /* after it has failed; or NULL */
} Chore;

/* ------------------------------------------------------------------------
 * The chores
 * ------------------------------------------------------------------------ */

/* There may be more to do: at once, but while messages are under way those come first. */
static void
go_on(const Engine *engine, ChoreState *state, double began)
{
	double now = now_ms();

	state->wanted = true;
	state->next_at = now + (engine->in_flight > 0 ? (now - began) * BUSY_SHARE : 0);
}

static void
settle_orphans(Engine *engine, ChoreState *state)
{
	(void) state;
	if (engine->orphans.up_to != 0)
		orphans_settle(engine);
}

static void
settled(Engine *engine, ChoreState *state)
{
	Orphans *orphans = &engine->orphans;

	if (orphans->up_to == 0)
		return;
	orphans_found(engine);
	if (orphans->nsettled > 0)
	{
		ereport(LOG, (errmsg_plural("%d message was being sent when the last worker stopped",
									"%d messages were being sent when the last worker stopped",
									(unsigned long) orphans->nsettled, orphans->nsettled)));
		lane_look_back(engine, DT_NOBEGIN); /* some of them are due again … */
		reports_look_for_all(engine);       /* … and others may have been reported */
	}
	if (orphans->nfound == 0)
	{
		orphans->up_to = 0;
		return;
	}
	/* Somebody holds the others. */
	orphans->wait = orphans->nsettled > 0 ? HELD_FIRST : Min(Max(orphans->wait * 2, HELD_FIRST), HELD_MAX);
	state->next_at = now_ms() + orphans->wait;
	state->wanted = true;
}

static void
settle_again(Engine *engine, ChoreState *state)
{
	(void) engine;
	state->wanted = true;
}

static void
write_place(Engine *engine, ChoreState *state)
{
	(void) engine;
	(void) state;
	if (home_is_unwritten())
		identity_write_place();
}

static void
write_pause(Engine *engine, ChoreState *state)
{
	(void) state;
	engine->pause_written = pauses_with_news(engine, engine->pause_written);
	if (engine->pause_written != NULL)
		pauses_write(engine->pause_written);
}

static void
pause_was_written(Engine *engine, ChoreState *state)
{
	(void) state;
	if (engine->pause_written != NULL)
		pauses_written(engine->pause_written);
}

static void
tell_events(Engine *engine, ChoreState *state)
{
	(void) state;
	engine->ntold = event_tell_kept(EVENTS_AT_ONCE);
}

static void
events_were_told(Engine *engine, ChoreState *state)
{
	(void) state;
	event_told(engine->ntold);
}

static void
poll(Engine *engine, ChoreState *state)
{
	(void) state;
	poll_round(engine);
}

static void
polled(Engine *engine, ChoreState *state)
{
	(void) state;
	poll_committed(engine);
}

static void
poll_failed(Engine *engine, ChoreState *state)
{
	(void) state;
	poll_aborted(engine);
}

static void
expire(Engine *engine, ChoreState *state)
{
	double began = now_ms();
	TimestampTz wall = GetCurrentTimestamp();

	cleanup_expire(wall, &engine->next_expiry);
	if (engine->next_expiry <= wall)
		go_on(engine, state, began);
}

/* All is looked through: what was passed over is looked for again, but less and less often. */
static void
rest_after_pass(Retention *retention, ChoreState *state)
{
	retention->rest = retention->skipped ? Min(Max(retention->rest * 2, REST_FIRST), WAIT_MAX) : 0;
	retention->skipped = false;
	state->next_at = now_ms() + retention->rest;
}

static void
delete_old(Engine *engine, ChoreState *state)
{
	Retention *retention = &engine->retention;
	double began = now_ms();

	if (guc_retention == 0)
		return;
	if (retention->page == 0)
		*retention = (Retention){.page = RETENTION_PAGE, .after = {.ended_at = DT_NOBEGIN}};
	retention->tried = retention->after;
	if (cleanup_purge(GetCurrentTimestamp() - guc_retention * USECS_PER_SEC, retention->page,
					  &retention->after, &retention->tried))
		go_on(engine, state, began);
	else
		rest_after_pass(retention, state);
	if (now_ms() - began < DELETE_TIME / 4)
		retention->page = Min(retention->page * 2, RETENTION_PAGE);
	retention->late = 0;
}

/*
 * What cannot be deleted is searched for in smaller and smaller pages, and passed over.  Where each takes too
 * long, those that follow are tried more and more seldom.
 */
static void
delete_fewer(Engine *engine, ChoreState *state)
{
	Retention *retention = &engine->retention;
	double took = now_ms() - state->began;
	double wait = Max(took * BUSY_SHARE, 20);

	if (retention->tried.id == retention->after.id)
		return;
	if (retention->page > 1)
		retention->page /= 2;
	else
	{
		retention->after = retention->tried;
		retention->skipped = true;
		if (took >= DELETE_TIME / 2)
			wait *= 1 << Min(retention->late++, 16);
	}
	state->next_at = now_ms() + Min(wait, WAIT_MAX);
	state->wanted = true;
}

static void
delete_old_reports(Engine *engine, ChoreState *state)
{
	double began = now_ms();

	if (cleanup_purge_reports())
		go_on(engine, state, began);
}

static void
delete_old_codes(Engine *engine, ChoreState *state)
{
	double began = now_ms();

	if (cleanup_purge_codes())
		go_on(engine, state, began);
}

static void
delete_old_counters(Engine *engine, ChoreState *state)
{
	double began = now_ms();

	if (cleanup_purge_counters())
		go_on(engine, state, began);
}

static const Chore chores[CHORE_COUNT] = {
	[CHORE_ORPHANS] = {"settle messages that were being sent", HUGE_VAL, 0, true, 0, settle_orphans, settled,
					   settle_again},
	[CHORE_PLACE] = {"write down where this server runs", HUGE_VAL, 0, true, 0, write_place, NULL, NULL},
	[CHORE_PAUSES] = {"write down a pause", HUGE_VAL, 0, true, 0, write_pause, pause_was_written, NULL},
	[CHORE_CREDENTIALS] = {"write down whose credentials are refused", HUGE_VAL, 0, true, 0,
						   credentials_write, credentials_written, NULL},
	[CHORE_EVENTS] = {"tell events", HUGE_VAL, 0, true, 0, tell_events, events_were_told, NULL},
	[CHORE_POLLS] = {"follow messages that were sent", HUGE_VAL, 0, false, 0, poll, polled, poll_failed},
	[CHORE_SETTLE] = {"settle messages in doubt", HUGE_VAL, 0, false, 0, settle_work, settle_committed, NULL},
	[CHORE_HURRY] = {"try at once what waits to be tried again", HUGE_VAL, 100, false, 0, hurry_work,
					 hurry_committed, NULL},
	[CHORE_EXPIRY] = {"end messages whose time has passed", 5000, 100, false, 0, expire, NULL, NULL},
	[CHORE_REPORTS] = {"match delivery reports", 5000, 100, true, 0, reports_match, reports_matched,
					   reports_not_matched},
	[CHORE_RETENTION] = {"delete old messages", 10000, 0, false, DELETE_TIME, delete_old, NULL, delete_fewer},
	[CHORE_OLD_REPORTS] = {"delete old delivery reports", 60000, 0, false, 0, delete_old_reports, NULL, NULL},
	[CHORE_OLD_CODES] = {"delete old one-time passwords", 60000, 0, false, 0, delete_old_codes, NULL, NULL},
	[CHORE_OLD_COUNTERS] = {"delete old counters", 60000, 0, false, 0, delete_old_counters, NULL, NULL},
};

/* ------------------------------------------------------------------------
 * Running them
 * ------------------------------------------------------------------------ */

/* A chore that is being run. */
typedef struct Run
{
	Engine *engine;
	const Chore *chore;
	ChoreState *state;
	char database[NAMEDATALEN];
} Run;

/* Has this cause not been told lately?  Then it is from now on. */
static bool
is_news(ChoreState *state, const char *cause)
{
	double now = now_ms();
	int oldest = 0;

	for (int i = 0; i < (int) lengthof(state->told); i++)
	{
		if (state->told[i].at > now - WARN_AGAIN && state->told[i].at > 0 &&
			strncmp(state->told[i].text, cause, sizeof(state->told[i].text) - 1) == 0)
			return false;
		if (state->told[i].at < state->told[oldest].at)
			oldest = i;
	}
	strlcpy(state->told[oldest].text, cause, sizeof(state->told[oldest].text));
	state->told[oldest].at = now;
	return true;
}

/* Tells a failure, unless the same was told lately. */
static void
warn(Run *run, const ErrorData *error)
{
	if (!is_news(run->state, error->message != NULL ? error->message : ""))
		return;
	ereport(WARNING, (errcode(error->sqlerrcode),
					  errmsg("could not %s in database \"%s\": %s", run->chore->what, run->database,
							 error->message != NULL ? error->message : ""),
					  error->detail_log != NULL ? errdetail_internal("%s", error->detail_log)
					  : error->detail != NULL   ? errdetail_internal("%s", error->detail)
												: 0,
					  error->hint != NULL ? errhint("%s", error->hint) : 0));
}

static void
work(void *arg)
{
	Run *run = arg;

	run->chore->work(run->engine, run->state);
}

/* Its work as a subtransaction: an error of it is the chore's, and the session's transaction goes on. */
static bool
work_inside(Run *run)
{
	char *database = get_database_name(MyDatabaseId);
	ErrorData *error;

	strlcpy(run->database, database != NULL ? database : "", sizeof(run->database));
	sql_set("lock_timeout", LOCK_WAIT, GUC_ACTION_LOCAL);
	error = sql_try(work, run, run->chore->limit);
	if (error == NULL)
		return true;
	warn(run, error);
	FreeErrorData(error);
	return false;
}

/* What is done in a chore's transaction. */
static bool
run_inside(Engine *engine, void *run)
{
	bool done = false;

	if (scope_enter_worker(engine->host->held_level) == OUTBOX_READY)
	{
		MemoryContextSwitchTo(engine->scratch);
		done = work_inside(run);
		scope_leave_worker();
	}
	else
		engine->look = true; /* the next round takes note of it */
	return done;
}

/* The commit failed, as it does when the queue of NOTIFY is full: that is the chore's trouble as well. */
static void
take_commit_error(Engine *engine, void *run)
{
	MemoryContext context = MemoryContextSwitchTo(engine->scratch);
	ErrorData *error = CopyErrorData();

	engine->host->commit_failed();
	MemoryContextSwitchTo(context);
	warn(run, error);
}

static void
run_chore(Engine *engine, int id)
{
	Run run = {.engine = engine, .chore = &chores[id], .state = &engine->chores[id]};
	ChoreState *state = run.state;
	double now = now_ms();

	state->next_at = now + run.chore->shortest;
	state->wanted = false;
	state->began = now;
	state->ran = true;
	if (transact(engine, run_inside, take_commit_error, &run))
	{
		state->wait = 0;
		if (run.chore->committed != NULL)
			run.chore->committed(engine, state);
		return;
	}
	state->wait = Min(Max(state->wait * 2, WAIT_FIRST), WAIT_MAX);
	state->next_at = now + state->wait;
	if (run.chore->failed != NULL)
		run.chore->failed(engine, state);
}

/* Has something happened that a chore is for? */
static bool
is_called_for(const Engine *engine, int id)
{
	switch (id)
	{
		case CHORE_PLACE:
			return home_is_unwritten();
		case CHORE_PAUSES:
			return pauses_with_news(engine, NULL) != NULL;
		case CHORE_CREDENTIALS:
			return engine->credentials_news;
		case CHORE_EVENTS:
			return event_count() > 0;
		case CHORE_HURRY:
			return hurry_called_for(engine);
		case CHORE_REPORTS:
			if (reports_wanted(engine))
				return true;
			return engine->chores[id].wanted || !engine->chores[id].ran;
		default:
			return engine->chores[id].wanted || !engine->chores[id].ran;
	}
}

/* Is it time for a chore? */
static bool
is_due(const Engine *engine, int id, double now, TimestampTz wall)
{
	const Chore *chore = &chores[id];
	const ChoreState *state = &engine->chores[id];

	if (now < state->next_at || (!chore->always && (!guc_enabled || engine->leaving)))
		return false;
	if (id == CHORE_EXPIRY && wall >= engine->next_expiry)
		return true;
	if (id == CHORE_POLLS && poll_round_needed(engine, now, wall))
		return true;
	if (id == CHORE_SETTLE && settle_needed(engine, now, wall))
		return true;
	return is_called_for(engine, id) || now >= state->began + chore->period;
}

/* Runs the chore that is due and was run longest ago, if any; returns whether it ran one. */
bool
chore_run_due(Engine *engine)
{
	double now = now_ms();
	TimestampTz wall = GetCurrentTimestamp();
	int first = -1;

	if (engine->state != OUTBOX_READY || !engine->started)
		return false;
	for (int id = 0; id < CHORE_COUNT; id++)
	{
		if (is_due(engine, id, now, wall) &&
			(first < 0 || engine->chores[id].began < engine->chores[first].began))
			first = id;
	}
	if (first >= 0)
		run_chore(engine, first);
	return first >= 0;
}

/* After a round's commit: what it calls for. */
void
chore_want_after_round(Engine *engine)
{
	if (engine->look)
		engine->chores[CHORE_REPORTS].wanted = true;
	if (engine->look)
		engine->chores[CHORE_EXPIRY].wanted = true;
}

/*
 * Returns milliseconds until a chore has something to do.  That a period is over is no reason to wake: the
 * engine does so now and then anyway.
 */
double
chore_time_to_wait(const Engine *engine, double now, TimestampTz wall)
{
	double wait = HUGE_VAL;

	for (int id = 0; id < CHORE_COUNT; id++)
	{
		const ChoreState *state = &engine->chores[id];
		double due = Max(state->next_at - now, 0);

		if (!chores[id].always && !guc_enabled)
			continue;
		if (is_called_for(engine, id) || (id == CHORE_POLLS && poll_round_needed(engine, now, wall)))
			wait = Min(wait, due);
		else if (id == CHORE_POLLS)
			wait = Min(wait, Max(due, poll_time_to_wait(engine, now, wall)));
		else if (id == CHORE_SETTLE)
			wait = Min(wait, Max(due, settle_time_to_wait(engine, now, wall)));
		else if (id == CHORE_EXPIRY)
			wait = Min(wait, Max(due, ms_until(engine->next_expiry, wall)));
	}
	return wait;
}

/* Is there nothing that a session should do before it ends?  What has failed is not waited for. */
bool
chore_idle(const Engine *engine)
{
	for (int id = 0; id < CHORE_COUNT; id++)
	{
		const ChoreState *state = &engine->chores[id];
		bool held = id == CHORE_ORPHANS && state->ran; /* the next engine settles those */

		if (is_called_for(engine, id) && !held && state->wait == 0 &&
			(chores[id].always || (guc_enabled && !engine->leaving)))
			return false;
	}
	return true;
}
