/*
 * answer.h
 *		What an outcome of HTTP means, whichever provider it comes from.
 */
#ifndef SMS_ANSWER_H
#define SMS_ANSWER_H

#include "provider/provider.h"

extern void answer_read(const Provider *provider, Settings settings, const Message *message,
						const char *proxy_password, HttpAnswer *http, Answer *answer);

extern void answer_reason(const Answer *answer, char *reason, size_t size);

#endif /* SMS_ANSWER_H */
