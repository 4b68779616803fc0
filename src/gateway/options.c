/*
 * options.c
 *		The options that all providers share, and the validators of servers and user
 *		mappings.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/reloptions.h"
#include "base/compat.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "gateway/options.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "foreign/foreign.h"
#include "net/url_parse.h"
#include "provider/option.h"
#include "provider/table.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "wake/wake.h"

/*
 * What a gateway can be told whoever its provider is.  Where "initial" is missing, not
 * given means something of its own: see configure.c.
 */
const OptionDef options_common[] = {
	[COMMON_BASE_URL] = {"base_url", OPTION_SERVER, OPTION_URL, .initial = NULL},
	[COMMON_TIMEOUT] = {"timeout", OPTION_SERVER, OPTION_DURATION, "30s", .min = 100, .max = 600000},
	[COMMON_CONNECT_TIMEOUT] = {"connect_timeout", OPTION_SERVER, OPTION_DURATION, "5s", .min = 100,
								.max = 600000},
	[COMMON_MAX_IN_FLIGHT] = {"max_in_flight", OPTION_SERVER, OPTION_INT, "64", .min = 1, .max = 10000},
	[COMMON_RATE_LIMIT] = {"rate_limit", OPTION_SERVER, OPTION_NUMBER, "0", .min = 0, .max = 1000000},
	[COMMON_MAX_ATTEMPTS] = {"max_attempts", OPTION_SERVER, OPTION_INT, "20", .min = 1, .max = 1000},
	[COMMON_MAX_PARTS] = {"max_parts", OPTION_SERVER, OPTION_INT, "10", .min = 1, .max = 255},
	[COMMON_COUNTRY_CODE] = {"country_code", OPTION_SERVER, OPTION_INT, "84", .min = 1, .max = 999},
	[COMMON_COUNTRIES] = {"countries", OPTION_SERVER, OPTION_COUNTRIES, .initial = NULL},
	[COMMON_OLD_NUMBERS] = {"old_numbers", OPTION_SERVER, OPTION_CHOICE, "convert",
							.choices = {"convert", "refuse"}},
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
	[COMMON_PROXY_USER] = {"proxy_user", OPTION_USER, OPTION_TEXT, .max = 256, .superuser = true},
	[COMMON_PROXY_PASSWORD] = {"proxy_password", OPTION_USER, OPTION_TEXT, .max = 256, .superuser = true},
	[COMMON_ALLOW_HTTP] = {"allow_http", OPTION_SERVER, OPTION_BOOL, .superuser = true},
	[COMMON_TTL] = {"ttl", OPTION_MESSAGE, OPTION_DURATION, .min = 1000, .max = 86400000},
	[COMMON_LENGTH] = {"length", OPTION_MESSAGE, OPTION_INT, .min = 4, .max = 10},
	[COMMON_DIGITS_ONLY] = {"digits_only", OPTION_MESSAGE, OPTION_BOOL, .initial = NULL},
	{.name = NULL},
};

/* Returns the option of a table that has this name and may be given here (OPTION_...), or NULL. */
const OptionDef *
options_find(const OptionDef *table, const char *name, unsigned where)
{
	for (; table->name != NULL; table++)
	{
		if ((table->where & where) && strcmp(table->name, name) == 0)
			return table;
	}
	return NULL;
}

/*
 * The names of all options that may be given here (OPTION_...), the provider's before
 * those that all have, as "a, b, c", palloc'd.
 */
char *
options_names(const Provider *provider, unsigned where)
{
	const OptionDef *tables[] = {provider->options, options_common};
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
 * Checks a value and returns it in the form that providers read: the value itself, or
 * palloc'd if that differs.  If it is not acceptable, returns NULL and sets *detail to
 * the reason, a sentence that is palloc'd or static.
 */
const char *
options_value(const OptionDef *option, const char *value, const char **detail)
{
	/* Options are written as in SQL and in settings. */
	static const OptionParsers server_parsers = {.parse_bool = parse_bool, .parse_time = parse_duration};
	OptionValue read;
	const char *result;
	bool plain_remote;

	if (option->type == OPTION_URL)
	{
		*detail = url_check(value, &plain_remote);
		return *detail == NULL ? value : NULL;
	}
	result = option_read(option, value, &server_parsers, &read);
	*detail = result == NULL ? pstrdup(read.detail) : NULL;
	if (result != NULL && option->type == OPTION_LINK)
		*detail = url_check_link(value);
	if (*detail != NULL)
		return NULL;
	return result == read.text ? pstrdup(result) : result;
}

/*
 * The place of a checked value among the choices of an option, from 0, as the enums have
 * it that stand for them; 0 also if it is none of them.
 */
int
options_choice(const OptionDef *option, const char *value)
{
	for (int i = 0; i < MAX_CHOICES && option->choices[i] != NULL; i++)
	{
		if (strcmp(value, option->choices[i]) == 0)
			return i;
	}
	return 0;
}

/*
 * The value of an option in a list of DefElems, as servers and user mappings have one; in
 * the list's memory.  NULL if it is not given.
 */
const char *
options_given(List *options, const char *name)
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

/*
 * The first option of a server whose value is not acceptable, with the reason in *detail; NULL: there is none.  What is no
 * option is passed over.
 */
const OptionDef *
options_find_invalid(const Provider *provider, List *options, const char **detail)
{
	ListCell *lc;

	foreach (lc, options)
	{
		DefElem *def = lfirst(lc);
		const OptionDef *option = options_find(provider->options, def->defname, OPTION_SERVER);

		if (option == NULL)
			option = options_find(options_common, def->defname, OPTION_SERVER);
		if (option != NULL && options_value(option, defGetString(def), detail) == NULL)
			return option;
	}
	return NULL;
}

/*
 * Raises an error for a base_url that is http without TLS: that is for this machine, or for
 * those who say that they mean it.
 */
static void
check_plain_http(List *options)
{
	const char *url = options_given(options, options_common[COMMON_BASE_URL].name);
	const char *allow = options_given(options, options_common[COMMON_ALLOW_HTTP].name);
	bool allowed = false;
	bool plain_remote = false;

	if (url == NULL)
		return;
	url_check(url, &plain_remote);
	if (plain_remote && !(allow != NULL && parse_bool(allow, &allowed) && allowed))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("invalid value for option \"base_url\": \"%s\"", url),
						errdetail("Over plain http, credentials and messages would be readable on the way."),
						errhint("Use https, or have a superuser set allow_http 'true'.")));
}

pg_noreturn static void refuse_option(const Provider *provider, const char *name, unsigned where);

/* Raises the error for an option that cannot be set here. */
static void
refuse_option(const Provider *provider, const char *name, unsigned where)
{
	bool secret = where == OPTION_SERVER && (options_find(provider->options, name, OPTION_USER) ||
											 options_find(options_common, name, OPTION_USER));

	ereport(ERROR, (errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					secret ? errmsg("option \"%s\" is a secret and cannot be set on a server", name)
						   : errmsg("invalid option \"%s\"", name),
					secret ? errhint("Servers can be read by everybody; set it with CREATE USER MAPPING.")
					: where == 0
						? errhint("There are no valid options in this context.")
						: errhint("Valid options in this context are: %s.", options_names(provider, where))));
}

/* Raises an error if an option cannot be set here, by this user, to this value. */
static void
check_option(const Provider *provider, DefElem *def, unsigned where)
{
	const OptionDef *option = options_find(provider->options, def->defname, where);
	const char *detail;

	if (option == NULL)
		option = options_find(options_common, def->defname, where);
	if (option == NULL)
		refuse_option(provider, def->defname, where);
	if (option->superuser && !superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied to set option \"%s\"", def->defname),
						errdetail("Only superusers may set it.")));
	/* A mapping's values are secrets: the error, which is logged, does not repeat them. */
	if (options_value(option, defGetString(def), &detail) == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						where == OPTION_USER ? errmsg("invalid value for option \"%s\"", def->defname)
											 : errmsg("invalid value for option \"%s\": \"%s\"", def->defname,
													  defGetString(def)),
						errdetail("%s", detail)));
	/* A dump is restored where the file may come later. */
	if (option->type == OPTION_FILE && access(defGetString(def), R_OK) != 0)
		ereport(WARNING,
				(errcode_for_file_access(), errmsg("could not read file \"%s\": %m", defGetString(def)),
				 errdetail("No request can be made until the server can read what option \"%s\" names.",
						   def->defname)));
}

/* Tells of a fallback that is no gateway: it may come yet, as in a dump that is restored. */
static void
check_fallback(List *options)
{
	const char *fallback = options_given(options, options_common[COMMON_FALLBACK].name);
	const ForeignServer *server = fallback != NULL ? GetForeignServerByName(fallback, true) : NULL;

	if (fallback == NULL ||
		(server != NULL && provider_by_name(GetForeignDataWrapper(server->fdwid)->fdwname) != NULL))
		return;
	ereport(NOTICE,
			(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the fallback \"%s\" is no gateway yet", fallback),
			 errdetail("Until it is one, messages that fail stay where they are.")));
}

/*
 * What the validator of a provider's wrapper does: raises an error if the options of a
 * wrapper, server or mapping are not acceptable.  It runs when a dump is restored too, so
 * it looks at nothing but the options, and only tells what else there should be.
 */
static Datum
validate(FunctionCallInfo fcinfo, const Provider *provider)
{
	List *options = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid catalog = PG_GETARG_OID(1);
	unsigned where = catalog == ForeignServerRelationId ? OPTION_SERVER
					 : catalog == UserMappingRelationId ? OPTION_USER
														: 0;
	ListCell *lc;

	/* Without a handler, a table could be created, and would fail when it is read. */
	if (catalog == ForeignTableRelationId)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("a gateway has no foreign tables"),
						errhint("Send with sms_send(), or insert into sms_outbox.")));
	foreach (lc, options)
		check_option(provider, lfirst(lc), where);
	if (where == OPTION_SERVER)
	{
		check_plain_http(options);
		check_fallback(options);
	}
	/* The worker tries the gateway anew; where it is idle, it would not hear of the change for a while. */
	if (where != 0)
		wake_at_commit(GetCurrentTimestamp());
	PG_RETURN_VOID();
}

/* The validators that the extension's script names, one for each wrapper. */
#define PROVIDER(name, about)                                                                                \
	PG_FUNCTION_INFO_V1(name##_validator);                                                                   \
	Datum name##_validator(PG_FUNCTION_ARGS)                                                                 \
	{                                                                                                        \
		return validate(fcinfo, &name##_provider);                                                           \
	}
#include "provider/list.h"
