/*
 * url.c
 *		URLs: which ones requests may go to, and how one is put together.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/url.h"

#define USER_REFUSED                                                                                         \
	"It holds a user name; credentials belong into the user mapping (for a proxy: proxy_user and "           \
	"proxy_password)."

/*
 * Is a text, before it is taken apart, what a path can be put behind?  Returns NULL if so, else what is wrong with it, as a
 * DETAIL: a literal.  What a parser takes for no part at all, such as an empty fragment, would swallow the path.
 */
const char *
url_text_refusal(const char *text)
{
	for (const char *c = text; *c != '\0'; c++)
	{
		if ((unsigned char) *c <= ' ' || *c == '\x7f')
			return "It holds a blank or a control character.";
		if (*c == '\\')
			return "It holds a backslash.";
	}
	if (strchr(text, '#') != NULL)
		return "It holds a fragment.";
	if (strchr(text, '?') != NULL)
		return "It holds a query.";
	if (strchr(text, '@') != NULL)
		return USER_REFUSED;
	return NULL;
}

/* May requests go to such a URL?  Returns NULL if so, else what is wrong with it, as a DETAIL: a literal. */
const char *
url_refusal(const UrlParts *parts)
{
	if (strcmp(parts->scheme, "http") != 0 && strcmp(parts->scheme, "https") != 0)
		return "It starts neither with https:// nor with http://.";
	if (parts->has_user)
		return USER_REFUSED;
	return NULL;
}

/* Is a host this machine?  A name that begins with 127. is none. */
static bool
is_loopback(const char *host)
{
	struct in_addr address;

	if (inet_pton(AF_INET, host, &address) == 1)
		return ntohl(address.s_addr) >> 24 == 127;
	return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

/* Would requests to such a URL be readable on the way: is it http to another machine? */
bool
url_is_plain_remote(const UrlParts *parts)
{
	return strcmp(parts->scheme, "http") == 0 && !is_loopback(parts->host);
}

/*
 * Writes text so that it can be a value in a query: all but what RFC 3986 calls unreserved becomes %XX.
 * Returns it from malloc; NULL when memory is out.
 */
char *
url_escape(const char *text)
{
	static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
	char *escaped = malloc(3 * strlen(text) + 1);
	char *end = escaped;

	if (escaped == NULL)
		return NULL;
	for (; *text != '\0'; text++)
	{
		if (strchr(unreserved, *text) != NULL)
			*end++ = *text;
		else
			end += sprintf(end, "%%%02X", (unsigned char) *text);
	}
	*end = '\0';
	return escaped;
}

/*
 * Writes base URL, path and query of a request.  Returns it from malloc; NULL when memory is out.  As
 * credentials may be in path and query, it is secret.
 */
char *
url_make(const char *base, const HttpRequest *request)
{
	size_t base_len = strlen(base);
	size_t size = base_len + strlen(request->path) + 1;
	char *escaped[HTTP_MAX_QUERY] = {0};
	char *segment[HTTP_MAX_SEGMENTS] = {0};
	char *url = NULL;
	bool ok = true;

	while (base_len > 0 && base[base_len - 1] == '/')
		base_len--;
	for (int i = 0; i < request->nquery && ok; i++)
	{
		escaped[i] = url_escape(request->query[i].value);
		ok = escaped[i] != NULL;
		size += ok ? strlen(request->query[i].name) + strlen(escaped[i]) + 2 : 0;
	}
	for (int i = 0; i < request->nsegments && ok; i++)
	{
		segment[i] = url_escape(request->segment[i]);
		ok = segment[i] != NULL;
		size += ok ? strlen(segment[i]) + 1 : 0;
	}
	if (ok && (url = malloc(size)) != NULL)
	{
		int used = snprintf(url, size, "%.*s%s", (int) base_len, base, request->path);

		for (int i = 0; i < request->nsegments; i++)
			used += snprintf(url + used, size - used, "/%s", segment[i]);
		for (int i = 0; i < request->nquery; i++)
			used += snprintf(url + used, size - used, "%c%s=%s", i == 0 ? '?' : '&', request->query[i].name,
							 escaped[i]);
	}
	for (int i = 0; i < request->nquery; i++)
		free(escaped[i]);
	for (int i = 0; i < request->nsegments; i++)
		free(segment[i]);
	return url;
}
