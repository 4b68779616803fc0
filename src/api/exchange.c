/*
 * exchange.c
 *		One request of a session and its answer: which gateway, build, call, read.
 */
#include "postgres.h"

#include <math.h>

#include "access/xlog.h"
#include "api/exchange.h"
#include "base/encoding.h"
#include "db/home.h"
#include "db/scope.h"
#include "gateway/choose.h"
#include "miscadmin.h"
#include "net/http_call.h"
#include "provider/answer.h"

/*
 * The gateway to use for a call, as the current user: the one named, else (NULL) the
 * default.  Valid until gateways are looked up again, or longer with gateway_hold().
 * Errors: 25006 on a standby, 55000 where nothing may be sent, else those of gateway_get().
 */
Gateway *
exchange_gateway(const char *name, Call call)
{
	Refusal refusal;
	Gateway *gateway = NULL;

	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("a standby sends no messages")));
	scope_require_served();
	home_require();
	if (name == NULL)
		name = gateway_choose(call, GetUserId(), &refusal);
	if (name != NULL)
		gateway = gateway_get(name, GetUserId(), &refusal);
	if (gateway == NULL)
		refusal_raise(&refusal);
	return gateway;
}

/* Reads what came back; called by http_call(), and raises no error. */
static void
exchange_read(HttpAnswer *http, void *arg)
{
	Exchange *exchange = arg;
	const Provider *provider = exchange->gateway->provider;

	answer_read(provider, exchange->settings, exchange->message, exchange->gateway->endpoint.proxy_password,
				http, &exchange->answer);
	exchange->told = false;
	if (exchange->answer.verdict != VERDICT_ACCEPTED)
		return;
	if (exchange->message->call == CALL_STATUS || exchange->message->call == CALL_STATUS_DETAIL)
		exchange->told = provider->report(http->body, http->len, &exchange->report);
	else if (exchange->message->call == CALL_BRANDNAMES || exchange->message->call == CALL_TEMPLATES)
	{
		exchange->list = provider->list(exchange->message->call, http);
		exchange->told = exchange->list != NULL;
	}
	else if (exchange->message->call == CALL_BALANCE || exchange->message->call == CALL_PRICE)
		exchange->told = provider->balance(http, exchange->balance, sizeof(exchange->balance));
}

/* Asking twice harms nobody; a message sent twice does, unless the provider knows it again. */
static bool
exchange_repeats_safely(const Exchange *exchange)
{
	switch (exchange->message->call)
	{
		case CALL_STATUS:
		case CALL_STATUS_DETAIL:
		case CALL_BALANCE:
		case CALL_BRANDNAMES:
		case CALL_TEMPLATES:
		case CALL_PRICE:
			return true;
		default:
			return exchange->gateway->provider->repeat_safe(exchange->settings, exchange->message);
	}
}

/*
 * Makes a request, waits for its answer, which can be canceled at any time, and fills
 * the exchange with what it says.  Error: 53200 when memory is out.
 */
void
exchange_run(Exchange *exchange)
{
	HttpRequest request;

	memset(&request, 0, sizeof(request));
	if (!exchange->gateway->provider->build(exchange->settings, exchange->message, &request) ||
		!http_call(&exchange->gateway->endpoint, &request, exchange_repeats_safely(exchange), exchange_read,
				   exchange))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

/* What a provider answered, as the DETAIL of a warning: its own words to who called it, ours to the log. */
int
exchange_detail(const Answer *answer)
{
	char reason[256];

	answer_reason(answer, reason, sizeof(reason));
	errdetail_log("%s", from_utf8(reason));
	return errdetail("%s%s%s", from_utf8(answer->code), answer->message[0] ? ": " : "",
					 from_utf8(answer->message));
}

/* Is it a number that numeric takes too?  strtod alone takes "inf" and "0x1p3". */
bool
exchange_is_amount(const char *text)
{
	char *end;

	return strspn(text, "+-.0123456789eE") == strlen(text) && isfinite(strtod(text, &end)) && end != text &&
		   *end == '\0';
}
