/*
 * exchange.h
 *		One request of a session and its answer.
 */
#ifndef SMS_EXCHANGE_H
#define SMS_EXCHANGE_H

#include "gateway/gateway.h"

/*
 * What is asked, and what came back.  The caller fills the first three, and holds
 * the gateway.
 */
typedef struct Exchange
{
	const Gateway *gateway;
	Settings settings; /* the gateway's, or those of one message */
	const Message *message;

	Answer answer;
	bool told;        /* the answer holds what was asked for: one of the next two */
	Report report;    /* of CALL_STATUS and CALL_STATUS_DETAIL: added to what is there */
	char balance[40]; /* of CALL_BALANCE and CALL_PRICE, as the provider writes it */
	char *list;       /* of CALL_BRANDNAMES and CALL_TEMPLATES: see Provider; the caller's to free() */
} Exchange;

extern Gateway *exchange_gateway(const char *name, Call call);
extern void exchange_run(Exchange *exchange);
extern int exchange_detail(const Answer *answer);
extern bool exchange_is_amount(const char *text);

#endif /* SMS_EXCHANGE_H */
