/*
 * settle.c
 *		Settles what is in doubt by asking: looks for such messages in the list of what the provider's account has sent.
 *
 * A message that may have gone, or not, is looked for by the request_id that it went with: 15 s after it was given up, and
 * then each time when that is half as long ago again, as questions about sent messages are (poll.c), with poll_at on
 * the row.  One that is found is what the list says.  One that is not stays in doubt: nowhere does the documentation say that
 * the list is complete, or when a message comes into it.
 *
 * Each gateway has one search at a time, for as many messages as one list and period can tell of.  It asks for page after
 * page, with no transaction open, within what messages leave of the gateway's rate; what it has found is recorded in
 * the next run of the chore.
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/encoding.h"
#include "engine/question.h"
#include "engine/queue.h"
#include "engine/settle.h"
#include "outbox/doubt.h"
#include "outbox/follow.h"
#include "outbox/request_id.h"
#include "provider/answer.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define AT_ONCE     500                             /* messages of a search */
#define MAX_PAGES   50                              /* of a list: more are not read in one search */
#define SPREAD      (SECS_PER_HOUR * USECS_PER_SEC) /* between the doubts of one search */
#define MARGIN      (10 * USECS_PER_MINUTE) /* before the first attempt and behind the last: clocks differ */
#define WINDOW      (7 * SECS_PER_DAY)      /* for so long a message is looked for */
#define PAGE_WAIT   50.0                    /* ms between two pages … */
#define PAGE_BUSY   1000.0                  /* … while messages wait to be sent */
#define LOOK_PERIOD 60000.0                 /* ms between looks for doubts that nobody has told of */
#define REST_FIRST  1000.0                  /* ms after a question that failed … */
#define REST_MAX    300000.0                /* … doubling up to this */
#define MAX_IDS     (MAX_ROUTES + 2)

/* A message that is looked for. */
typedef struct Sought
{
	FollowUp followup;
	Report report; /* what the list says */
	const char *ids[MAX_IDS];
	int nids;
	char phone[MSISDN_SIZE];
	TimestampTz since;
	bool asked;   /* the list may tell of it */
	bool settled; /* it has */
} Sought;

/* The search of one gateway. */
typedef struct Settling
{
	NameData name;
	TimestampTz due;       /* when there is something to look for */
	double held_until;     /* it failed */
	int failures;          /* in a row, of questions … */
	int held;              /* … and to record, as somebody held a row */
	Oid role;              /* whose messages the last search was for … */
	char list[8];          /* … and in which list: it is another's turn */
	MemoryContext context; /* of what follows; NULL: no search is under way */
	Gateway *gateway;
	Sought *doubts;
	int ndoubts;
	int nopen;         /* asked about, and not settled */
	TimestampTz since; /* the first doubt that it is for */
	SentPage page;
	char last[104]; /* the first message of the page before */
	HttpTransfer *transfer;
	double next_page;
	bool done;     /* it is to be recorded … */
	bool recorded; /* … and was, in the transaction under way */
	dlist_head rows;
	struct Settling *next;
} Settling;

/* What this engine knows; it lives in its context. */
typedef struct Settlement
{
	Settling *first;
	HttpQueue finished;
	double look_at;
} Settlement;

static Settlement *
settlement(Engine *engine)
{
	if (engine->settlement == NULL)
		engine->settlement = MemoryContextAllocZero(engine->context, sizeof(Settlement));
	return engine->settlement;
}

static Settling *
find_settling(Engine *engine, const char *gateway)
{
	Settlement *all = settlement(engine);
	Settling *settling = all->first;

	while (settling != NULL && strcmp(NameStr(settling->name), gateway) != 0)
		settling = settling->next;
	if (settling == NULL)
	{
		settling = MemoryContextAllocZero(engine->context, sizeof(Settling));
		namestrcpy(&settling->name, gateway);
		settling->due = DT_NOEND;
		settling->next = all->first;
		all->first = settling;
	}
	return settling;
}

/* In which list of its account would a message be?  NULL: in none, or its gateway is not to be asked. */
static const char *
list_of(const OutboxItem *item)
{
	const Gateway *gateway = item->gateway;

	/* A one-time password made here is not worth it: it would have lived its time. */
	if (gateway == NULL || item->prepared.message.call == CALL_OTP || !gateway->poll_delivery ||
		gateway->provider->sent_list == NULL)
		return NULL;
	return gateway->provider->sent_list(item->prepared.settings, &item->prepared.message);
}

/* A message is given up in doubt: returns when to look for it, 0 if never.  The caller writes that onto its row. */
TimestampTz
settle_expect(Engine *engine, const OutboxItem *item)
{
	TimestampTz at = GetCurrentTimestamp() + FIRST_POLL;
	Settling *settling;

	if (list_of(item) == NULL)
		return 0;
	settling = find_settling(engine, item->gateway_name);
	settling->due = Min(settling->due, at);
	return at;
}

static void
end_search(Settling *settling)
{
	if (settling->transfer != NULL)
		http_release(settling->transfer);
	settling->transfer = NULL;
	if (settling->context != NULL)
		MemoryContextDelete(settling->context);
	settling->context = NULL;
	settling->done = settling->recorded = false;
}

/* Gives up the searches under way; memory goes with the engine's. */
void
settle_destroy(Engine *engine)
{
	for (Settling *s = engine->settlement != NULL ? engine->settlement->first : NULL; s != NULL; s = s->next)
		end_search(s);
}

/* ------------------------------------------------------------------------
 * Searching
 * ------------------------------------------------------------------------ */

static bool
is_entry_of(const SentEntry *entry, const Sought *doubt)
{
	if (!phone_ends_alike(entry->phone, doubt->phone))
		return false;
	for (int i = 0; i < doubt->nids; i++)
	{
		if (strcmp(entry->request_id, doubt->ids[i]) == 0)
			return true;
	}
	return false;
}

/* A message is in the list: what that says is to be recorded. */
static void
settle_one(Settling *settling, Sought *doubt, const SentEntry *entry)
{
	doubt->settled = true;
	settling->nopen--;
	doubt->report = entry->report;
	strlcpy(doubt->report.request_id, entry->request_id, sizeof(doubt->report.request_id));
	strlcpy(doubt->report.message, "in the account's list of what was sent", sizeof(doubt->report.message));
	doubt->followup.report = &doubt->report;
	doubt->followup.refused = entry->refused;
	doubt->followup.poll_at = 0;
	if (doubt->report.delivery == DELIVERY_PENDING && doubt->report.smsid[0])
		doubt->followup.poll_at = GetCurrentTimestamp() + FIRST_POLL;
}

/* Takes a page; returns whether another one may have more. */
static bool
take_page(Settling *settling, const SentEntry *entries, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (entries[i].request_id[0] == '\0')
			continue;
		for (int j = 0; j < settling->ndoubts; j++)
		{
			Sought *doubt = &settling->doubts[j];

			if (doubt->asked && !doubt->settled && is_entry_of(&entries[i], doubt))
				settle_one(settling, doubt, &entries[i]);
		}
	}
	/* A provider that knows no pages sends the same again. */
	if (n < SENT_PAGE_SIZE || settling->nopen == 0 || settling->page.number >= MAX_PAGES ||
		strcmp(settling->last, entries[0].report.smsid) == 0)
		return false;
	strlcpy(settling->last, entries[0].report.smsid, sizeof(settling->last));
	settling->page.number++;
	return true;
}

/* The next search begins later, after so many failures before this one; and not within so many seconds (-1: any). */
static void
rest(Settling *settling, int failures, int seconds)
{
	double wait = Min(ldexp(REST_FIRST, Min(failures, 20)), REST_MAX);

	settling->held_until = now_ms() + Max(wait, seconds * 1000.0);
}

/* A question has failed: what is left of the search is put off. */
static void
give_up(Settling *settling, int retry_after)
{
	rest(settling, settling->failures++, retry_after);
	settling->done = true;
}

static void
take_answer(Engine *engine, Settling *settling, HttpAnswer *http)
{
	const Provider *provider = settling->gateway->provider;
	Message message = {.call = CALL_SENT_LIST};
	SentEntry *entries = MemoryContextAlloc(engine->scratch, SENT_PAGE_SIZE * sizeof(SentEntry));
	Answer answer;
	int n = -1;

	answer_read(provider, settling->gateway->settings, &message, settling->gateway->endpoint.proxy_password,
				http, &answer);
	if (answer.verdict == VERDICT_ACCEPTED)
		n = provider->read_sent(http, entries);
	if (n < 0)
		give_up(settling, answer.retry_after);
	else
	{
		settling->failures = 0;
		settling->done = !take_page(settling, entries, n);
	}
	pfree(entries);
	http_release(settling->transfer);
	settling->transfer = NULL;
}

static void
ask_for_page(Settlement *all, Settling *settling, double wait)
{
	Message message = {.call = CALL_SENT_LIST, .sent = &settling->page};
	HttpRequest request;

	settling->next_page = now_ms() + wait;
	if (gateway_query(settling->gateway, &message, &request))
		settling->transfer =
			http_start(&settling->gateway->endpoint, &request, true, &all->finished, settling);
	if (settling->transfer == NULL)
		give_up(settling, -1);
}

/* Takes answers, and asks for pages that may be asked for; "busy": there are messages to send. */
void
settle_turn(Engine *engine, bool busy)
{
	Settlement *all = engine->settlement;
	HttpAnswer http;
	void *tag;

	if (all == NULL)
		return;
	while (http_next(&all->finished, &http, &tag) != NULL)
		take_answer(engine, tag, &http);
	for (Settling *s = all->first; s != NULL; s = s->next)
	{
		double now = now_ms();

		if (s->context != NULL && !s->done && s->transfer == NULL && now >= s->next_page &&
			queue_spare_request(engine, s->gateway, now, &s->next_page))
			ask_for_page(all, s, busy ? PAGE_BUSY : PAGE_WAIT);
	}
}

/* ------------------------------------------------------------------------
 * Beginning and recording, in transactions
 * ------------------------------------------------------------------------ */

/* Adds an id by which the list may have a message; NULL: nothing. */
static void
add_id(Sought *doubt, const char *id)
{
	if (id != NULL && doubt->nids < MAX_IDS)
		doubt->ids[doubt->nids++] = pstrdup(id);
}

/* The ids that the list may have of a message: those that it went with, and what 0.1.0 sent as it was given. */
static void
add_ids(Sought *doubt, const Doubtful *doubtful)
{
	const OutboxItem *item = doubtful->item;
	const Message *message = &item->prepared.message;
	Leg legs[MAX_ROUTES];
	int nlegs = 0;

	if (item->gateway->provider->legs != NULL)
		nlegs = item->gateway->provider->legs(item->prepared.settings, message, legs);
	add_id(doubt, message->request_id);
	for (int i = 1; i < nlegs; i++)
		add_id(doubt, legs[i].request_id);
	if (!request_id_is_ours(doubtful->given_id))
		add_id(doubt, to_utf8(doubtful->given_id, "request_id"));
	strlcpy(doubt->phone, message->phones[0], sizeof(doubt->phone));
}

/* Widens the period of a search to that of a message. */
static void
widen(Settling *settling, const Doubtful *doubtful)
{
	const TimestampTz epoch = (TimestampTz) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	long long from = (doubtful->since - MARGIN + epoch) / 1000;
	long long to = (doubtful->ended_at + MARGIN + epoch) / 1000;

	settling->page.from = settling->page.from == 0 ? from : Min(settling->page.from, from);
	settling->page.to = Max(settling->page.to, to);
}

/* Adds a message that is due to a search, if it is of the same account, list and time, or cannot be looked for. */
static void
add_doubt(Settling *settling, const Doubtful *doubtful)
{
	const OutboxItem *item = doubtful->item;
	const char *list = list_of(item);
	Sought *doubt = &settling->doubts[settling->ndoubts];

	memset(doubt, 0, sizeof(*doubt));
	doubt->since = doubtful->since;
	doubt->asked = list != NULL;
	doubt->followup.row.once = true;
	if (list != NULL && settling->gateway == NULL)
	{
		settling->gateway = item->gateway;
		gateway_hold(item->gateway);
		settling->page.list = pstrdup(list);
		settling->since = doubtful->since;
		settling->role = item->row.role;
		strlcpy(settling->list, list, sizeof(settling->list));
	}
	else if (list != NULL &&
			 (!gateway_same_account(settling->gateway, item->gateway) ||
			  strcmp(settling->page.list, list) != 0 || llabs(doubtful->since - settling->since) > SPREAD))
		return;
	if (list != NULL)
	{
		add_ids(doubt, doubtful);
		widen(settling, doubtful);
		settling->nopen++;
	}
	doubt->followup.row.id = item->row.id;
	doubt->followup.row.role = item->row.role;
	doubt->followup.legs = item->details != NULL && strstr(item->details, "\"legs\"") != NULL;
	/* As if it were not found.  Without credentials it is looked for later; in no list, never. */
	if (list != NULL || item->gateway == NULL)
		doubt->followup.poll_at = question_next_time(doubtful->ended_at, WINDOW);
	settling->ndoubts++;
}

/* Which of two roles and lists has its turn first? */
static int
compare_turns(Oid role, const char *list, Oid other, const char *other_list)
{
	if (role != other)
		return role < other ? -1 : 1;
	return strcmp(list, other_list);
}

/*
 * The message that says for whom the next search is: roles and lists take turns, so that what is due again and again, as
 * somebody holds its row, keeps nothing else waiting.  NULL: none can be looked for.
 */
static const Doubtful *
choose_lead(const Settling *settling, List *due)
{
	const Doubtful *first = NULL;
	const Doubtful *next = NULL; /* behind the last search's */
	ListCell *lc;

	foreach (lc, due)
	{
		const Doubtful *doubtful = lfirst(lc);
		const char *list = list_of(doubtful->item);
		Oid role = doubtful->item->row.role;

		if (list == NULL)
			continue;
		if (first == NULL || compare_turns(role, list, first->item->row.role, list_of(first->item)) < 0)
			first = doubtful;
		if (compare_turns(role, list, settling->role, settling->list) > 0 &&
			(next == NULL || compare_turns(role, list, next->item->row.role, list_of(next->item)) < 0))
			next = doubtful;
	}
	return next != NULL ? next : first;
}

/* Begins a search for what is due. */
static void
begin_search(Engine *engine, Settling *settling, TimestampTz wall)
{
	List *due = doubt_due(NameStr(settling->name), wall, AT_ONCE, engine->scratch);
	const Doubtful *lead;
	MemoryContext context;
	MemoryContext caller;
	ListCell *lc;

	settling->due = doubt_next_due(NameStr(settling->name));
	if (due == NIL)
		return;
	lead = choose_lead(settling, due);
	context = AllocSetContextCreate(engine->scratch, "sms_gateway search", ALLOCSET_DEFAULT_SIZES);
	caller = MemoryContextSwitchTo(context);
	settling->doubts = palloc(sizeof(Sought) * list_length(due));
	settling->ndoubts = settling->nopen = 0;
	settling->gateway = NULL;
	settling->page = (SentPage){.number = 1};
	settling->last[0] = '\0';
	dlist_init(&settling->rows);
	if (lead != NULL)
		add_doubt(settling, lead);
	foreach (lc, due)
	{
		if (lfirst(lc) != lead)
			add_doubt(settling, lfirst(lc));
	}
	foreach (lc, due)
		item_free(((Doubtful *) lfirst(lc))->item);
	MemoryContextSwitchTo(caller);
	for (int i = 0; i < settling->ndoubts; i++)
		dlist_push_tail(&settling->rows, &settling->doubts[i].followup.row.node);
	settling->done = settling->nopen == 0;
	settling->next_page = 0;
	/* From here on it is under way, whatever becomes of the transaction. */
	MemoryContextSetParent(context, engine->context);
	settling->context = context;
}

/* Looks at every gateway that can be asked: after a restart, and now and then. */
static void
look_at_all(Engine *engine)
{
	ListCell *lc;

	foreach (lc, gateway_names())
	{
		const Provider *provider = gateway_provider(lfirst(lc));

		if (provider != NULL && provider->sent_list != NULL)
			find_settling(engine, lfirst(lc))->due = doubt_next_due(lfirst(lc));
	}
	settlement(engine)->look_at = now_ms() + LOOK_PERIOD;
}

/* May this gateway's next search begin? */
static bool
may_begin(const Settling *settling, double now, TimestampTz wall)
{
	return settling->context == NULL && settling->due <= wall && settling->held_until <= now;
}

/* The work of a chore, inside its transaction: records what was found, and begins searches that are due. */
void
settle_work(Engine *engine, ChoreState *state)
{
	Settlement *all = settlement(engine);
	double now = now_ms();
	TimestampTz wall = GetCurrentTimestamp();

	(void) state;
	if (now >= all->look_at)
		look_at_all(engine);
	for (Settling *s = all->first; s != NULL; s = s->next)
	{
		s->recorded = s->done;
		if (s->done)
			follow_record(&s->rows);
		else if (may_begin(s, now, wall))
			begin_search(engine, s, wall);
	}
}

/* A search was recorded: notes when what it was about is due next.  Returns whether somebody held a row of it. */
static bool
note_recorded(Engine *engine, Settling *settling)
{
	bool held = false;
	dlist_iter iter;

	dlist_foreach (iter, &settling->rows)
	{
		const FollowUp *followup = dlist_container(FollowUp, row.node, iter.cur);
		PollLane *lane;

		held = held || !followup->row.recorded;
		if (!followup->row.recorded || followup->poll_at == 0)
			continue;
		if (followup->report == NULL)
			settling->due = Min(settling->due, followup->poll_at);
		else
		{
			lane = question_lane(&engine->poller, NameStr(settling->name));
			lane->next_due = Min(lane->next_due, followup->poll_at);
		}
	}
	return held;
}

/* After its commit: searches have ended.  A row that somebody holds is due still, and looked for again after a while. */
void
settle_committed(Engine *engine, ChoreState *state)
{
	(void) state;
	for (Settling *s = engine->settlement->first; s != NULL; s = s->next)
	{
		bool held;

		if (!s->recorded)
			continue;
		held = note_recorded(engine, s);
		end_search(s);
		/* The first time it is at once another's turn. */
		s->held = held ? s->held + 1 : 0;
		if (s->held > 1)
			rest(s, s->held - 2, -1);
	}
}

/* Is there anything that a transaction could do now? */
bool
settle_needed(const Engine *engine, double now, TimestampTz wall)
{
	const Settlement *all = engine->settlement;

	if (all == NULL || now >= all->look_at)
		return true;
	for (const Settling *s = all->first; s != NULL; s = s->next)
	{
		if (s->done || may_begin(s, now, wall))
			return true;
	}
	return false;
}

/*
 * Returns milliseconds until there is something to do.  The look at all gateways is no reason to wake: the engine
 * does so now and then anyway.
 */
double
settle_time_to_wait(const Engine *engine, double now, TimestampTz wall)
{
	const Settlement *all = engine->settlement;
	double wait = all == NULL ? 0 : HUGE_VAL;

	for (const Settling *s = all != NULL ? all->first : NULL; s != NULL; s = s->next)
	{
		if (s->done)
			wait = 0;
		else if (s->context != NULL && s->transfer == NULL)
			wait = Min(wait, Max(s->next_page - now, 0));
		else if (s->context == NULL)
			wait = Min(wait, Max(Max(s->held_until - now, 0), ms_until(s->due, wall)));
	}
	return wait;
}

/* Is nothing due, and no search under way? */
bool
settle_idle(const Engine *engine, TimestampTz wall)
{
	const Settlement *all = engine->settlement;

	for (const Settling *s = all != NULL ? all->first : NULL; s != NULL; s = s->next)
	{
		if (s->context != NULL || may_begin(s, now_ms(), wall))
			return false;
	}
	return all != NULL;
}
