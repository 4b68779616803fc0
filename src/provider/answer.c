/*
 * answer.c
 *		Reads an answer: the rules that all providers share, then the provider's own,
 *		then credentials are taken out of what it says.
 */
#include <stdio.h>
#include <string.h>

#include "provider/answer.h"
#include "text/text.h"

#define MIN_SECRET 6 /* bytes; a shorter one would be found in ordinary words */

/*
 * Fills the verdict where HTTP alone decides, by the rules that all providers
 * share.  Returns false where the provider's own answer has to be read.
 */
static bool
read_http(const HttpAnswer *http, Answer *answer)
{
	if (http->progress == HTTP_NOT_SENT &&
		(http->proxy_status == 407 || http->proxy_status == 403 || http->proxy_status == 401))
	{
		answer->verdict = VERDICT_GATEWAY;
		snprintf(answer->code, sizeof(answer->code), "proxy");
		snprintf(answer->message, sizeof(answer->message),
				 http->proxy_status == 403
					 ? "the proxy does not let requests pass to the gateway (HTTP status %d)"
					 : "the proxy wants other credentials: proxy_user, proxy_password (HTTP status %d)",
				 http->proxy_status);
		return true;
	}
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
answer_read(const Provider *provider, Settings settings, const Message *message, const HttpAnswer *http,
			Answer *answer)
{
	memset(answer, 0, sizeof(*answer));
	answer->retry_after = -1;
	answer->http_status = http->status;
	answer->repeated = http->repeated;

	if (!read_http(http, answer))
	{
		read_bare_status(http, answer);
		provider->read(settings, message, http, answer);
	}
	hide_credentials(provider, settings, answer);
}
