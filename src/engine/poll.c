/*
 * poll.c
 *		The engine's other half: asks providers what became of the messages that they
 *		accepted, and what is left on the account.
 *
 * A message is asked about 15 s after it was sent, and then each time when it has
 * become half as old again, until its end is known or the provider has forgotten
 * it.  When that is stands on the row, so it outlives restarts.  Asking has its own few
 * requests in flight for each gateway, fewer while there are messages to send, and
 * its own rate; a gateway that does not answer only delays itself.
 *
 * Nothing is locked and nothing is claimed: to ask twice is harmless.
 */
#include "postgres.h"

#include <math.h>

#include "base/clock.h"
#include "base/encoding.h"
#include "engine/poll.h"
#include "engine/question.h"
#include "engine/queue.h"
#include "miscadmin.h"
#include "outbox/event.h"
#include "outbox/follow.h"
#include "outbox/report.h"
#include "text/details.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define BUSY_RATE      50.0               /* polls a second of a gateway while messages wait to be sent */
#define POLLS_AT_ONCE  100                /* read from the outbox at once */
#define SAFETY_LOOK    60000.0            /* ms between looks that nobody asked for */
#define UNKNOWN_WINDOW (7 * SECS_PER_DAY) /* where no gateway says for how long it can be asked */
#define BALANCE_PERIOD 300000.0           /* ms between questions for the balance */

/* Makes what polling needs, of an engine that is all zero; it lives in the engine's context. */
void
poll_create(Engine *engine)
{
	Poller *poller = &engine->poller;
	HASHCTL info = {.keysize = sizeof(int64), .entrysize = sizeof(QuestionEntry)};

	poller->context = AllocSetContextCreate(engine->context, "sms_gateway polls", ALLOCSET_DEFAULT_SIZES);
	info.hcxt = poller->context;
	poller->questions = hash_create("sms_gateway polls", 64, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_init(&poller->outcomes);
}

/* Gives up the questions under way; memory goes with the engine's. */
void
poll_destroy(Engine *engine)
{
	HASH_SEQ_STATUS status;
	QuestionEntry *entry;

	hash_seq_init(&status, engine->poller.questions);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (entry->question->transfer != NULL)
			http_release(entry->question->transfer);
	}
	for (PollLane *lane = engine->poller.lanes; lane != NULL; lane = lane->next)
	{
		if (lane->balance != NULL && lane->balance->transfer != NULL)
			http_release(lane->balance->transfer);
	}
}

/*
 * A message was accepted with an answer: returns when to ask about it, 0 if never.  The
 * caller writes that onto the row, in the round that follows.
 */
TimestampTz
poll_sent(Engine *engine, const Gateway *gateway, const Answer *answer)
{
	TimestampTz at = GetCurrentTimestamp() + FIRST_POLL;
	PollLane *lane;

	if (!isnan(gateway->min_balance))
	{
		lane = question_lane(&engine->poller, gateway->name);
		lane->role = gateway->role;
		lane->min_balance = gateway->min_balance;
		lane->sent = true;
	}
	if (!gateway->poll_delivery || (answer->smsid[0] == '\0' && answer->id_omni_mess[0] == '\0'))
		return 0;
	lane = question_lane(&engine->poller, gateway->name);
	lane->next_due = Min(lane->next_due, at);
	return at;
}

/* ------------------------------------------------------------------------
 * Asking
 * ------------------------------------------------------------------------ */

/* May this gateway's next question start?  Takes its place within the rate limit if so. */
static bool
may_ask(Engine *engine, PollLane *lane, bool busy, double now)
{
	if (lane->nready == 0 || lane->in_flight >= (busy ? 1 : lane->slots) || lane->held_until > now ||
		lane->next_start > now ||
		!queue_spare_request(engine, dlist_head_element(Question, node, &lane->ready)->gateway, now,
							 &lane->next_start))
		return false;
	lane->next_start = busy ? now + 1000.0 / BUSY_RATE : now;
	return true;
}

/* Asks a lane's next question; there has to be one. */
static void
ask_next(Poller *poller, PollLane *lane)
{
	Question *question = dlist_container(Question, node, dlist_pop_head_node(&lane->ready));

	lane->nready--;
	if (question_start(poller, question))
		return;
	if (question->call == CALL_STATUS_DETAIL)
		question_ended(poller, question, &question->report, 0);
	else
		question_ended(poller, question, NULL,
					   question_next_time(question->sent_at, question->gateway->provider->status_window));
}

/* Takes answers and starts what may start; "busy": there are messages to send. */
void
poll_turn(Engine *engine, bool busy)
{
	Poller *poller = &engine->poller;
	HttpTransfer *transfer;
	HttpAnswer http;
	void *tag;
	double now;

	while ((transfer = http_next(&poller->finished, &http, &tag)) != NULL)
		question_take_answer(poller, tag, &http);
	now = now_ms();
	for (PollLane *lane = poller->lanes; lane != NULL; lane = lane->next)
	{
		while (may_ask(engine, lane, busy, now))
			ask_next(poller, lane);
	}
}

/* ------------------------------------------------------------------------
 * Rounds
 * ------------------------------------------------------------------------ */

/* Has this lane work for a transaction? */
static bool
lane_wants(const PollLane *lane, double now, TimestampTz wall)
{
	if (lane->news[0])
		return true;
	if (lane->sent && lane->held_until <= now && lane->balance == NULL && lane->balance_at <= now)
		return true;
	return lane->nready == 0 && lane->next_due <= wall && lane->held_until <= now;
}

/* Is there anything that a transaction could do now? */
bool
poll_round_needed(const Engine *engine, double now, TimestampTz wall)
{
	const Poller *poller = &engine->poller;

	if (poller->noutcomes > 0 && now >= poller->record_at)
		return true;
	if (now >= poller->look_at)
		return true;
	for (const PollLane *lane = poller->lanes; lane != NULL; lane = lane->next)
	{
		if (lane_wants(lane, now, wall))
			return true;
	}
	return false;
}

/* A message is not asked about now: later, if only credentials are missing; else never. */
static void
put_off(const Follow *follow, bool later)
{
	FollowUp followup = {.row = {.id = follow->id, .role = follow->role}};

	if (later)
		followup.poll_at = question_next_time(follow->sent_at, UNKNOWN_WINDOW);
	follow_record_one(&followup);
}

/* Takes a message into our hands, or puts it off if its gateway cannot be asked. */
static void
add_poll(Poller *poller, PollLane *lane, const Follow *follow)
{
	Refusal refusal;
	Gateway *gateway = OidIsValid(follow->role) ? gateway_get(follow->gateway, follow->role, &refusal) : NULL;
	bool sent = follow->status == STATUS_SENT;
	bool known;
	QuestionEntry *entry;
	Question *question;

	hash_search(poller->questions, &follow->id, HASH_FIND, &known);
	if (known)
		return;
	if (gateway == NULL || follow->reference == NULL || !gateway->poll_delivery || !sent)
	{
		/* Of a leg that is open no id may be known yet. */
		put_off(follow, sent && (gateway == NULL || (follow->legs && gateway->poll_delivery)));
		return;
	}
	lane->slots = Max(2, gateway->max_in_flight / 8);
	question = question_new(poller, lane, gateway, CALL_STATUS);
	question->reference = MemoryContextStrdup(question->context, to_utf8(follow->reference, "id"));
	question->sent_at = follow->sent_at;
	question->followup.legs = follow->legs;
	question->followup.row.id = follow->id;
	question->followup.row.role = follow->role;
	entry = hash_search(poller->questions, &follow->id, HASH_ENTER, NULL);
	entry->question = question;
	dlist_push_tail(&lane->ready, &question->node);
	lane->nready++;
}

/* Reads due messages of a gateway. */
static void
read_lane(Poller *poller, PollLane *lane, TimestampTz wall)
{
	List *due = report_polls(NameStr(lane->gateway), lane->after_due, lane->after_id, wall, POLLS_AT_ONCE);
	ListCell *lc;

	foreach (lc, due)
	{
		const Follow *follow = lfirst(lc);

		add_poll(poller, lane, follow);
		lane->after_due = follow->poll_at;
		lane->after_id = follow->id;
	}
	lane->next_due =
		list_length(due) == POLLS_AT_ONCE ? wall : report_poll_due(NameStr(lane->gateway), lane->after_due);
}

/* Asks for the balance, while messages are being sent. */
static void
ask_balance(Poller *poller, PollLane *lane, double now)
{
	Refusal refusal;
	Gateway *gateway = gateway_get(NameStr(lane->gateway), lane->role, &refusal);

	lane->sent = false;
	lane->balance_at = now + BALANCE_PERIOD;
	if (gateway == NULL || isnan(gateway->min_balance))
		return;
	lane->min_balance = gateway->min_balance;
	lane->balance = question_new(poller, lane, gateway, CALL_BALANCE);
	if (!question_start(poller, lane->balance))
		question_free(poller, lane->balance);
}

/* Tells, by a warning and in this transaction by NOTIFY, that a balance is below a minimum. */
void
poll_tell_balance(const char *gateway, const char *amount, double minimum)
{
	char *text = balance_text(gateway, amount, minimum);

	ereport(WARNING, (errmsg("the balance of gateway \"%s\" is low: %s", gateway, amount),
					  errdetail("The server option min_balance is %g.", minimum)));
	if (text != NULL)
		event_say(text);
	free(text);
}

/* Looks at every gateway from the start: after a restart, or if a clock was set back. */
static void
look_at_all(Poller *poller)
{
	ListCell *lc;

	foreach (lc, gateway_names())
	{
		const Provider *provider = gateway_provider(lfirst(lc));
		PollLane *lane;

		if (provider == NULL || !(provider->calls & CALL_BIT(CALL_STATUS)))
			continue;
		lane = question_lane(poller, lfirst(lc));
		lane->after_due = DT_NOBEGIN;
		lane->after_id = 0;
		lane->next_due = report_poll_due(lfirst(lc), DT_NOBEGIN);
	}
}

/* The work of a chore, inside its transaction: records what was learnt, reads what is due. */
void
poll_round(Engine *engine)
{
	Poller *poller = &engine->poller;
	double now = now_ms();
	TimestampTz wall = GetCurrentTimestamp();

	if (poller->noutcomes > 0)
		follow_record(&poller->outcomes);
	if (now >= poller->look_at)
	{
		look_at_all(poller);
		poller->look_at = now + SAFETY_LOOK;
	}
	for (PollLane *lane = poller->lanes; lane != NULL; lane = lane->next)
	{
		if (lane->news[0])
			poll_tell_balance(NameStr(lane->gateway), lane->news, lane->min_balance);
		if (!lane_wants(lane, now, wall))
			continue;
		if (lane->sent && lane->balance == NULL && lane->balance_at <= now)
			ask_balance(poller, lane, now);
		if (lane->nready == 0 && lane->next_due <= wall && lane->held_until <= now)
			read_lane(poller, lane, wall);
	}
}

/* It committed: what is recorded is out of our hands. */
void
poll_committed(Engine *engine)
{
	Poller *poller = &engine->poller;
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, &poller->outcomes)
	{
		Question *question = dlist_container(Question, followup.row.node, iter.cur);
		PollLane *lane = question->lane;

		if (!question->followup.row.recorded)
			continue; /* somebody holds the row */
		if (question->followup.poll_at != 0)
			lane->next_due = Min(lane->next_due, question->followup.poll_at);
		dlist_delete(iter.cur);
		question_free(poller, question);
		poller->noutcomes--;
	}
	poller->record_at = now_ms() + (poller->noutcomes > 0 ? 1000 : 0);
	for (PollLane *lane = poller->lanes; lane != NULL; lane = lane->next)
		lane->news[0] = '\0';
}

/* It did not: what was read is in our hands all the same, and what was recorded is not. */
void
poll_aborted(Engine *engine)
{
	engine->poller.record_at = now_ms() + RECORD_POLLS;
}

/*
 * Returns milliseconds until there is something to do.  The look at all gateways is no reason to wake: the engine
 * does so now and then anyway.
 */
double
poll_time_to_wait(const Engine *engine, double now, TimestampTz wall)
{
	const Poller *poller = &engine->poller;
	double wait = poller->look_at == 0 ? 0 : HUGE_VAL;

	if (poller->noutcomes > 0)
		wait = Min(wait, Max(poller->record_at - now, 0));
	for (const PollLane *lane = poller->lanes; lane != NULL; lane = lane->next)
	{
		double held = Max(lane->held_until - now, 0);

		if (lane->nready > 0 && lane->in_flight == 0)
			wait = Min(wait, Max(held, lane->next_start - now));
		else if (lane->nready == 0 && lane->next_due != DT_NOEND)
			wait = Min(wait, Max(held, Max((lane->next_due - wall) / 1000.0, 0)));
	}
	return wait;
}

/* Is nothing due, and nothing in our hands? */
bool
poll_idle(const Engine *engine, TimestampTz wall)
{
	const Poller *poller = &engine->poller;

	if (poller->noutcomes > 0 || poller->look_at == 0)
		return false;
	for (const PollLane *lane = poller->lanes; lane != NULL; lane = lane->next)
	{
		if (lane->in_flight > 0 ||
			(lane->held_until <= now_ms() && (lane->nready > 0 || lane->next_due <= wall)))
			return false;
	}
	return true;
}
