/*
 * options.h
 *		The options that all gateways have, and the values of options as the database
 *		holds them.
 */
#ifndef SMS_OPTIONS_H
#define SMS_OPTIONS_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "provider/provider.h"

/* The options that all gateways have, in the order of options_common. */
enum
{
	COMMON_BASE_URL,
	COMMON_TIMEOUT,
	COMMON_CONNECT_TIMEOUT,
	COMMON_MAX_IN_FLIGHT,
	COMMON_RATE_LIMIT,
	COMMON_MAX_ATTEMPTS,
	COMMON_MAX_PARTS,
	COMMON_COUNTRY_CODE,
	COMMON_COUNTRIES,
	COMMON_OLD_NUMBERS,
	COMMON_FALLBACK,
	COMMON_ON_UNCERTAIN,
	COMMON_POLL_DELIVERY,
	COMMON_NOTIFY,
	COMMON_UNACCENT,
	COMMON_REDACT,
	COMMON_MIN_BALANCE,
	COMMON_OTP_PER_PHONE,
	COMMON_PER_PHONE,
	COMMON_PER_ROLE,
	COMMON_DAILY_BUDGET,
	COMMON_CA_FILE,
	COMMON_SSL_CERT,
	COMMON_SSL_KEY,
	COMMON_PROXY,
	COMMON_PROXY_USER,
	COMMON_PROXY_PASSWORD,
	COMMON_ALLOW_HTTP,
	/* of messages only */
	COMMON_TTL,
	COMMON_LENGTH,
	COMMON_DIGITS_ONLY,
	COMMON_COUNT
};

extern const OptionDef options_common[];

extern const OptionDef *options_find(const OptionDef *table, const char *name, unsigned where);
extern char *options_names(const Provider *provider, unsigned where);
extern const char *options_value(const OptionDef *option, const char *value, const char **detail);
extern int options_choice(const OptionDef *option, const char *value);
extern const OptionDef *options_find_invalid(const Provider *provider, List *options, const char **detail);
extern const char *options_given(List *options, const char *name);

#endif /* SMS_OPTIONS_H */
