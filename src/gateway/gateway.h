/*
 * gateway.h
 *		A gateway: a foreign server and one role's credentials for it, ready for use.
 */
#ifndef SMS_GATEWAY_GATEWAY_H
#define SMS_GATEWAY_GATEWAY_H

#include "postgres.h"

#include "foreign/foreign.h"
#include "gateway/refusal.h"
#include "net/http.h"
#include "nodes/pg_list.h"
#include "provider/provider.h"

/* So many messages in so many seconds; 0 seconds: no limit. */
typedef struct Rate
{
	int messages;
	int seconds;
} Rate;

/* Which ends of messages are told by NOTIFY; in the order of the option's choices. */
typedef enum Events
{
	EVENTS_FAILURES,
	EVENTS_FINAL,
	EVENTS_OFF,
} Events;

/*
 * A foreign server and one role's credentials for it, as gateway_get() found them; texts
 * are UTF-8, but for the name, which is the database's.
 */
typedef struct Gateway
{
	Oid server;
	Oid role;
	char *name;
	const Provider *provider;
	HttpEndpoint endpoint;
	int max_in_flight;
	double rate_limit; /* messages a second; 0: none */
	int max_attempts;
	int max_parts;
	const char *country_code;
	const char *fallback; /* or NULL */
	bool resend_uncertain;
	bool poll_delivery;
	Events events;
	bool unaccent;
	bool redact;
	double min_balance; /* NaN: none */
	Rate otp_per_phone;
	Rate per_phone;
	Rate per_role;
	int daily_budget; /* messages; 0: no limit */
	const char *settings[PROVIDER_MAX_OPTIONS];
	bool stale; /* a server, mapping or role changed since: another look-up may tell otherwise */
} Gateway;

extern void gateway_init(void);
extern Gateway *gateway_get(const char *name, Oid role, Refusal *refusal);
extern void gateway_hold(Gateway *gateway);
extern ForeignServer *gateway_server(const char *name, const Provider **provider);
extern const Provider *gateway_provider(const char *name);
extern List *gateway_names(void);
extern Events gateway_events(const char *name);
extern bool gateway_redacts(const char *name);
extern bool gateway_uses_tokens(const char *name);
extern const char *gateway_setting(const Provider *provider, Settings settings, const OptionDef *option);
extern bool gateway_query(const Gateway *gateway, Call call, const char *reference, HttpRequest *request);

#endif /* SMS_GATEWAY_GATEWAY_H */
