/*
 * exchange.h
 *		One request of a session and its answer.
 */
#ifndef SMS_EXCHANGE_H
#define SMS_EXCHANGE_H

#include "gateway/prepare.h"

extern char *answer_text(const Answer *answer);
extern Gateway *find_gateway(const char *name, Call call);
extern void exchange_now(Gateway *gateway, Prepared *prepared, Answer *answer);

#endif /* SMS_EXCHANGE_H */
