/*
 * exchange.c
 *		One request of a session and its answer: which gateway, build, call, read.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "api/exchange.h"
#include "base/encoding.h"
#include "db/home.h"
#include "gateway/choose.h"
#include "miscadmin.h"
#include "net/http_call.h"
#include "provider/answer.h"

typedef struct Exchange
{
	const Gateway *gateway;
	const Prepared *prepared;
	Answer *answer;
} Exchange;

static void
take_answer(const HttpAnswer *http, void *arg)
{
	Exchange *exchange = arg;

	answer_read(exchange->gateway->provider, exchange->prepared->settings, &exchange->prepared->message, http,
				exchange->answer);
}

/* What a provider answered, as a DETAIL. */
char *
answer_text(const Answer *answer)
{
	return psprintf("%s%s%s", from_utf8(answer->code), answer->message[0] ? ": " : "",
					from_utf8(answer->message));
}

/* The gateway to use for a call: the one named, else the default. */
Gateway *
find_gateway(const char *name, Call call)
{
	Refusal refusal;
	Gateway *gateway = NULL;

	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("a standby sends no messages")));
	home_require();
	if (name == NULL)
		name = gateway_choose(call, GetUserId(), &refusal);
	if (name != NULL)
		gateway = gateway_get(name, GetUserId(), &refusal);
	if (gateway == NULL)
		refusal_raise(&refusal);
	return gateway;
}

/* Makes a request and reads the answer. */
void
exchange_now(Gateway *gateway, Prepared *prepared, Answer *answer)
{
	HttpRequest request;
	Exchange exchange = {gateway, prepared, answer};

	memset(&request, 0, sizeof(request));
	if (!gateway->provider->build(prepared->settings, &prepared->message, &request) ||
		!http_call(&gateway->endpoint, &request,
				   gateway->provider->repeat_safe(prepared->settings, &prepared->message), take_answer,
				   &exchange))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}
