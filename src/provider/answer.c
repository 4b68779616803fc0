/*
 * answer.c
 *		Reads an answer: what it repeats of the request is taken out of it, then the rules
 *		that all providers share, then the provider's own.
 */
#include <stdio.h>
#include <string.h>

#include "provider/answer.h"
#include "provider/support.h"
#include "text/echo.h"
#include "text/text.h"

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

/* What an HTTP status means, in words of ours; the verdict is not read from here. */
static const CodeMeaning statuses[] = {
	{"401", VERDICT_GATEWAY, "the credentials are refused (HTTP status 401)"},
	{"403", VERDICT_GATEWAY, "access is refused (HTTP status 403)"},
	{"404", VERDICT_GATEWAY, "there is nothing at this address (HTTP status 404)"},
	{"405", VERDICT_GATEWAY, "there is something else at this address (HTTP status 405)"},
	{"407", VERDICT_GATEWAY, "a proxy wants other credentials (HTTP status 407)"},
	{NULL, VERDICT_UNCERTAIN, NULL},
};

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

	answer->why = words_of(statuses, answer->code);
	if (status == 503)
		answer->verdict = VERDICT_TRANSIENT;
	else if (status >= 500 || status == 408 || status < 300)
		answer->verdict = VERDICT_UNCERTAIN;
	else if (status == 401 || status == 403 || status == 404 || status == 405 || status == 407)
		answer->verdict = VERDICT_GATEWAY;
	else
		answer->verdict = VERDICT_PERMANENT;

	if (status < 300)
	{
		answer->why = "the answer cannot be read: not the JSON that the provider documents";
		snprintf(answer->message, sizeof(answer->message), "%s", answer->why);
	}
	else if (answer->message[0] == '\0')
		snprintf(answer->message, sizeof(answer->message), "HTTP status %d without a text", status);
}

/* Reads an answer as its provider does; what the status alone says stands where the provider says nothing else. */
static void
read_body(const Provider *provider, Settings settings, const Message *message, const HttpAnswer *http,
		  Answer *answer)
{
	const char *why;
	char code[sizeof(answer->code)];

	read_bare_status(http, answer);
	why = answer->why;
	memcpy(code, answer->code, sizeof(code));
	provider->read(settings, message, http, answer);
	if (answer->why == why && strcmp(answer->code, code) != 0)
		answer->why = NULL;
}

/* Lists what a request held that an answer must not repeat. */
static void
list_needles(const Provider *provider, Settings settings, const Message *message, const char *proxy_password,
			 EchoNeedles *needles)
{
	needles->n = 0;
	for (int i = 0; provider->options[i].name != NULL; i++)
	{
		if (provider->options[i].where & OPTION_USER)
			echo_add(needles, ECHO_SECRET, settings[i]);
		else if (&provider->options[i] == provider->content_option)
			echo_add(needles, ECHO_TEXT, settings[i]);
	}
	echo_add(needles, ECHO_SECRET, proxy_password);
	echo_add(needles, ECHO_SECRET, message->token);
	echo_add(needles, ECHO_TEXT, message->content);
	echo_add(needles, ECHO_TEXT, message->list_param);
	echo_add(needles, ECHO_CODE, message->code);
	needles->phones = message->phones;
	needles->nphones = message->nphones;
}

/* Hides in all that came back what the provider repeats, before anything of it is read. */
static void
hide_echoes(const EchoNeedles *needles, HttpAnswer *http)
{
	http->len = echo_hide(http->body, http->len, needles);
	if (http->redirect_host[0] != '\0')
		echo_hide(http->redirect_host, strlen(http->redirect_host), needles);
	if (http->error[0] != '\0')
		echo_hide(http->error, strlen(http->error), needles);
}

/* An id of which a part was hidden names no message. */
static void
drop_hidden_ids(Answer *answer)
{
	char *const ids[] = {answer->smsid, answer->id_omni_mess, answer->referent_id, answer->token};

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
	{
		if (ids[i][0] != '\0' && echo_is_hidden(ids[i]))
			ids[i][0] = '\0';
	}
}

/*
 * Reads an outcome, whatever it is, into an answer: the rules common to all providers, then the
 * provider's own.  Before that, and for whoever reads the outcome later, it is rid of what it repeats of
 * the request.  proxy_password: that of the gateway, or NULL.
 */
void
answer_read(const Provider *provider, Settings settings, const Message *message, const char *proxy_password,
			HttpAnswer *http, Answer *answer)
{
	EchoNeedles needles;

	list_needles(provider, settings, message, proxy_password, &needles);
	hide_echoes(&needles, http);
	memset(answer, 0, sizeof(*answer));
	answer->retry_after = -1;
	answer->http_status = http->status;
	answer->repeated = http->repeated;

	answer->ours = read_http(http, answer);
	if (!answer->ours)
		read_body(provider, settings, message, http, answer);
	drop_hidden_ids(answer);
}

/* What a verdict says by itself. */
static const char *const verdict_words[] = {
	[VERDICT_ACCEPTED] = "accepted",
	[VERDICT_PERMANENT] = "the message is refused",
	[VERDICT_TRANSIENT] = "the gateway fails",
	[VERDICT_THROTTLED] = "the gateway asks to slow down",
	[VERDICT_GATEWAY] = "the gateway takes no messages",
	[VERDICT_UNCERTAIN] = "the gateway fails",
};

/*
 * Writes what an answer says, for others than the message's owner: the code, if it is one, and words of
 * this extension, never those of who answered.
 */
void
answer_reason(const Answer *answer, char *reason, size_t size)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
	size_t len = strspn(answer->code, letters);
	bool code = len > 0 && len <= 32 && answer->code[len] == '\0';
	const char *words = answer->ours ? answer->message : answer->why;

	snprintf(reason, size, "%s: %s", code ? answer->code : "unknown code",
			 words != NULL ? words : verdict_words[answer->verdict]);
}
