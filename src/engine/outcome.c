/*
 * outcome.c
 *		What an answer means: for its message, which is sent, failed, uncertain or tried
 *		again; and for its gateway, which rests, is paused, or sends again.
 */
#include "postgres.h"

#include <math.h>

#include "base/clock.h"
#include "base/settings.h"
#include "common/pg_prng.h"
#include "engine/credentials.h"
#include "engine/lanes.h"
#include "engine/outcome.h"
#include "engine/poll.h"
#include "engine/queue.h"
#include "engine/settle.h"
#include "outbox/starts.h"
#include "text/details.h"
#include "text/text.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define RECORD_DELAY      4.0   /* ms that an outcome may wait for company … */
#define RECORD_DELAY_BUSY 50.0  /* … while there is more to send anyway */
#define HELD_RETRY        60000 /* ms until a message without credentials is tried again */
#define PROBE_LATER       1000  /* ms that a message which may be at fault waits longer than its gateway */
#define REPEAT_MARGIN     600   /* s before the end of a repeat window */

/* Returns an answer that tells nothing yet; it lives as long as its message. */
Answer *
outcome_new_answer(OutboxItem *item)
{
	Answer *answer = MemoryContextAllocZero(item->context, sizeof(Answer));

	answer->retry_after = -1;
	return answer;
}

/* Gives a message, in the place of a gateway's answer, one of our own. */
void
outcome_explain(OutboxItem *item, const char *code, const char *message)
{
	item->answer = outcome_new_answer(item);
	item->answer->ours = true;
	snprintf(item->answer->code, sizeof(item->answer->code), "%s", code);
	utf8_copy(item->answer->message, sizeof(item->answer->message), message, strlen(message));
}

/* What a message becomes: its new status, and when it is tried next (0: not). */
static void
become(OutboxItem *item, Status status, TimestampTz next_attempt_at)
{
	item->new_status = status;
	item->next_attempt_at = next_attempt_at;
}

/* Takes over new details (from malloc); false if there are none. */
static bool
set_details(OutboxItem *item, char *details)
{
	if (details == NULL)
		return false;
	item->new_details = MemoryContextStrdup(item->context, details);
	free(details);
	return true;
}

/* Notes the legs of a message that may have gone, each of which will have a report of its own; or that it has none now. */
static void
note_legs(OutboxItem *item)
{
	const char *details = item->new_details != NULL ? item->new_details : item->details;
	const Provider *provider = item->gateway != NULL ? item->gateway->provider : NULL;
	const char *channels[MAX_ROUTES];
	const char *request_ids[MAX_ROUTES];
	Leg legs[MAX_ROUTES];
	int n = 0;

	if (item->new_status != STATUS_SENT && item->new_status != STATUS_UNCERTAIN && item->unsure_since == 0)
		return;
	if (provider != NULL && provider->legs != NULL)
		n = provider->legs(item->prepared.settings, &item->prepared.message, legs);
	for (int i = 0; i < n; i++)
	{
		channels[i] = legs[i].channel;
		request_ids[i] = legs[i].request_id;
	}
	if (n > 0 || (provider != NULL && details != NULL && strstr(details, "\"legs\"") != NULL))
		set_details(item, details_with_legs(details, channels, request_ids, n));
}

/* A message's outcome is decided: notes by what it will be known what became of it, and when that is asked. */
void
outcome_will_be_followed(Engine *engine, OutboxItem *item)
{
	note_legs(item);
	if (item->new_status == STATUS_UNCERTAIN)
		item->poll_at = settle_expect(engine, item);
}

/* Puts a message among those whose outcome is to be recorded. */
static void
add(Engine *engine, OutboxItem *item)
{
	outcome_will_be_followed(engine, item);
	item->row.recorded = false;
	dlist_push_tail(&engine->outcomes, &item->row.node);
	if (engine->noutcomes++ == 0)
		engine->record_at = now_ms() + RECORD_DELAY;
}

/*
 * Puts a message among those whose outcome is to be recorded: its new status, and when it is
 * tried next (0: not).
 */
void
outcome_add(Engine *engine, OutboxItem *item, Status status, TimestampTz next_attempt_at)
{
	become(item, status, next_attempt_at);
	add(engine, item);
}

/*
 * Returns when the outcomes at hand are to be recorded.  While requests are started
 * anyway, a larger batch is worth more than a few milliseconds; with many outcomes at
 * hand, neither is.
 */
double
outcome_record_time(const Engine *engine)
{
	if (engine->noutcomes >= guc_batch_size)
		return engine->record_at - RECORD_DELAY;
	return engine->record_at + (engine->nready > 0 ? RECORD_DELAY_BUSY - RECORD_DELAY : 0);
}

/* ------------------------------------------------------------------------
 * For the message
 * ------------------------------------------------------------------------ */

/* When to try again after so many attempts. */
static TimestampTz
back_off(int attempts)
{
	double wait = Min(ldexp(guc_retry_initial, Min(attempts - 1, 30)), guc_retry_max);

	/* Jitter keeps messages that failed together from coming back together. */
	wait *= 0.75 + 0.5 * pg_prng_double(&pg_global_prng_state);
	return GetCurrentTimestamp() + (TimestampTz) (wait * 1000);
}

/*
 * Moves a message that failed for certain to the gateway's fallback.  Returns
 * false if there is none, or it was tried already.
 */
static bool
fall_back(OutboxItem *item)
{
	const char *fallback = item->gateway->fallback;

	if (fallback == NULL || strcmp(fallback, item->gateway_name) == 0 ||
		!set_details(item, details_with_failure(item->new_details ? item->new_details : item->details,
												item->gateway->told_name, item->answer->code,
												item->answer->message, item->gateway->told_fallback)))
		return false;
	item->new_gateway = fallback;
	item->attempts = 0;
	become(item, STATUS_QUEUED, GetCurrentTimestamp());
	return true;
}

static void
fail_item(OutboxItem *item)
{
	if (item->unsure_since != 0)
		become(item, STATUS_UNCERTAIN, 0);
	else if (item->gateway == NULL || !fall_back(item))
		become(item, STATUS_FAILED, 0);
}

/* Is another request for this message harmless, if it is made at a time? */
bool
outcome_may_repeat(const OutboxItem *item, TimestampTz at)
{
	const Provider *provider = item->gateway->provider;

	if (item->gateway->resend_uncertain)
		return true;
	if (!provider->repeat_safe(item->prepared.settings, &item->prepared.message))
		return false;
	return provider->repeat_window == 0 || item->unsure_since == 0 ||
		   at < item->unsure_since + (provider->repeat_window - REPEAT_MARGIN) * USECS_PER_SEC;
}

/* Another attempt, if there is one left; "unsure" if this one may have been accepted. */
static void
try_again(OutboxItem *item, bool unsure)
{
	TimestampTz next = back_off(item->attempts);

	if (unsure && item->unsure_since == 0)
		item->unsure_since = GetCurrentTimestamp();
	if (item->attempts >= item->gateway->max_attempts)
		fail_item(item);
	else if (item->unsure_since != 0 && !outcome_may_repeat(item, next))
		become(item, STATUS_UNCERTAIN, 0);
	else
		become(item, STATUS_QUEUED, next);
}

/*
 * A message that the gateway did not take: if that was not its fault, its turn stays, and its attempts.  If it
 * may have been, another one is the next that is tried.
 */
static void
put_back(Engine *engine, OutboxItem *item)
{
	const GatewayQueue *queue = item->queue;
	Credentials *refused = credentials_refused(engine, item);

	if (refused != NULL)
		become(item, STATUS_QUEUED,
			   TimestampTzPlusMilliseconds(credentials_wait(refused), item->suspect ? PROBE_LATER : 0));
	else if (!item->suspect)
		become(item, STATUS_QUEUED, item->due);
	else if (queue->state == GATEWAY_PAUSED && !queue->by_user)
		become(item, STATUS_QUEUED,
			   TimestampTzPlusMilliseconds(GetCurrentTimestamp(), queue->probe_wait + PROBE_LATER));
	else
	{
		item->attempts++;
		try_again(item, false);
	}
}

/* A message whose request could not even be made has another attempt, if there is one left. */
void
outcome_try_again(Engine *engine, OutboxItem *item)
{
	try_again(item, false);
	add(engine, item);
}

/*
 * The HTTP library has repeated a request whose connection had ended, as it may where that is safe: what was answered is
 * about the last one, and the one before may have been accepted.
 */
static void
note_repeat(OutboxItem *item)
{
	const Answer *answer = item->answer;

	item->may_have_gone = item->may_have_gone || answer->repeated;
	if (answer->repeated && answer->verdict != VERDICT_ACCEPTED && answer->verdict != VERDICT_PERMANENT &&
		item->unsure_since == 0)
		item->unsure_since = GetCurrentTimestamp();
	item->prepared.message.unsure = item->prepared.message.unsure || item->unsure_since != 0;
}

/*
 * The next request of this message gets another request_id.  Of one that may have been accepted that would be a second
 * message, which it is in any case with a one-time password that is made here: another code.
 */
void
outcome_change_request_id(OutboxItem *item)
{
	if (item->prepared.message.request_id != NULL && (item->unsure_since == 0 || item_makes_code(item)))
		set_details(item, details_with_resent(item->new_details != NULL ? item->new_details : item->details,
											  item->resent + 1));
}

/* Decides what becomes of a message that was answered with item->answer; it is not added to the outcomes. */
void
outcome_judge(Engine *engine, OutboxItem *item)
{
	Answer *answer = item->answer;

	if (answer->token[0])
		set_details(item, details_with_token(item->details, answer->token));
	note_repeat(item);
	if (answer->verdict == VERDICT_ACCEPTED || answer->verdict == VERDICT_UNCERTAIN)
		item->may_have_gone = true;
	/* A provider that has refused a message in words of its own may have kept its request_id in mind. */
	if (answer->verdict != VERDICT_ACCEPTED && ((answer->coded && answer->verdict != VERDICT_UNCERTAIN) ||
												(item->may_have_gone && item_makes_code(item))))
		outcome_change_request_id(item);
	switch (answer->verdict)
	{
		case VERDICT_ACCEPTED:
			item->attempts++;
			item->sent_at = GetCurrentTimestamp();
			item->unsure_since = 0;
			item->poll_at = poll_sent(engine, item->gateway, answer);
			become(item, STATUS_SENT, 0);
			break;
		case VERDICT_PERMANENT:
			item->attempts++;
			fail_item(item);
			break;
		case VERDICT_TRANSIENT:
			item->attempts++;
			try_again(item, false);
			break;
		case VERDICT_UNCERTAIN:
			item->attempts++;
			if (answer->id_taken)
			{
				item->unsure_since = GetCurrentTimestamp();
				become(item, STATUS_UNCERTAIN, 0);
			}
			else
				try_again(item, true);
			break;
		case VERDICT_THROTTLED:
		case VERDICT_GATEWAY:
			put_back(engine, item);
			break;
	}
}

/* Gives a message back to the outbox as it is: only its lease ends; but what it was answered is noted. */
void
outcome_hand_back(Engine *engine, OutboxItem *item)
{
	item->row.unchanged = item->answer == NULL;
	outcome_add(engine, item, STATUS_QUEUED, item->due);
}

/* Puts a message back into the outbox if its role's credentials are refused, and it is not the one that is tried. */
bool
outcome_await_credentials(Engine *engine, OutboxItem *item)
{
	Credentials *refused = credentials_refused(engine, item);
	size_t length;

	if (refused == NULL || credentials_may_try(engine, refused, item->row.id))
		return false;
	outcome_explain(item, "held", "the credentials of its role are refused: ");
	length = strlen(item->answer->message);
	utf8_copy(item->answer->message + length, sizeof(item->answer->message) - length, refused->reason,
			  strlen(refused->reason));
	outcome_add(engine, item, STATUS_QUEUED, credentials_wait(refused));
	item->queue->put_back++;
	return true;
}

/*
 * A message that cannot even be tried, as item->refusal says: its gateway, mapping or options
 * changed.  Without a gateway or credentials it is held for a while; else it has failed.
 */
void
outcome_refuse(Engine *engine, OutboxItem *item)
{
	const Refusal *refusal = item->refusal;

	if (refusal->sqlstate == ERRCODE_UNDEFINED_OBJECT)
	{
		outcome_explain(item, "held", refusal->message);
		outcome_add(engine, item, STATUS_QUEUED,
					TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HELD_RETRY));
	}
	else
	{
		outcome_explain(item, "refused", refusal->message);
		fail_item(item);
		add(engine, item);
	}
}

/* ------------------------------------------------------------------------
 * For the gateway
 * ------------------------------------------------------------------------ */

/* Does an answer, or that there is none, say that a request did not reach a gateway that works? */
static bool
is_out_of_reach(const Answer *answer)
{
	return (answer->verdict == VERDICT_TRANSIENT || answer->verdict == VERDICT_UNCERTAIN) &&
		   (answer->http_status == 0 || answer->http_status >= 500);
}

/* May an answer that refuses all be to one message alone?  Firewalls dislike texts. */
static bool
is_suspect(const Answer *answer)
{
	return answer->http_status == 403 || answer->http_status == 404 || answer->http_status == 405;
}

/* Learns about the gateway from an answer. */
static void
judge_gateway(Engine *engine, OutboxItem *item)
{
	GatewayQueue *queue = item->queue;
	const Answer *answer = item->answer;

	item->suspect = answer->verdict == VERDICT_GATEWAY && is_suspect(answer);
	if (queue->by_user)
		return;
	if (answer->verdict == VERDICT_GATEWAY && credentials_refuse(engine, item))
	{
		/* It is there, and answers. */
		if (queue->state == GATEWAY_UNREACHABLE && queue_recovered(queue, item->started_at))
			lane_look_back(engine, DT_NOEND);
	}
	else if (item->suspect)
		queue_suspect(queue, item->row.id, answer);
	else if (answer->verdict == VERDICT_GATEWAY)
		queue_pause(queue, answer);
	else if (answer->verdict == VERDICT_THROTTLED)
		queue_rest(queue, answer, item->started_at);
	else if (is_out_of_reach(answer))
		queue_unreachable(queue, answer);
	else
	{
		credentials_accept(engine, item);
		if (queue_recovered(queue, item->started_at))
			lane_look_back(engine, DT_NOEND);
	}
}

/* A message's request has ended with item->answer: decides what becomes of it and of its gateway. */
void
outcome_decide(Engine *engine, OutboxItem *item)
{
	judge_gateway(engine, item);
	if (item->answer->verdict == VERDICT_THROTTLED && !item->answer->coded)
	{
		/* It goes before all others, and need not go by way of the outbox. */
		note_repeat(item);
		starts_again(item);
		queue_push_again(engine, item->queue, item);
		return;
	}
	outcome_judge(engine, item);
	add(engine, item);
}
