/*
 * scrub.c
 *		Takes secrets out of what libcurl tells of a request, before it is logged.
 *
 * What is known to be harmless passes; of all else only names do.  Credentials,
 * phone numbers and one-time passwords travel in queries, in headers of the
 * provider's own, and in bodies, of which nothing comes here.
 */
#include <string.h>
#include <strings.h>

#include "text/scrub.h"

#define HIDDEN     "***"
#define MIN_SECRET 4 /* bytes; a shorter value would be found everywhere */

/* Headers whose values are shown. */
static const char *const harmless[] = {
	"Host",
	"Accept",
	"Accept-Encoding",
	"Content-Type",
	"Content-Length",
	"Content-Encoding",
	"Transfer-Encoding",
	"Connection",
	"Keep-Alive",
	"Date",
	"Server",
	"Retry-After",
	"Allow",
	NULL,
};

static bool
is_harmless(const char *name, size_t len)
{
	for (int i = 0; harmless[i] != NULL; i++)
	{
		if (strlen(harmless[i]) == len && strncasecmp(harmless[i], name, len) == 0)
			return true;
	}
	return false;
}

typedef struct Output
{
	char *text;
	size_t len;
	size_t size;
} Output;

static void
put(Output *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len && out->len + 1 < out->size; i++)
		out->text[out->len++] = text[i] >= 0x20 && text[i] < 0x7F ? text[i] : '?';
	out->text[out->len] = '\0';
}

/* The length of a secret that begins here; 0: none does. */
static size_t
secret_at(const char *text, size_t len, const char *const *secrets)
{
	size_t longest = 0;

	for (; secrets != NULL && *secrets != NULL; secrets++)
	{
		size_t n = strlen(*secrets);

		if (n >= MIN_SECRET && n > longest && n <= len && memcmp(text, *secrets, n) == 0)
			longest = n;
	}
	return longest;
}

/* Copies text without queries and secrets. */
static void
put_scrubbed(Output *out, const char *text, size_t len, const char *const *secrets)
{
	for (size_t i = 0; i < len;)
	{
		size_t secret = secret_at(text + i, len - i, secrets);

		if (secret > 0)
		{
			put(out, HIDDEN, strlen(HIDDEN));
			i += secret;
		}
		else if (text[i] == '?')
		{
			/* A query ends where a URL does. */
			put(out, "?" HIDDEN, 1 + strlen(HIDDEN));
			while (i < len && strchr(" \t\"'<>]", text[i]) == NULL)
				i++;
		}
		else
			put(out, &text[i++], 1);
	}
}

/*
 * Copies a line, as ASCII, without what may be secret; "secrets" ends with NULL,
 * or is NULL.  Returns false if nothing of it should be shown.
 */
bool
scrub_line(ScrubLine kind, const char *line, size_t len, const char *const *secrets, char *out, size_t size)
{
	Output output = {out, 0, size};
	const char *colon = memchr(line, ':', len);
	const char *space = memchr(line, ' ', len);

	while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == '\n'))
		len--;
	out[0] = '\0';
	if (len == 0)
		return false;
	if (kind == SCRUB_INFO)
	{
		/* With HTTP/2 libcurl tells the request's headers a second time: "h2h3 [api-key: …]" */
		if (line[len - 1] == ']')
			return false;
		put_scrubbed(&output, line, len, secrets);
		return true;
	}
	/* "GET /path?query HTTP/1.1" and "HTTP/1.1 200 OK" have a space before any colon. */
	if (colon == NULL || (space != NULL && space < colon) || is_harmless(line, colon - line))
		put_scrubbed(&output, line, len, secrets);
	else
	{
		put_scrubbed(&output, line, colon - line, secrets);
		put(&output, ": " HIDDEN, 2 + strlen(HIDDEN));
	}
	return true;
}
