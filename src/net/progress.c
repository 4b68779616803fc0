/*
 * progress.c
 *		How one request gets on: what is on the wire, what has come back, and within
 *		which bounds.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/progress.h"

/* Decoded bytes of an answer; real ones have some hundred. */
#define MAX_BODY    (1024 * 1024)
#define MAX_HEADERS (64 * 1024)
#define MIN_BUFFER  1024
/* A buffer larger than this is not kept for the next request. */
#define KEEP_BUFFER (16 * 1024)

/* Begins anew, for another request; what came back of the last one is gone. */
void
progress_restart(Progress *progress)
{
	char *body = progress->body;
	size_t size = progress->size;

	if (size > KEEP_BUFFER)
	{
		free(body);
		body = NULL;
		size = 0;
	}
	*progress = (Progress){.body = body, .size = size};
}

/*
 * The request is about to be put on a connection.  May it?  Only once: of a connection that ended
 * under the first attempt nobody knows whether the server has acted on it.  Where a repeat is safe,
 * that does not matter.  That it began is noted before the caller puts anything there.
 */
bool
progress_send(Progress *progress)
{
	progress->repeated = progress->began;
	progress->began = true;
	if (progress->started != NULL)
		*progress->started = 1;
	return !progress->repeated || progress->repeat_safe;
}

/* A line of a header has come, with its end of line; returns false if they are too long together. */
bool
progress_header(Progress *progress, const char *line, size_t n)
{
	progress->header_bytes += n;
	progress->header_ended = n > 0 && (line[0] == '\r' || line[0] == '\n');
	if (progress->header_bytes > MAX_HEADERS)
		progress->too_large = true;
	return progress->header_bytes <= MAX_HEADERS;
}

/* Adds to the body, and a NUL behind it; returns false if that grows too large, or memory is out. */
bool
progress_body(Progress *progress, const char *data, size_t n)
{
	size_t needed = progress->len + n + 1;

	if (progress->len + n > MAX_BODY)
	{
		progress->too_large = progress->lost = true;
		return false;
	}
	if (needed > progress->size)
	{
		size_t size = 2 * needed > MIN_BUFFER ? 2 * needed : MIN_BUFFER;
		char *body = realloc(progress->body, size);

		if (body == NULL)
		{
			progress->lost = true;
			return false;
		}
		progress->body = body;
		progress->size = size;
	}
	memcpy(progress->body + progress->len, data, n);
	progress->len += n;
	progress->body[progress->len] = '\0';
	return true;
}

/* Have all headers of an answer come, and is here whatever came of its body? */
bool
progress_is_readable(const Progress *progress)
{
	return progress->header_ended && !progress->too_large && !progress->lost;
}

/*
 * Writes into the answer which word stands for the failure of a request, and its text for the user.
 * timeout_ms, connect_timeout_ms: what the request had; text: the HTTP library's, for a failure of which
 * more is not known here.
 */
void
progress_failed(const Progress *progress, Failure failure, int timeout_ms, int connect_timeout_ms,
				const char *text, HttpAnswer *answer)
{
	static const char *const codes[] = {
		[FAILURE_BROKEN] = "broken",   [FAILURE_RESOLVE] = "resolve", [FAILURE_CONNECT] = "connect",
		[FAILURE_TIMEOUT] = "timeout", [FAILURE_TLS] = "tls",         [FAILURE_DESCRIPTORS] = "descriptors",
	};
	char *error = answer->error;
	size_t size = sizeof(answer->error);

	answer->code = codes[failure];
	if (failure == FAILURE_BROKEN && progress->too_large)
		answer->code = "too_large";
	if (failure == FAILURE_TIMEOUT && progress->began)
		snprintf(error, size, "no answer within %d ms", timeout_ms);
	else if (failure == FAILURE_TIMEOUT)
		snprintf(error, size, "no connection within %d ms",
				 connect_timeout_ms < timeout_ms ? connect_timeout_ms : timeout_ms);
	else if (failure == FAILURE_DESCRIPTORS)
		snprintf(error, size, "no file descriptor is left in this process");
	else if (progress->repeated && !progress->repeat_safe)
		snprintf(error, size, "the connection closed before an answer");
	else if (progress->too_large)
		snprintf(error, size, "the answer is larger than %d bytes", MAX_BODY);
	else
		snprintf(error, size, "%s", text);
}
