/*
 * limits.h
 *		Limits against abuse.
 */
#ifndef SMS_LIMITS_H
#define SMS_LIMITS_H

#include "gateway/gateway.h"

extern void limits_take(const Gateway *gateway, const Message *message, bool direct);
extern void limits_keep(bool sent);

#endif /* SMS_LIMITS_H */
