/*
 * credentials.c
 *		User mappings of roles whose credentials a gateway refuses.
 *
 * What a gateway says of an account is that account's trouble: where a role has a user mapping of its own, and
 * others have theirs, the messages of that role wait and those of the others go on.  PUBLIC's mapping, and the
 * only one there is, stand for the gateway: that is paused.
 *
 * The messages that wait are put back into the outbox when they are claimed, some to the next try and the rest
 * for much longer: a hundred thousand of them would else come back at each try.  When a try passes, or the mapping
 * changes, all become due (hurry.c).
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/encoding.h"
#include "common/pg_prng.h"
#include "engine/credentials.h"
#include "engine/queue.h"
#include "gateway/gateway.h"
#include "miscadmin.h"
#include "outbox/event.h"
#include "outbox/refused.h"
#include "provider/answer.h"
#include "text/details.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define TRY_FIRST       5000.0   /* ms until a message is tried again … */
#define TRY_MAX         900000.0 /* … doubling up to this */
#define TRY_SUSPECT_MAX 60000.0  /* … or this, if it may be that only some messages are refused */
#define WRITTEN         50       /* at once */
#define EARLY           10       /* so many messages are due by then: one of them may be canceled meanwhile */
#define LATE            900000.0 /* ms that the others wait, up to twice as long: so they do not come back together */

/* Makes the table of an engine, which lives as long as that. */
void
credentials_create(Engine *engine)
{
	HASHCTL info = {.keysize = sizeof(((Credentials *) NULL)->key), .entrysize = sizeof(Credentials)};

	info.hcxt = engine->context;
	engine->credentials =
		hash_create("sms_gateway credentials", 16, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* What is known of a role's credentials, by its message's gateway; NULL: nothing. */
static Credentials *
find(Engine *engine, const OutboxItem *item)
{
	Credentials key = {.key = {item->queue, item->row.role}};

	return hash_search(engine->credentials, &key.key, HASH_FIND, NULL);
}

/* Messages that wait with credentials, and are to be put back, are due now: hurry.c does not see what is in our hands. */
static void
hurry_outcomes(const Credentials *known, dlist_head *outcomes)
{
	TimestampTz now = GetCurrentTimestamp();
	dlist_iter iter;

	dlist_foreach (iter, outcomes)
	{
		OutboxItem *item = dlist_container(OutboxItem, row.node, iter.cur);

		if (item->queue == known->key.queue && item->row.role == (Oid) known->key.role &&
			item->new_status == STATUS_QUEUED && item->next_attempt_at > now)
			item->next_attempt_at = now;
	}
}

/* Credentials are not in trouble any more: that is still to be written. */
static void
end_trouble(Credentials *known)
{
	known->change = known->change != known->troubled; /* whose beginning was not told has no end either */
	known->troubled = false;
	known->news = true;
	known->nsuspects = 0;
}

/* Forgets credentials; if they were refused, the log tells that they are tried from now on. */
static void
drop(Engine *engine, Credentials *known)
{
	if (known->troubled)
	{
		hurry_outcomes(known, &engine->outcomes);
		hurry_outcomes(known, &engine->held);
		ereport(LOG, (errmsg("gateway \"%s\" is sent messages of role \"%s\" again after %.0f s: "
							 "%d requests had failed",
							 NameStr(known->key.queue->name), NameStr(known->role_name),
							 (GetCurrentTimestamp() - known->since) / 1e6, known->lost)));
	}
	if (known->troubled || known->news)
	{
		end_trouble(known);
		engine->credentials_news = true;
	}
	else
		hash_search(engine->credentials, &known->key, HASH_REMOVE, NULL);
}

/* Returns the entry of the credentials that a message goes with, if they are refused; else NULL. */
Credentials *
credentials_refused(Engine *engine, const OutboxItem *item)
{
	Credentials *known = hash_get_num_entries(engine->credentials) > 0 ? find(engine, item) : NULL;

	return known != NULL && known->troubled && known->print == item->gateway->credentials ? known : NULL;
}

/* Is this message the one that is tried now? */
bool
credentials_may_try(Engine *engine, Credentials *refused, int64 id)
{
	double now = now_ms();

	if (refused->probe == id)
		return true;
	if (refused->probe_at > now)
		return false;
	/* If nothing is heard of it, as it is canceled in time, another one is tried as much later. */
	refused->probe = id;
	refused->probe_at = now + refused->probe_wait;
	refused->early = 0;
	refused->news = engine->credentials_news = true;
	return true;
}

/* Returns when a message is due again whose credentials are refused. */
TimestampTz
credentials_wait(Credentials *refused)
{
	double wait = refused->early++ < EARLY ? Max(refused->probe_at - now_ms(), 0)
										   : LATE * (1 + pg_prng_double(&pg_global_prng_state));

	return GetCurrentTimestamp() + (TimestampTz) (wait * 1000);
}

/* Credentials come into trouble: of that there is one warning, whatever follows. */
static void
begin_trouble(Credentials *known, const Answer *answer)
{
	known->troubled = known->news = known->change = true;
	known->since = GetCurrentTimestamp();
	known->began = now_ms();
	known->probe_at = 0;
	answer_reason(answer, known->reason, sizeof(known->reason));
	ereport(WARNING,
			(errmsg("gateway \"%s\" refuses the credentials of role \"%s\": %s",
					NameStr(known->key.queue->name), NameStr(known->role_name), from_utf8(known->reason)),
			 errdetail("One message of this role is tried again in %.0f s, its others wait; "
					   "those of other roles go on.",
					   TRY_FIRST / 1000)));
}

/* May a refusal, which may be a message's own fault, be the credentials'?  Only several in a row are. */
static bool
is_one_of_many(Credentials *known, int64 id)
{
	for (int i = 0; i < known->nsuspects; i++)
	{
		if (known->suspects[i] == id)
			return known->troubled;
	}
	if (known->nsuspects < (int) lengthof(known->suspects))
	{
		known->suspects[known->nsuspects++] = id;
		return known->troubled;
	}
	return true;
}

/* Does the refusal that a message drew say something of its role's credentials alone? */
static bool
are_its_own(const OutboxItem *item)
{
	int status = item->answer->http_status;

	if (item->gateway->credentials == 0 || item->queue->mappings == 1)
		return false;
	return status < 300 || status >= 400; /* where requests are redirected to, no credentials decide */
}

/* Did a message go with other credentials than those that are known, and older ones? */
static bool
are_outdated(const Credentials *known, const OutboxItem *item)
{
	return known->print != item->gateway->credentials && item->gateway->stale;
}

/*
 * A message was refused with all others that go with the same credentials, if it is no suspect.  Takes note of
 * that; returns false if that is not these credentials' trouble, but the gateway's.
 */
bool
credentials_refuse(Engine *engine, const OutboxItem *item)
{
	Credentials *known;
	double now = now_ms();
	bool found;
	Credentials key = {.key = {item->queue, item->row.role}};

	if (!are_its_own(item))
		return false;
	known = hash_search(engine->credentials, &key.key, HASH_ENTER, &found);
	if (found && are_outdated(known, item))
		return true;
	if (!found || known->print != item->gateway->credentials)
	{
		key.print = item->gateway->credentials;
		namestrcpy(&key.role_name, item->gateway->role_name);
		key.news = found && (known->news || known->troubled);
		key.change = found && known->change != known->troubled;
		*known = key;
	}
	known->lost++;
	if (item->suspect && !is_one_of_many(known, item->row.id))
		return true;
	if (!known->troubled)
		begin_trouble(known, item->answer);
	else if (item->row.id != known->probe)
		return true; /* it had been under way together with another */
	known->probe = 0;
	known->probe_wait = Min(Max(known->probe_wait * 2, TRY_FIRST), item->suspect ? TRY_SUSPECT_MAX : TRY_MAX);
	known->probe_at = now + known->probe_wait;
	known->early = 0;
	known->news = engine->credentials_news = true;
	return true;
}

/* A message was answered as it should be: its credentials are as well. */
void
credentials_accept(Engine *engine, const OutboxItem *item)
{
	Credentials *known = hash_get_num_entries(engine->credentials) > 0 ? find(engine, item) : NULL;

	if (known == NULL || item->started_at < known->began || are_outdated(known, item))
		return;
	if (known->troubled)
		queue_hurry(item->queue, (Oid) known->key.role);
	drop(engine, known);
}

/* Forgets what is known of a gateway's credentials: all of them are tried now. */
void
credentials_forget(Engine *engine, const GatewayQueue *queue)
{
	HASH_SEQ_STATUS status;
	Credentials *known;

	hash_seq_init(&status, engine->credentials);
	while ((known = hash_seq_search(&status)) != NULL)
	{
		if (known->key.queue == queue)
			drop(engine, known);
	}
}

/* In a transaction: forgets those of a gateway's credentials that have changed. */
void
credentials_look(Engine *engine, const GatewayQueue *queue)
{
	HASH_SEQ_STATUS status;
	Credentials *known;

	hash_seq_init(&status, engine->credentials);
	while ((known = hash_seq_search(&status)) != NULL)
	{
		if (known->key.queue == queue &&
			gateway_credentials(NameStr(queue->name), (Oid) known->key.role) != known->print)
			drop(engine, known);
	}
}

/*
 * Returns the oids of the roles whose credentials a gateway refuses, a palloc'd list; with "waiting", of
 * those none of whose messages is to be tried at "now".
 */
List *
credentials_roles(Engine *engine, const GatewayQueue *queue, bool waiting, double now)
{
	HASH_SEQ_STATUS status;
	Credentials *known;
	List *roles = NIL;

	if (hash_get_num_entries(engine->credentials) == 0)
		return NIL;
	hash_seq_init(&status, engine->credentials);
	while ((known = hash_seq_search(&status)) != NULL)
	{
		if (known->key.queue == queue && known->troubled && !(waiting && known->probe_at <= now))
			roles = lappend_oid(roles, (Oid) known->key.role);
	}
	return roles;
}

/* ------------------------------------------------------------------------
 * The table of refused credentials
 * ------------------------------------------------------------------------ */

/* Takes over what another engine has written of a role's credentials, if they are still the same. */
static void
inherit(Engine *engine, const Refused *row)
{
	GatewayQueue *queue = queue_find(engine, NameStr(row->gateway));
	char *role_name = GetUserNameFromId(row->role, true);
	double wait = ms_until(row->next_probe_at, GetCurrentTimestamp());
	Credentials key = {.key = {queue, row->role}, .print = row->credentials, .since = row->since};
	bool found;
	Credentials *known = hash_search(engine->credentials, &key.key, HASH_ENTER, &found);

	if (found)
		return;
	*known = key;
	if (role_name != NULL)
		namestrcpy(&known->role_name, role_name);
	strlcpy(known->reason, to_utf8(row->reason, "reason"), sizeof(known->reason));
	known->began = now_ms();
	known->probe_wait = Max(wait, TRY_FIRST);
	known->probe_at = known->began + wait;
	known->troubled = true;
	if (role_name != NULL && gateway_credentials(NameStr(row->gateway), row->role) == row->credentials)
		return;
	drop(engine, known);
	queue_hurry(queue, row->role);
}

/* In a round, the first: takes over what another engine has written; false if somebody has locked the table. */
bool
credentials_inherit(Engine *engine)
{
	List *all;
	ListCell *lc;

	if (!refused_list(&all))
		return false;
	foreach (lc, all)
		inherit(engine, lfirst(lc));
	return true;
}

/* Tells those who listen that a role's credentials are refused, or are so no more; but not why: that is the role's. */
static void
tell(const Credentials *known)
{
	const char *gateway = NameStr(known->key.queue->name);
	char *text;

	if (gateway_events(gateway) == EVENTS_OFF)
		return;
	text = credentials_text(gateway, NameStr(known->role_name), known->troubled ? "refused" : "accepted");
	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	event_say(pstrdup(text));
	free(text);
}

/* Writes one entry into the table. */
static void
write_down(const Credentials *known)
{
	double wait = known->probe_at - now_ms();
	Refused row = {.gateway = known->key.queue->name,
				   .role = (Oid) known->key.role,
				   .credentials = known->print,
				   .reason = from_utf8(known->reason),
				   .since = known->since,
				   .next_probe_at = GetCurrentTimestamp() + (TimestampTz) (wait * 1000)};

	if (known->troubled)
		refused_note(&row);
	else
		refused_end(NameStr(row.gateway), row.role);
	if (known->change)
		tell(known);
}

/* The work of a chore, inside its transaction: writes down what is new, some of it. */
void
credentials_write(Engine *engine, ChoreState *state)
{
	HASH_SEQ_STATUS status;
	Credentials *known;
	int n = 0;

	(void) state;
	hash_seq_init(&status, engine->credentials);
	while ((known = hash_seq_search(&status)) != NULL)
	{
		known->writing = known->news && n < WRITTEN;
		if (!known->writing)
			continue;
		n++;
		write_down(known);
	}
}

/* It committed: what was written is no news any more. */
void
credentials_written(Engine *engine, ChoreState *state)
{
	HASH_SEQ_STATUS status;
	Credentials *known;

	(void) state;
	engine->credentials_news = false;
	hash_seq_init(&status, engine->credentials);
	while ((known = hash_seq_search(&status)) != NULL)
	{
		if (!known->writing)
		{
			engine->credentials_news |= known->news;
			continue;
		}
		known->writing = known->news = known->change = false;
		if (!known->troubled && known->nsuspects == 0)
			drop(engine, known); /* for good */
	}
}
