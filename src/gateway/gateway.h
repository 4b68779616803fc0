/*
 * gateway.h
 *		A gateway: a foreign server and one role's credentials for it, ready for use.
 */
#ifndef SMS_GATEWAY_GATEWAY_H
#define SMS_GATEWAY_GATEWAY_H

#include "postgres.h"

#include "foreign/foreign.h"
#include "gateway/configure.h"
#include "gateway/refusal.h"

extern void gateway_init(void);
extern Gateway *gateway_get(const char *name, Oid role, Refusal *refusal);
extern void gateway_hold(Gateway *gateway);
extern ForeignServer *gateway_server(const char *name, const Provider **provider);
extern const Provider *gateway_provider(const char *name);
extern bool gateway_refuse_name(const char *name, Oid role, Refusal *refusal);
extern uint64 gateway_changes(void);
extern uint64 gateway_fingerprint(const char *name, int *mappings);
extern uint64 gateway_credentials(const char *name, Oid role);
extern List *gateway_names(void);
extern Events gateway_events(const char *name);
extern bool gateway_redacts(const char *name);
extern bool gateway_uses_tokens(const char *name);
extern const char *gateway_setting(const Provider *provider, Settings settings, const OptionDef *option);
extern bool gateway_query(const Gateway *gateway, const Message *question, HttpRequest *request);

#endif /* SMS_GATEWAY_GATEWAY_H */
