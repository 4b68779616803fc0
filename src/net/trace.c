/*
 * trace.c
 *		What happened to one request on the wire, for the server's log, without what
 *		is secret: scrub.c decides what may be shown.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/trace.h"
#include "net/url.h"
#include "text/scrub.h"

#define MAX_TEXT 8192 /* bytes; lines that do not fit are left out */
#define MAX_LINE 512
/* Each value of a query and of the path, as it is and escaped; those of the headers; and NULL. */
#define MAX_SECRETS (2 * HTTP_MAX_QUERY + 2 * HTTP_MAX_SEGMENTS + HTTP_MAX_HEADERS + 1)

struct Trace
{
	size_t len;
	char *secrets[MAX_SECRETS]; /* what must not be in the text; ends with NULL */
	char text[MAX_TEXT];
};

/*
 * Begins the trace of a request, of which nothing need live on: what is secret in it is copied.
 * Returns NULL when memory is out.  The caller frees it with trace_free().
 */
Trace *
trace_create(const HttpRequest *request)
{
	Trace *trace = calloc(1, sizeof(Trace));
	int n = 0;
	bool ok = trace != NULL;

	for (int i = 0; ok && i < request->nquery; i++)
		ok = (trace->secrets[n++] = strdup(request->query[i].value)) != NULL &&
			 (trace->secrets[n++] = url_escape(request->query[i].value)) != NULL;
	for (int i = 0; ok && i < request->nsegments; i++)
		ok = (trace->secrets[n++] = strdup(request->segment[i])) != NULL &&
			 (trace->secrets[n++] = url_escape(request->segment[i])) != NULL;
	for (int i = 0; ok && i < request->nheaders; i++)
		ok = (trace->secrets[n++] = strdup(request->header[i].value)) != NULL;
	if (ok)
		return trace;
	trace_free(trace);
	return NULL;
}

/* Ends a trace; nothing happens to NULL. */
void
trace_free(Trace *trace)
{
	if (trace == NULL)
		return;
	for (char **secret = trace->secrets; *secret != NULL; secret++)
		free(*secret);
	free(trace);
}

/* Adds a line, scrubbed, if there is something to show and room for it. */
static void
add_line(Trace *trace, const char *prefix, ScrubLine kind, const char *line, size_t len)
{
	size_t left = MAX_TEXT - trace->len;
	char scrubbed[MAX_LINE];

	if (!scrub_line(kind, line, len, (const char *const *) trace->secrets, scrubbed, sizeof(scrubbed)))
		return;
	if (strlen(prefix) + strlen(scrubbed) + 2 > left)
		return;
	trace->len +=
		snprintf(trace->text + trace->len, left, "%s%s%s", trace->len > 0 ? "\n" : "", prefix, scrubbed);
}

/* Adds a piece of what happened; data need not end with a NUL. */
void
trace_add(Trace *trace, TraceKind kind, const char *data, size_t len)
{
	char size[32];

	switch (kind)
	{
		case TRACE_WORDS:
			add_line(trace, "* ", SCRUB_INFO, data, len);
			break;
		case TRACE_HEADER_IN:
			add_line(trace, "< ", SCRUB_HEADER, data, len);
			break;
		case TRACE_HEADER_OUT:
			while (len > 0)
			{
				const char *end = memchr(data, '\n', len);
				size_t line = end != NULL ? (size_t) (end - data) + 1 : len;

				add_line(trace, "> ", SCRUB_HEADER, data, line);
				data += line;
				len -= line;
			}
			break;
		case TRACE_BODY_IN:
		case TRACE_BODY_OUT:
			snprintf(size, sizeof(size), "(%zu bytes)", len);
			add_line(trace, kind == TRACE_BODY_IN ? "< " : "> ", SCRUB_INFO, size, strlen(size));
			break;
	}
}

/* Returns the lines so far, with \n between them; it lives as long as the trace. */
const char *
trace_text(const Trace *trace)
{
	return trace->text;
}
