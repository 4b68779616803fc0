/*
 * configure.c
 *		Reads the options of a server and a user mapping into a gateway.
 */
#include "postgres.h"

#include <math.h>

#include "base/encoding.h"
#include "gateway/configure.h"
#include "gateway/options.h"
#include "provider/support.h"
#include "provider/table.h"

/*
 * Fills values, in the order of the table, from options of the database, and
 * from the defaults.  Values that are no longer acceptable (an upgrade may have
 * narrowed them) count as not given.
 */
static void
fill_values(const OptionDef *table, List *server_options, List *user_options, const char **values)
{
	for (int i = 0; table[i].name != NULL; i++)
	{
		List *options = table[i].where & OPTION_USER ? user_options : server_options;
		const char *given = options_given(options, table[i].name);
		const char *detail;

		values[i] = NULL;
		if (given != NULL)
			values[i] = options_value(&table[i], to_utf8(given, table[i].name), &detail);
		if (values[i] == NULL && table[i].initial != NULL)
			values[i] = options_value(&table[i], table[i].initial, &detail);
		if (values[i] != NULL)
			values[i] = pstrdup(values[i]);
	}
}

static Rate
rate_of(const char *value)
{
	Rate rate = {0, 0};

	sscanf(value, "%d %d", &rate.messages, &rate.seconds);
	return rate;
}

static void
read_endpoint(const Provider *provider, const char *const *common, HttpEndpoint *endpoint)
{
	endpoint->base_url = common[COMMON_BASE_URL] ? common[COMMON_BASE_URL] : provider->base_url;
	endpoint->timeout_ms = atoi(common[COMMON_TIMEOUT]);
	endpoint->connect_timeout_ms = atoi(common[COMMON_CONNECT_TIMEOUT]);
	endpoint->ca_file = common[COMMON_CA_FILE];
	endpoint->ssl_cert = common[COMMON_SSL_CERT];
	endpoint->ssl_key = common[COMMON_SSL_KEY];
	endpoint->proxy = common[COMMON_PROXY];
	endpoint->proxy_user = common[COMMON_PROXY_USER];
	endpoint->proxy_password = common[COMMON_PROXY_PASSWORD];
}

/* Reads how fast, how often and how many messages may be sent. */
static void
read_limits(const char *const *common, Gateway *g)
{
	g->max_in_flight = atoi(common[COMMON_MAX_IN_FLIGHT]);
	g->rate_limit = atof(common[COMMON_RATE_LIMIT]);
	g->max_attempts = atoi(common[COMMON_MAX_ATTEMPTS]);
	g->max_parts = atoi(common[COMMON_MAX_PARTS]);
	g->otp_per_phone = rate_of(common[COMMON_OTP_PER_PHONE]);
	g->per_phone = rate_of(common[COMMON_PER_PHONE]);
	g->per_role = rate_of(common[COMMON_PER_ROLE]);
	g->daily_budget = common[COMMON_DAILY_BUDGET] ? atoi(common[COMMON_DAILY_BUDGET]) : 0;
}

/* Reads what is done to messages before, between and after the attempts to send them. */
static void
read_handling(const char *const *common, Gateway *g)
{
	bool has_status = (g->provider->calls & CALL_BIT(CALL_STATUS)) != 0;
	bool has_balance = (g->provider->calls & CALL_BIT(CALL_BALANCE)) != 0;
	const OptionDef *otp_option = g->provider->otp_option;

	g->country_code = common[COMMON_COUNTRY_CODE];
	g->countries = common[COMMON_COUNTRIES] != NULL ? common[COMMON_COUNTRIES] : g->country_code;
	g->convert_old = strcmp(common[COMMON_OLD_NUMBERS], "convert") == 0;
	g->unaccent = setting_is_true(common[COMMON_UNACCENT]);
	g->fallback = from_utf8(common[COMMON_FALLBACK]);
	g->told_fallback = common[COMMON_FALLBACK];
	g->told_name = to_utf8_told(g->name);
	g->resend_uncertain = strcmp(common[COMMON_ON_UNCERTAIN], "resend") == 0;
	g->poll_delivery =
		has_status && (common[COMMON_POLL_DELIVERY] == NULL || setting_is_true(common[COMMON_POLL_DELIVERY]));
	g->min_balance = has_balance && common[COMMON_MIN_BALANCE] ? atof(common[COMMON_MIN_BALANCE]) : NAN;
	g->events = (Events) options_choice(&options_common[COMMON_NOTIFY], common[COMMON_NOTIFY]);
	g->redact = setting_is_true(common[COMMON_REDACT]);
	g->otp_is_local = provider_otp_is_local(
		g->provider, otp_option != NULL ? g->settings[otp_option - g->provider->options] : NULL);
}

/*
 * Reads the options of a gateway's server and of its user mapping, as the catalogs have
 * them, into the gateway, whose provider is known.  What it keeps is in the current memory
 * context.  Raises 22021 if a value cannot be converted into UTF-8.
 */
void
gateway_configure(Gateway *gateway, List *server_options, List *user_options)
{
	const char *common[COMMON_COUNT];

	fill_values(options_common, server_options, user_options, common);
	fill_values(gateway->provider->options, server_options, user_options, gateway->settings);
	read_endpoint(gateway->provider, common, &gateway->endpoint);
	read_limits(common, gateway);
	read_handling(common, gateway);
}

/* Takes two gateways of the same server; do they have the same credentials? */
bool
gateway_same_account(const Gateway *a, const Gateway *b)
{
	const OptionDef *options = a->provider->options;

	for (int i = 0; a != b && options[i].name != NULL; i++)
	{
		const char *one = a->settings[i] != NULL ? a->settings[i] : "";
		const char *other = b->settings[i] != NULL ? b->settings[i] : "";

		if ((options[i].where & OPTION_USER) && strcmp(one, other) != 0)
			return false;
	}
	return true;
}
