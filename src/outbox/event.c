/*
 * event.c
 *		Ends of messages are told to those who LISTEN.
 */
#include "postgres.h"

#include "base/encoding.h"
#include "base/extension.h"
#include "commands/async.h"
#include "outbox/event.h"
#include "text/details.h"
#include "utils/memutils.h"

#define EVENTS_AT_MOST 10000 /* that wait to be told; further ones are lost */

static bool
is_failure(Status status)
{
	return status == STATUS_FAILED || status == STATUS_UNDELIVERED || status == STATUS_UNCERTAIN ||
		   status == STATUS_EXPIRED;
}

static bool
is_final(Status status)
{
	return is_failure(status) || status == STATUS_DELIVERED || status == STATUS_CANCELED;
}

/*
 * Events of an engine that runs in this process.  A commit fails when the queue of NOTIFY is full, which anybody
 * can bring about: so an engine tells of what it has recorded in transactions of their own.  The server
 * calls code of users' in an engine's transactions, and that says its events here too.
 */
static struct
{
	MemoryContext context; /* NULL: no engine runs */
	char **texts;
	int nkept;   /* of transactions that have committed */
	int nstaged; /* behind those, of the transaction under way */
	bool full;   /* and that was told */
} later;

/* From now on events are kept, in a context of an engine's; NULL: no more, and those at hand are lost. */
void
event_keep_in(MemoryContext context)
{
	memset(&later, 0, sizeof(later));
	later.context = context;
	if (context != NULL)
		later.texts = MemoryContextAlloc(context, sizeof(char *) * EVENTS_AT_MOST);
}

/* The transaction has committed, or not: its events are to be told, or have not happened. */
void
event_settle(bool committed)
{
	if (committed)
		later.nkept += later.nstaged;
	else
	{
		for (int i = 0; i < later.nstaged; i++)
			pfree(later.texts[later.nkept + i]);
	}
	later.nstaged = 0;
}

/* Returns how many events are to be told. */
int
event_count(void)
{
	return later.nkept;
}

/* In a transaction: tells up to so many events when it commits.  Returns how many, for event_told(). */
int
event_tell_kept(int most)
{
	int n = Min(later.nkept, most);

	for (int i = 0; i < n; i++)
		Async_Notify(EXTENSION_NAME, later.texts[i]);
	return n;
}

/* After its commit: forgets those. */
void
event_told(int n)
{
	for (int i = 0; i < n; i++)
		pfree(later.texts[i]);
	later.nkept -= n;
	memmove(later.texts, later.texts + n, sizeof(char *) * (later.nkept + later.nstaged));
	later.full = later.full && n == 0;
}

/* Tells a text to those who LISTEN: when the transaction commits, or, in an engine, soon after that. */
void
event_say(const char *text)
{
	if (later.context == NULL)
		Async_Notify(EXTENSION_NAME, text);
	else if (later.nkept + later.nstaged < EVENTS_AT_MOST)
		later.texts[later.nkept + later.nstaged++] = MemoryContextStrdup(later.context, text);
	else if (!later.full)
	{
		later.full = true;
		ereport(WARNING, (errmsg("%d events wait to be told: further ones are lost", EVENTS_AT_MOST)));
	}
}

/*
 * Tells, as event_say() does, what a message has come to, if "events" says that such ends are to be told.  "code" is the provider's, in UTF-8, or NULL.  Raises 53200 without memory.
 */
void
event_tell(Events events, Status status, int64 id, const char *gateway, const char *code)
{
	char *text;

	if (events == EVENTS_OFF || !(is_failure(status) || (events == EVENTS_FINAL && is_final(status))))
		return;
	text = event_text(id, gateway, status_label(status), code != NULL ? from_utf8(code) : NULL);
	if (text == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	event_say(text);
	free(text);
}
