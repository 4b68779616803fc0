/*
 * question.c
 *		One question to a gateway: about a message, or for the balance.  Its request,
 *		its answer, and when to ask again.
 */
#include "postgres.h"

#include <math.h>

#include "base/clock.h"
#include "engine/question.h"
#include "provider/answer.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define REST_FIRST 1000.0   /* ms after a question that failed … */
#define REST_MAX   300000.0 /* … doubling up to this */

/* Returns the lane of a gateway, which is made if there is none; it lives as long as the engine. */
PollLane *
question_lane(Poller *poller, const char *gateway)
{
	PollLane *lane = poller->lanes;

	while (lane != NULL && strcmp(NameStr(lane->gateway), gateway) != 0)
		lane = lane->next;
	if (lane == NULL)
	{
		lane = MemoryContextAllocZero(poller->context, sizeof(PollLane));
		namestrcpy(&lane->gateway, gateway);
		dlist_init(&lane->ready);
		lane->slots = 1;
		lane->after_due = DT_NOBEGIN;
		lane->next_due = DT_NOEND;
		lane->next = poller->lanes;
		poller->lanes = lane;
	}
	return lane;
}

/*
 * Returns when to ask (again) about a message that was sent at a time; 0 when the provider
 * has forgotten it, after a window of so many seconds.
 */
TimestampTz
question_next_time(TimestampTz sent_at, int window)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz age = Max(now - sent_at, 0);
	TimestampTz next = now + Max(age / 2, FIRST_POLL);

	if (age >= window * USECS_PER_SEC)
		return 0;
	return Min(next, sent_at + window * USECS_PER_SEC);
}

/* Makes a question to a gateway, in a memory context of its own; question_free() ends it. */
Question *
question_new(Poller *poller, PollLane *lane, Gateway *gateway, Call call)
{
	MemoryContext own = AllocSetContextCreate(poller->context, "sms_gateway poll", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(own);
	Question *question = palloc0(sizeof(Question));

	question->context = own;
	question->call = call;
	question->lane = lane;
	question->gateway = gateway;
	gateway_hold(gateway);
	MemoryContextSwitchTo(old);
	return question;
}

/* Ends a question: its request, its place among those in our hands, its memory. */
void
question_free(Poller *poller, Question *question)
{
	if (question->transfer != NULL)
		http_release(question->transfer);
	if (question->call == CALL_BALANCE)
		question->lane->balance = NULL;
	else
		hash_search(poller->questions, &question->followup.row.id, HASH_REMOVE, NULL);
	MemoryContextDelete(question->context);
}

/*
 * A question about a message has ended: what was learnt (NULL: nothing), and when to ask again
 * (0: not), is to be recorded.
 */
void
question_ended(Poller *poller, Question *question, const Report *report, TimestampTz poll_at)
{
	question->followup.report = report;
	question->followup.poll_at = poll_at;
	dlist_push_tail(&poller->outcomes, &question->followup.row.node);
	if (poller->noutcomes++ == 0)
		poller->record_at = now_ms() + RECORD_POLLS;
}

/* Makes the request of a question.  Returns false when memory is out. */
bool
question_start(Poller *poller, Question *question)
{
	Message message = {.call = question->call, .reference = question->reference};
	HttpRequest request;

	if (!gateway_query(question->gateway, &message, &request))
		return false;
	question->transfer =
		http_start(&question->gateway->endpoint, &request, true, &poller->finished, question);
	if (question->transfer != NULL)
		question->lane->in_flight++;
	return question->transfer != NULL;
}

/* After an answer that failed, the lane rests: longer each time, and at least as long as it was told. */
static void
rest_lane(PollLane *lane, const Answer *answer)
{
	double wait = Min(ldexp(REST_FIRST, Min(lane->failures, 20)), REST_MAX);

	if (answer->retry_after >= 0)
		wait = Max(wait, answer->retry_after * 1000.0);
	lane->failures++;
	lane->held_until = now_ms() + wait;
}

/* The balance was told: below the minimum, that is news once. */
static void
note_balance(PollLane *lane, const char *amount)
{
	bool low = atof(amount) < lane->min_balance;

	if (low && !lane->low)
		strlcpy(lane->news, amount, sizeof(lane->news));
	lane->low = low;
}

/* The gateway has told what became of a message: that is recorded, or details are asked for first. */
static void
report_told(Poller *poller, Question *question)
{
	PollLane *lane = question->lane;

	question->call = CALL_STATUS_DETAIL;
	if ((question->gateway->provider->calls & CALL_BIT(CALL_STATUS_DETAIL)) && !lane->no_detail)
	{
		dlist_push_head(&lane->ready, &question->node);
		lane->nready++;
	}
	else
		question_ended(poller, question, &question->report, 0);
}

/* An answer to a question about a message, which was read: what it tells, and whether to ask again. */
static void
read_status(Poller *poller, Question *question, const HttpAnswer *http)
{
	const Provider *provider = question->gateway->provider;
	bool told = false;

	if (question->answer.verdict == VERDICT_ACCEPTED)
		told = provider->report(http->body, http->len, &question->report);
	if (question->followup.legs)
		strlcpy(question->report.smsid, question->reference, sizeof(question->report.smsid));
	if (question->call == CALL_STATUS_DETAIL)
		question_ended(poller, question, &question->report, 0);
	else if (!told || question->report.delivery == DELIVERY_PENDING)
		question_ended(poller, question, NULL,
					   question_next_time(question->sent_at, provider->status_window));
	else
		report_told(poller, question);
}

/*
 * A question has been answered, or its request has failed: notes what that tells.  The question
 * is freed, waits to be recorded, or is to be asked again for details.
 */
void
question_take_answer(Poller *poller, Question *question, HttpAnswer *http)
{
	PollLane *lane = question->lane;
	const Provider *provider = question->gateway->provider;
	Message message = {.call = question->call};
	HttpTransfer *transfer = question->transfer;
	char amount[40];

	answer_read(provider, question->gateway->settings, &message, question->gateway->endpoint.proxy_password,
				http, &question->answer);
	question->transfer = NULL; /* it is released below: until then it has the answer's body */
	lane->in_flight--;
	if (question->answer.verdict == VERDICT_ACCEPTED || question->answer.verdict == VERDICT_PERMANENT)
		lane->failures = 0;
	else if (question->call == CALL_STATUS || question->answer.verdict != VERDICT_GATEWAY)
		rest_lane(lane, &question->answer);
	if (question->call == CALL_STATUS_DETAIL && question->answer.verdict == VERDICT_GATEWAY)
		lane->no_detail = true; /* this account, or this server, has no such call */
	if (question->call != CALL_BALANCE)
		read_status(poller, question, http);
	else
	{
		if (question->answer.verdict == VERDICT_ACCEPTED && provider->balance(http, amount, sizeof(amount)))
			note_balance(lane, amount);
		question_free(poller, question);
	}
	http_release(transfer);
}
