/*
 * http_call.c
 *		One request and its answer, in the foreground.
 */
#include "postgres.h"

#include "base/wait_event.h"
#include "miscadmin.h"
#include "net/http_call.h"
#include "storage/latch.h"

/* Waits until a transfer of the queue has ended, or the wait is interrupted, which raises an error. */
static void
await(const HttpQueue *queue)
{
	uint32 event = wait_event(WAIT_ANSWER);

	while (queue->head == NULL)
	{
		http_wait(-1, event);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Starts a request whose body is freed on error, too. */
static HttpTransfer *
start_or_free(const HttpEndpoint *endpoint, HttpRequest *request, bool repeat_safe, HttpQueue *queue)
{
	HttpTransfer *t;

	PG_TRY();
	{
		t = http_start(endpoint, request, repeat_safe, queue, NULL);
	}
	PG_CATCH();
	{
		free(request->body);
		request->body = NULL;
		PG_RE_THROW();
	}
	PG_END_TRY();
	return t;
}

/*
 * Sends a request, whose body it takes over, and waits for the answer.  Query cancel, time-outs and
 * termination are obeyed at once: they, and what http_start() raises, are its errors.  "take" reads the
 * answer, of which nothing stays when it returns; it must not raise an error, as the request has had its
 * effect.  Returns false when memory is out, and then nothing was sent.
 */
bool
http_call(const HttpEndpoint *endpoint, HttpRequest *request, bool repeat_safe,
		  void (*take)(HttpAnswer *answer, void *arg), void *arg)
{
	HttpQueue queue = {NULL, NULL};
	HttpTransfer *volatile t = start_or_free(endpoint, request, repeat_safe, &queue);
	HttpAnswer answer;
	void *tag;

	if (t == NULL)
		return false;
	PG_TRY();
	{
		await(&queue);
		http_next(&queue, &answer, &tag);
		take(&answer, arg);
	}
	PG_FINALLY();
	{
		http_release(t);
	}
	PG_END_TRY();
	return true;
}
