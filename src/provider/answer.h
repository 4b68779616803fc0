/*
 * answer.h
 *		What an outcome of HTTP means, whichever provider it comes from.
 */
#ifndef SMS_ANSWER_H
#define SMS_ANSWER_H

#include "provider/provider.h"

extern void answer_read(const Provider *provider, Settings settings, const Message *message,
						const HttpAnswer *http, Answer *answer);

#endif /* SMS_ANSWER_H */
