/*
 * send.c
 *		Messages go out, and answers come in: between two rounds, with no transaction
 *		open.
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/settings.h"
#include "engine/outcome.h"
#include "engine/queue.h"
#include "engine/send.h"
#include "net/http.h"
#include "outbox/starts.h"
#include "provider/answer.h"
#include "utils/timestamp.h"

#define STARVED_REST  10000 /* ms until file descriptors are counted again */
#define STARVED_RETRY 1000  /* ms until a message without one is tried again */

/*
 * A message could not go for want of a file descriptor here: that is no attempt, and says nothing about
 * its gateway.  There are fewer slots from now on, for a while.
 */
static void
starve(Engine *engine, OutboxItem *item)
{
	int room = Max(engine->in_flight * 7 / 8, 1); /* PostgreSQL needs some, too */

	if (room < engine->slots)
		ereport(WARNING, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						  errmsg_plural("out of file descriptors: %d message at once for now, instead of %d",
										"out of file descriptors: %d messages at once for now, instead of %d",
										(unsigned long) room, room, engine->slots),
						  errhint("Raise the limit of open files (LimitNOFILE, ulimit -n), or lower "
								  "sms_gateway.max_in_flight.")));
	engine->slots = Min(engine->slots, room);
	engine->slots_again_at = now_ms() + STARVED_REST;
	outcome_add(engine, item, STATUS_QUEUED,
				TimestampTzPlusMilliseconds(GetCurrentTimestamp(), STARVED_RETRY));
}

/* Reads the answers that have come in, and decides what becomes of their messages. */
void
send_take_finished(Engine *engine)
{
	HttpTransfer *transfer;
	HttpAnswer http;
	void *tag;

	while ((transfer = http_next(&engine->finished, &http, &tag)) != NULL)
	{
		OutboxItem *item = tag;

		item->answer = outcome_new_answer(item);
		answer_read(item->gateway->provider, item->prepared.settings, &item->prepared.message,
					item->gateway->endpoint.proxy_password, &http, item->answer);
		http_release(transfer);
		item->transfer = NULL;
		item->queue->in_flight--;
		item->queue->finished++;
		engine->in_flight--;
		if (http.starved)
			starve(engine, item);
		else
		{
			starts_answered(item);
			outcome_decide(engine, item);
		}
	}
}

/* Puts one message on the wire; false when memory is out. */
static bool
put_on_wire(Engine *engine, OutboxItem *item)
{
	const Provider *provider = item->gateway->provider;
	const Message *message = &item->prepared.message;
	HttpRequest request;

	memset(&request, 0, sizeof(request));
	request.started = starts_flag(item);
	if (provider->build(item->prepared.settings, message, &request))
		item->transfer =
			http_start(&item->gateway->endpoint, &request,
					   provider->repeat_safe(item->prepared.settings, message), &engine->finished, item);
	if (item->transfer == NULL)
		return false;
	item->started_at = now_ms();
	item->queue->in_flight++;
	engine->in_flight++;
	return true;
}

/* Starts one message, or decides at once that it must not go. */
static void
start_item(Engine *engine, OutboxItem *item)
{
	TimestampTz now = GetCurrentTimestamp();

	if (item->expires_at <= now)
	{
		outcome_explain(item, "", "not sent before expires_at");
		outcome_add(engine, item, item->unsure_since != 0 ? STATUS_UNCERTAIN : STATUS_EXPIRED, 0);
	}
	else if (item->unsure_since != 0 && !outcome_may_repeat(item, now))
	{
		outcome_explain(item, "", "too late for a repeat that is safe");
		outcome_add(engine, item, STATUS_UNCERTAIN, 0);
	}
	else if (!put_on_wire(engine, item))
	{
		item->attempts++;
		outcome_explain(item, "memory", "out of memory");
		outcome_try_again(engine, item);
	}
}

/*
 * Messages that were claimed for a gateway that rests now go back to the outbox:
 * there they can be canceled, can expire, and are not in doubt after a crash.
 */
static void
hand_back_resting(Engine *engine, double now)
{
	for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
	{
		bool rests = engine->leaving || queue_rests(queue, now);

		while (rests && queue->nready > 0)
			outcome_hand_back(engine, queue_pop(engine, queue));
	}
}

/*
 * Messages whose requests have no connection yet, of which nothing has left, go back to the outbox: who was told to end
 * does not wait for a server that is not there.
 */
void
send_take_back(Engine *engine)
{
	HASH_SEQ_STATUS status;
	ItemEntry *entry;

	hash_seq_init(&status, engine->items);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		OutboxItem *item = entry->item;

		if (item->transfer == NULL || !http_is_connecting(item->transfer))
			continue;
		http_release(item->transfer);
		item->transfer = NULL;
		item->queue->in_flight--;
		engine->in_flight--;
		outcome_hand_back(engine, item);
	}
}

/* Starts a gateway's next message, within its rate limit. */
static void
start_next(Engine *engine, GatewayQueue *queue, double now)
{
	OutboxItem *item = queue_pop(engine, queue);

	if (item->gateway->stale)
	{
		/* Its server or user mapping has changed since it was claimed. */
		outcome_hand_back(engine, item);
		return;
	}
	if (outcome_await_credentials(engine, item))
		return; /* they were refused since it was claimed */
	queue_count_request(queue, now);
	engine->spaced = engine->spaced || queue->rate_limit > 0;
	start_item(engine, item);
}

/* Starts what may start, one message of each gateway in turn. */
void
send_start_ready(Engine *engine)
{
	double now = now_ms();
	bool any = guc_enabled && !engine->leaving;

	hand_back_resting(engine, now);
	while (any)
	{
		any = false;
		for (GatewayQueue *queue = engine->queues; queue != NULL; queue = queue->next)
		{
			if (!queue_may_start(engine, queue, now))
				continue;
			start_next(engine, queue, now);
			any = true;
		}
	}
}

/* Takes a claimed message: among those to start, or it is decided at once that it cannot be sent. */
void
send_add_ready(Engine *engine, OutboxItem *item)
{
	const Gateway *gateway = item->gateway;
	GatewayQueue *queue = queue_find(engine, item->gateway_name);

	item->queue = queue;
	if (item->refusal != NULL)
	{
		outcome_refuse(engine, item);
		return;
	}
	queue->max_in_flight = gateway->max_in_flight;
	queue->repeat_safe = gateway->resend_uncertain ||
						 gateway->provider->repeat_safe(item->prepared.settings, &item->prepared.message);
	queue_set_rate_limit(queue, gateway->rate_limit);
	if (outcome_await_credentials(engine, item))
		return;
	queue_push(engine, queue, item);
}
