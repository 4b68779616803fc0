/*
 * choose.h
 *		The gateway of messages that name none, and whose gateways take those that do not name them.
 */
#ifndef SMS_CHOOSE_H
#define SMS_CHOOSE_H

#include "gateway/gateway.h"
#include "gateway/refusal.h"
#include "provider/provider.h"

extern const char *gateway_choose(Call call, Oid role, Refusal *refusal);
extern char *gateway_owner_mark(Oid owner, Oid role);
extern bool gateway_refuse_owner(const Gateway *gateway, Refusal *refusal);
extern void gateway_require_owner(const Gateway *gateway, const Gateway *named);

#endif /* SMS_CHOOSE_H */
