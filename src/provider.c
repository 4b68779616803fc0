/*
 * provider.c
 *		The table of providers, and what their answers have in common.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "provider.h"

#define MIN_SECRET 6 /* bytes; a shorter one would be found in ordinary words */

const Provider *const providers[] = {
	&esms_provider,
	&etelecom_provider,
	&interits_provider,
	NULL,
};

/* Returns the provider of that name, or NULL. */
const Provider *
provider_by_name(const char *name)
{
	for (int i = 0; providers[i] != NULL; i++)
	{
		if (strcmp(providers[i]->name, name) == 0)
			return providers[i];
	}
	return NULL;
}

/* Is a boolean option, checked before, on?  NULL: it is not given. */
bool
setting_is_true(const char *value)
{
	return value != NULL && strcmp(value, "true") == 0;
}

/*
 * Writes text with each "place" replaced by a value.  Returns text from malloc,
 * NULL when memory is out.
 */
char *
replace_place(const char *text, const char *place, const char *value)
{
	size_t place_len = strlen(place);
	size_t value_len = strlen(value);
	size_t size = strlen(text) + 1;
	char *copy;
	char *to;
	const char *at;

	for (at = text; (at = strstr(at, place)) != NULL; at += place_len)
		size += value_len;
	copy = to = malloc(size);
	if (copy == NULL)
		return NULL;
	for (; (at = strstr(text, place)) != NULL; text = at + place_len)
	{
		memcpy(to, text, at - text);
		to += at - text;
		memcpy(to, value, value_len);
		to += value_len;
	}
	strcpy(to, text);
	return copy;
}

/* The operator that providers of Vietnam give a number to, else the text itself. */
const char *
telco_name(const char *id)
{
	static const char *const names[] = {
		"Viettel", "MobiFone", "VinaPhone", "Vietnamobile", "Gtel", "Itel", "Reddi",
	};

	if (id[0] >= '1' && id[0] <= '7' && id[1] == '\0')
		return names[id[0] - '1'];
	return id;
}

/* Fills a complaint; always returns false, for "return complain(…)". */
bool
complain(Complaint *complaint, const char *hint, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(complaint->message, sizeof(complaint->message), format, args);
	va_end(args);
	complaint->hint = hint;
	complaint->unsupported = false;
	return false;
}

/*
 * Fills the verdict where HTTP alone decides, by the rules that all providers
 * share.  Returns false where the provider's own answer has to be read.
 */
static bool
read_http(const HttpAnswer *http, Answer *answer)
{
	if (http->progress != HTTP_ANSWERED)
	{
		answer->verdict = http->progress == HTTP_NOT_SENT ? VERDICT_TRANSIENT : VERDICT_UNCERTAIN;
		snprintf(answer->code, sizeof(answer->code), "%s", http->code != NULL ? http->code : "broken");
		utf8_copy(answer->message, sizeof(answer->message), http->error, strlen(http->error));
		return true;
	}
	if (http->status == 429 || (http->status == 503 && http->retry_after >= 0))
	{
		answer->verdict = VERDICT_THROTTLED;
		answer->retry_after = http->retry_after;
		snprintf(answer->code, sizeof(answer->code), "%d", http->status);
		snprintf(answer->message, sizeof(answer->message), "the gateway asks to slow down");
		return true;
	}
	if (http->status >= 300 && http->status < 400)
	{
		answer->verdict = VERDICT_GATEWAY;
		snprintf(answer->code, sizeof(answer->code), "%d", http->status);
		snprintf(answer->message, sizeof(answer->message),
				 "the gateway redirects to host \"%s\"; credentials do not follow redirects",
				 http->redirect_host[0] ? http->redirect_host : "?");
		return true;
	}
	return false;
}

/*
 * The verdict on an HTTP status when the body is not the provider's own JSON.
 * 503 without a word of the provider's comes from what stands in front of it.
 */
static void
read_bare_status(const HttpAnswer *http, Answer *answer)
{
	int status = http->status;

	snprintf(answer->code, sizeof(answer->code), "%d", status);
	utf8_copy(answer->message, sizeof(answer->message), http->body, http->len);

	if (status == 503)
		answer->verdict = VERDICT_TRANSIENT;
	else if (status >= 500 || status == 408 || status < 300)
		answer->verdict = VERDICT_UNCERTAIN;
	else if (status == 401 || status == 403 || status == 404 || status == 405 || status == 407)
		answer->verdict = VERDICT_GATEWAY;
	else
		answer->verdict = VERDICT_PERMANENT;

	if (status < 300)
		snprintf(answer->message, sizeof(answer->message),
				 "the answer cannot be read: not the JSON that the provider documents");
	else if (answer->message[0] == '\0')
		snprintf(answer->message, sizeof(answer->message), "HTTP status %d without a text", status);
}

/* Replaces a secret in a text, in whatever case it stands there. */
static void
hide(char *text, const char *secret)
{
	size_t len = strlen(secret);
	char *at;

	while ((at = strcasestr(text, secret)) != NULL)
	{
		memset(at, '*', 3);
		memmove(at + 3, at + len, strlen(at + len) + 1);
	}
}

/* Providers have been seen to tell in an error what they were sent: credentials go no further. */
static void
hide_credentials(const Provider *provider, Settings settings, Answer *answer)
{
	for (int i = 0; provider->options[i].name != NULL; i++)
	{
		const char *secret = (provider->options[i].where & OPTION_USER) ? settings[i] : NULL;

		if (secret == NULL || strlen(secret) < MIN_SECRET)
			continue;
		hide(answer->code, secret);
		hide(answer->message, secret);
	}
}

/*
 * Reads an outcome, whatever it is, into an answer: the rules common to all
 * providers, then the provider's own.
 */
void
provider_read(const Provider *provider, Settings settings, const Message *message, const HttpAnswer *http,
			  Answer *answer)
{
	memset(answer, 0, sizeof(*answer));
	answer->retry_after = -1;
	answer->http_status = http->status;

	if (!read_http(http, answer))
	{
		read_bare_status(http, answer);
		provider->read(settings, message, http, answer);
	}
	hide_credentials(provider, settings, answer);
}

/* Reads exactly n digits; -1 if there are fewer. */
static int
digits(const char **at, int n)
{
	int value = 0;

	for (int i = 0; i < n; i++, (*at)++)
	{
		if (!isdigit((unsigned char) **at))
			return -1;
		value = value * 10 + (**at - '0');
	}
	return value;
}

/* Reads Z, +07, +0700 or +07:00 into seconds east of UTC. */
static bool
parse_offset(const char **at, int *seconds)
{
	int sign = **at == '-' ? -1 : 1;
	int hours;
	int minutes = 0;

	if (**at == 'Z' || **at == 'z')
	{
		(*at)++;
		*seconds = 0;
		return true;
	}
	if (**at != '+' && **at != '-')
		return false;
	(*at)++;
	hours = digits(at, 2);
	if (**at == ':')
		(*at)++;
	if (isdigit((unsigned char) **at))
		minutes = digits(at, 2);
	if (hours < 0 || hours > 15 || minutes < 0 || minutes > 59)
		return false;
	*seconds = sign * (hours * 3600 + minutes * 60);
	return true;
}

/*
 * Reads an ISO 8601 date and time, as PostgreSQL writes a timestamptz into
 * JSON, into milliseconds since 1970 UTC.  A time without an offset is taken to
 * be default_offset seconds east of UTC.  Returns false if it is anything else.
 */
bool
parse_iso_date(const char *text, int default_offset, long long *epoch_ms)
{
	struct tm tm = {0};
	struct tm check;
	time_t utc;
	int offset = default_offset;
	int ms = 0;
	int scale = 100;
	const char *at = text;

	tm.tm_year = digits(&at, 4) - 1900;
	if (tm.tm_year < 70 || *at++ != '-' || (tm.tm_mon = digits(&at, 2) - 1) < 0 || *at++ != '-' ||
		(tm.tm_mday = digits(&at, 2)) < 1 || (*at != 'T' && *at != ' '))
		return false;
	at++;
	if ((tm.tm_hour = digits(&at, 2)) < 0 || *at++ != ':' || (tm.tm_min = digits(&at, 2)) < 0)
		return false;
	if (*at == ':')
	{
		at++;
		if ((tm.tm_sec = digits(&at, 2)) < 0)
			return false;
	}
	if (*at == '.')
	{
		for (at++; isdigit((unsigned char) *at); at++, scale /= 10)
			ms += (*at - '0') * scale;
	}
	if (*at != '\0' && !parse_offset(&at, &offset))
		return false;
	check = tm;
	utc = timegm(&check);
	if (*at != '\0' || check.tm_mday != tm.tm_mday || check.tm_mon != tm.tm_mon ||
		check.tm_hour != tm.tm_hour || check.tm_min != tm.tm_min || check.tm_sec != tm.tm_sec)
		return false;
	*epoch_ms = ((long long) utc - offset) * 1000 + ms;
	return true;
}
