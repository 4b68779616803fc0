/*
 * limits.h
 *		Limits against abuse.
 */
#ifndef SMS_LIMITS_H
#define SMS_LIMITS_H

#include "gateway/gateway.h"

extern void limits_take(const Gateway *gateway, const Message *message, bool direct);
extern bool limits_grant(const Gateway *gateway, const Message *message, Oid role, Refusal *refusal);
extern void limits_send(void);
extern void limits_sent(bool gone);

#endif /* SMS_LIMITS_H */
