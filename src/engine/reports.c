/*
 * reports.c
 *		Delivery reports that came before their messages' answers.
 *
 * Anybody may report deliveries of messages that nobody knows, as many as he likes: those must cost the others nothing.  So
 * a report looks for its message once, when it has come, and the message looks for its report once, when its answer is
 * recorded: whichever comes last finds the other, by an index.
 */
#include "postgres.h"

#include "base/clock.h"
#include "engine/reports.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define KEYS_FIRST   1024
#define KEYS_MOST    16384 /* more than that are not noted: then all are looked for */
#define KEYS_AT_ONCE 1000
#define SHARE        9.0 /* how much longer than it takes a page of many waits for the next, while messages go */

/* A message that has got its answer may have been reported by this id. */
static void
note(Engine *engine, const char *gateway, const char *reference)
{
	Reports *reports = &engine->reports;
	ReportKey *key;

	if (reference == NULL || reference[0] == '\0')
		return;
	if (reports->n == KEYS_MOST)
	{
		reports->n = 0;
		reports_look_for_all(engine);
	}
	if (reports->n == reports->size)
	{
		reports->size = Max(2 * reports->size, KEYS_FIRST);
		reports->keys = reports->keys == NULL
							? MemoryContextAlloc(engine->context, sizeof(ReportKey) * reports->size)
							: repalloc(reports->keys, sizeof(ReportKey) * reports->size);
	}
	key = &reports->keys[reports->n++];
	namestrcpy(&key->gateway, gateway);
	strlcpy(key->reference, reference, sizeof(key->reference));
}

/* After a round's commit: what was recorded of a message is the answer that its report, if there is one, waits for. */
void
reports_note_answer(Engine *engine, const OutboxItem *item)
{
	const Answer *answer = item->answer;
	const Message *message = &item->prepared.message;
	Leg legs[MAX_ROUTES];
	int nlegs = 0;

	if (engine->reports.none_kept || item->row.unchanged || item->gateway == NULL ||
		(item->new_status != STATUS_SENT && item->new_status != STATUS_UNCERTAIN))
		return;
	if (item->gateway->provider->legs != NULL)
		nlegs = item->gateway->provider->legs(item->prepared.settings, message, legs);
	note(engine, item->gateway_name, message->request_id);
	for (int i = 0; i < nlegs; i++)
		note(engine, item->gateway_name, legs[i].request_id);
	if (answer == NULL)
		return;
	note(engine, item->gateway_name, answer->id_omni_mess);
	note(engine, item->gateway_name, answer->smsid);
	note(engine, item->gateway_name, answer->referent_id);
}

/* It is not known which messages have got their answers: each kept report looks for its own again. */
void
reports_look_for_all(Engine *engine)
{
	engine->reports.all = true;
	memset(&engine->reports.after, 0, sizeof(engine->reports.after));
}

/* Is there something to look for, other than what somebody may have reported just now? */
bool
reports_wanted(const Engine *engine)
{
	return engine->reports.n > 0 || engine->reports.all;
}

/* The work of a chore, inside its transaction: some of what is to be looked for. */
void
reports_match(Engine *engine, ChoreState *state)
{
	Reports *reports = &engine->reports;
	double began = now_ms();
	double now;

	reports->none_kept = !report_any_kept();
	reports->taken = reports->none_kept ? reports->n : Min(reports->n, KEYS_AT_ONCE);
	reports->tried = reports->after;
	reports->more = false;
	if (reports->none_kept)
		return;
	reports->more = report_match_new();
	if (reports->taken > 0)
		report_match_awaited(reports->keys, reports->taken);
	if (reports->all && !reports->more)
		reports->more = report_match_next(&reports->tried);
	now = now_ms();
	if (reports->more && engine->in_flight > 0)
		state->next_at = now + (now - began) * SHARE;
	else if (reports->more)
		state->next_at = now;
}

/* It committed. */
void
reports_matched(Engine *engine, ChoreState *state)
{
	Reports *reports = &engine->reports;

	reports->n -= reports->taken;
	if (reports->n > 0)
		memmove(reports->keys, reports->keys + reports->taken, sizeof(ReportKey) * reports->n);
	reports->after = reports->tried;
	reports->all = reports->all && reports->more && !reports->none_kept;
	state->wanted = reports->more || reports_wanted(engine);
}

/* It did not. */
void
reports_not_matched(Engine *engine, ChoreState *state)
{
	(void) engine;
	state->wanted = true;
}
