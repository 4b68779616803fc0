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
 * Tells, when the transaction commits, what a message has come to, if "events" says that such ends
 * are to be told.  "code" is the provider's, in UTF-8, or NULL.  Raises 53200 without memory.
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
	Async_Notify(EXTENSION_NAME, pstrdup(text));
	free(text);
}
