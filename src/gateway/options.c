/*
 * options.c
 *		The options that all providers share, and the validators of servers and user
 *		mappings.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "gateway/options.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "net/http.h"
#include "provider/option.h"
#include "provider/table.h"
#include "utils/builtins.h"
#include "utils/guc.h"

const OptionDef common_options[] = {
	[COMMON_BASE_URL] = {"base_url", OPTION_SERVER, OPTION_URL, .initial = NULL},
	[COMMON_TIMEOUT] = {"timeout", OPTION_SERVER, OPTION_DURATION, "30s", .min = 100, .max = 600000},
	[COMMON_CONNECT_TIMEOUT] = {"connect_timeout", OPTION_SERVER, OPTION_DURATION, "5s", .min = 100,
								.max = 600000},
	[COMMON_MAX_IN_FLIGHT] = {"max_in_flight", OPTION_SERVER, OPTION_INT, "64", .min = 1, .max = 10000},
	[COMMON_RATE_LIMIT] = {"rate_limit", OPTION_SERVER, OPTION_NUMBER, "0", .min = 0, .max = 1000000},
	[COMMON_MAX_ATTEMPTS] = {"max_attempts", OPTION_SERVER, OPTION_INT, "20", .min = 1, .max = 1000},
	[COMMON_MAX_PARTS] = {"max_parts", OPTION_SERVER, OPTION_INT, "10", .min = 1, .max = 255},
	[COMMON_COUNTRY_CODE] = {"country_code", OPTION_SERVER, OPTION_INT, "84", .min = 1, .max = 999},
	[COMMON_FALLBACK] = {"fallback", OPTION_SERVER, OPTION_SERVER_NAME, .initial = NULL},
	[COMMON_ON_UNCERTAIN] = {"on_uncertain", OPTION_SERVER, OPTION_CHOICE, "hold",
							 .choices = {"hold", "resend"}},
	[COMMON_POLL_DELIVERY] = {"poll_delivery", OPTION_SERVER, OPTION_BOOL, .initial = NULL},
	[COMMON_NOTIFY] = {"notify", OPTION_SERVER, OPTION_CHOICE, "failures",
					   .choices = {"failures", "final", "off"}},
	[COMMON_UNACCENT] = {"unaccent", OPTION_SERVER | OPTION_MESSAGE, OPTION_BOOL, .initial = NULL},
	[COMMON_REDACT] = {"redact", OPTION_SERVER, OPTION_BOOL, .initial = NULL},
	[COMMON_MIN_BALANCE] = {"min_balance", OPTION_SERVER, OPTION_NUMBER, .min = 0, .max = 1e15},
	[COMMON_OTP_PER_PHONE] = {"otp_per_phone", OPTION_SERVER, OPTION_RATE, .initial = "5/hour"},
	[COMMON_PER_PHONE] = {"per_phone", OPTION_SERVER, OPTION_RATE, .initial = "off"},
	[COMMON_PER_ROLE] = {"per_role", OPTION_SERVER, OPTION_RATE, .initial = "off"},
	[COMMON_DAILY_BUDGET] = {"daily_budget", OPTION_SERVER, OPTION_INT, .min = 1, .max = 1000000000},
	[COMMON_CA_FILE] = {"ca_file", OPTION_SERVER, OPTION_FILE, .superuser = true},
	[COMMON_SSL_CERT] = {"ssl_cert", OPTION_SERVER, OPTION_FILE, .superuser = true},
	[COMMON_SSL_KEY] = {"ssl_key", OPTION_SERVER, OPTION_FILE, .superuser = true},
	[COMMON_PROXY] = {"proxy", OPTION_SERVER, OPTION_URL, .superuser = true},
	[COMMON_ALLOW_HTTP] = {"allow_http", OPTION_SERVER, OPTION_BOOL, .superuser = true},
	[COMMON_TTL] = {"ttl", OPTION_MESSAGE, OPTION_DURATION, .min = 1000, .max = 86400000},
	[COMMON_LENGTH] = {"length", OPTION_MESSAGE, OPTION_INT, .min = 4, .max = 10},
	[COMMON_DIGITS_ONLY] = {"digits_only", OPTION_MESSAGE, OPTION_BOOL, .initial = NULL},
	{.name = NULL},
};

const OptionDef *
find_option(const OptionDef *options, const char *name, unsigned where)
{
	for (; options->name != NULL; options++)
	{
		if ((options->where & where) && strcmp(options->name, name) == 0)
			return options;
	}
	return NULL;
}

/* Lists the names that may be used, for a hint. */
char *
option_names(const Provider *provider, unsigned where)
{
	const OptionDef *tables[] = {provider->options, common_options};
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < (int) lengthof(tables); i++)
	{
		for (const OptionDef *o = tables[i]; o->name != NULL; o++)
		{
			if (o->where & where)
				appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", o->name);
		}
	}
	return names.data;
}

/* Reads a duration as settings do ("5min"), in ms or s; false if it is none. */
static bool
parse_duration(const char *value, bool milliseconds, int *time)
{
	return parse_int(value, time, milliseconds ? GUC_UNIT_MS : GUC_UNIT_S, NULL);
}

/*
 * Checks a value and returns it in the form that providers read, palloc'd if it
 * differs.  Returns NULL with *detail set if the value is not acceptable.
 */
const char *
option_value(const OptionDef *option, const char *value, const char **detail)
{
	/* Options are written as in SQL and in settings. */
	static const OptionParsers server_parsers = {.parse_bool = parse_bool, .parse_time = parse_duration};
	OptionValue read;
	const char *result;
	bool plain_remote;

	if (option->type == OPTION_URL)
	{
		*detail = http_check_url(value, &plain_remote);
		return *detail == NULL ? value : NULL;
	}
	result = option_read(option, value, &server_parsers, &read);
	*detail = result == NULL ? pstrdup(read.detail) : NULL;
	return result == read.text ? pstrdup(result) : result;
}

/* A value of options that are in the database; the caller checked them. */
const char *
given_value(List *options, const char *name)
{
	ListCell *lc;

	foreach (lc, options)
	{
		DefElem *def = lfirst(lc);

		if (strcmp(def->defname, name) == 0)
			return defGetString(def);
	}
	return NULL;
}

/* http without TLS is for this machine, or for those who say that they mean it. */
static void
check_plain_http(List *options)
{
	const char *url = given_value(options, "base_url");
	const char *allow = given_value(options, "allow_http");
	bool allowed = false;
	bool plain_remote = false;

	if (url == NULL)
		return;
	http_check_url(url, &plain_remote);
	if (plain_remote && !(allow != NULL && parse_bool(allow, &allowed) && allowed))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid value for option \"base_url\": \"%s\"", url),
						errdetail("Over plain http, credentials and messages would be readable on the way."),
						errhint("Use https, or have a superuser set allow_http 'true'.")));
}
/* Raises the error for an option that cannot be set here. */
static void refuse_option(const Provider *provider, const char *name, unsigned where)
	__attribute__((noreturn));

static void
refuse_option(const Provider *provider, const char *name, unsigned where)
{
	bool secret = where == OPTION_SERVER && find_option(provider->options, name, OPTION_USER);

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 secret ? errmsg("option \"%s\" is a secret and cannot be set on a server", name)
					: errmsg("invalid option \"%s\"", name),
			 secret       ? errhint("Servers can be read by everybody; set it with CREATE USER MAPPING.")
			 : where == 0 ? errhint("There are no valid options in this context.")
						  : errhint("Valid options in this context are: %s", option_names(provider, where))));
}

static Datum
validate(FunctionCallInfo fcinfo, const Provider *provider)
{
	List *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid catalog = PG_GETARG_OID(1);
	unsigned where = catalog == ForeignServerRelationId ? OPTION_SERVER
					 : catalog == UserMappingRelationId ? OPTION_USER
														: 0;
	ListCell *lc;

	if (catalog == ForeignTableRelationId)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("a gateway has no foreign tables"),
						errhint("Send with sms_send(), or insert into sms_outbox.")));
	foreach (lc, options)
	{
		DefElem *def = lfirst(lc);
		const OptionDef *option = find_option(provider->options, def->defname, where);
		const char *detail;

		if (option == NULL)
			option = find_option(common_options, def->defname, where);
		if (option == NULL)
			refuse_option(provider, def->defname, where);
		if (option->superuser && !superuser())
			ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
							errmsg("permission denied to set option \"%s\"", def->defname),
							errdetail("Only superusers may set it.")));
		if (option_value(option, defGetString(def), &detail) == NULL)
			ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
							where == OPTION_USER ? errmsg("invalid value for option \"%s\"", def->defname)
												 : errmsg("invalid value for option \"%s\": \"%s\"",
														  def->defname, defGetString(def)),
							errdetail("%s", detail)));
	}
	if (where == OPTION_SERVER)
		check_plain_http(options);
	PG_RETURN_VOID();
}

#define PROVIDER(name, about)                                                                                \
	PG_FUNCTION_INFO_V1(name##_validator);                                                                   \
	Datum name##_validator(PG_FUNCTION_ARGS)                                                                 \
	{                                                                                                        \
		return validate(fcinfo, &name##_provider);                                                           \
	}
#include "provider/list.h"
