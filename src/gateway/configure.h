/*
 * configure.h
 *		What a gateway is, and how its fields are read from options as users write them.
 */
#ifndef SMS_CONFIGURE_H
#define SMS_CONFIGURE_H

#include "postgres.h"

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
	Oid owner; /* of the server */
	Oid role;
	const char *role_name;
	uint64
		credentials; /* a number of the role's own user mapping, as it and the server are now; 0: PUBLIC's */
	char *name;
	const Provider *provider;
	HttpEndpoint endpoint;
	int max_in_flight;
	double rate_limit; /* messages a second; 0: none */
	int max_attempts;
	int max_parts;
	const char *country_code;
	const char *countries;     /* of receivers, as option_has_country() takes it */
	bool convert_old;          /* numbers of before 2018 become those of today; else they are refused */
	const char *fallback;      /* or NULL */
	const char *told_fallback; /* the same in UTF-8 */
	const char *told_name;     /* … and the gateway's own name */
	bool resend_uncertain;
	bool poll_delivery;
	Events events;
	bool unaccent;
	bool redact;
	bool otp_is_local;  /* one-time passwords are made and checked here */
	double min_balance; /* NaN: none */
	Rate otp_per_phone;
	Rate per_phone;
	Rate per_role;
	int daily_budget; /* messages; 0: no limit */
	const char *settings[PROVIDER_MAX_OPTIONS];
	bool stale; /* a server, mapping or role changed since: another look-up may tell otherwise */
} Gateway;

extern void gateway_configure(Gateway *gateway, List *server_options, List *user_options);
extern bool gateway_same_account(const Gateway *a, const Gateway *b);

#endif /* SMS_CONFIGURE_H */
