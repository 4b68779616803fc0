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
	COMMON_ALLOW_HTTP,
	COMMON_TTL,
	COMMON_LENGTH,
	COMMON_DIGITS_ONLY,
	COMMON_COUNT
};

extern const OptionDef common_options[];

extern const OptionDef *find_option(const OptionDef *options, const char *name, unsigned where);
extern char *option_names(const Provider *provider, unsigned where);
extern const char *option_value(const OptionDef *option, const char *value, const char **detail);
extern const char *given_value(List *options, const char *name);

#endif /* SMS_OPTIONS_H */
