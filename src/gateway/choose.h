/*
 * choose.h
 *		The gateway of messages that name none.
 */
#ifndef SMS_CHOOSE_H
#define SMS_CHOOSE_H

#include "gateway/refusal.h"
#include "provider/provider.h"

extern const char *gateway_choose(Call call, Oid role, Refusal *refusal);

#endif /* SMS_CHOOSE_H */
