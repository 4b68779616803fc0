/*
 * gateway.c
 *		From a foreign server and a user mapping to a gateway ready for use: the
 *		options that all providers share, the validators, and the cache.
 *
 * Servers and user mappings are looked up through PostgreSQL's own catalogs.
 * What was resolved is cached until one of them changes; privileges are looked
 * up each time.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "mb/pg_wchar.h"
#include "options.h"
#include "sms_gateway.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

PG_FUNCTION_INFO_V1(esms_validator);
PG_FUNCTION_INFO_V1(etelecom_validator);
PG_FUNCTION_INFO_V1(interits_validator);

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

static const OptionDef common_options[] = {
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

#define DEFAULT_TTL    300   /* seconds */
#define MAX_TTL        86400 /* seconds */
#define DEFAULT_LENGTH 6
#define MAX_LIST_PARAM 65536 /* bytes */

static Gateway *gateways = NULL; /* the cache, newest first */
static List *server_names = NIL; /* servers of our wrappers */
static bool server_names_valid = false;
static unsigned long last_endpoint = 0;

/* ------------------------------------------------------------------------
 * Errors
 * ------------------------------------------------------------------------ */

/* Fills an error; always returns false. */
static bool fail(GatewayError *error, int sqlstate, const char *hint, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static bool
fail(GatewayError *error, int sqlstate, const char *hint, const char *format, ...)
{
	va_list args;

	error->sqlstate = sqlstate;
	error->detail[0] = '\0';
	strlcpy(error->hint, hint != NULL ? hint : "", sizeof(error->hint));
	va_start(args, format);
	vsnprintf(error->message, sizeof(error->message), format, args);
	va_end(args);
	return false;
}

/* Raises an error that was found earlier; does not return. */
bool
gateway_raise(const GatewayError *error)
{
	ereport(ERROR, (errcode(error->sqlstate), errmsg("%s", error->message),
					error->detail[0] ? errdetail("%s", error->detail) : 0,
					error->hint[0] ? errhint("%s", error->hint) : 0));
	return false;
}

/* ------------------------------------------------------------------------
 * Options
 * ------------------------------------------------------------------------ */

static const OptionDef *
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
static char *
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

/* Reads a boolean as SQL does; false if it is none. */
bool
option_parse_bool(const char *value, bool *flag)
{
	return parse_bool(value, flag);
}

/* Reads a duration as settings do ("5min"), in ms or s; false if it is none. */
bool
option_parse_time(const char *value, bool milliseconds, int *time)
{
	return parse_int(value, time, milliseconds ? GUC_UNIT_MS : GUC_UNIT_S, NULL);
}

/*
 * Checks a value and returns it in the form that providers read, palloc'd if it
 * differs.  Returns NULL with *detail set if the value is not acceptable.
 */
static const char *
option_value(const OptionDef *option, const char *value, const char **detail)
{
	OptionValue read;
	const char *result;
	bool plain_remote;

	if (option->type == OPTION_URL)
	{
		*detail = http_check_url(value, &plain_remote);
		return *detail == NULL ? value : NULL;
	}
	result = option_read(option, value, &read);
	*detail = result == NULL ? pstrdup(read.detail) : NULL;
	return result == read.text ? pstrdup(result) : result;
}

/* A value of options that are in the database; the caller checked them. */
static const char *
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

Datum
esms_validator(PG_FUNCTION_ARGS)
{
	return validate(fcinfo, &esms_provider);
}

Datum
etelecom_validator(PG_FUNCTION_ARGS)
{
	return validate(fcinfo, &etelecom_provider);
}

Datum
interits_validator(PG_FUNCTION_ARGS)
{
	return validate(fcinfo, &interits_provider);
}

/* ------------------------------------------------------------------------
 * Finding gateways
 * ------------------------------------------------------------------------ */

/* A catalog changed: forget at the next look-up, when nobody is in the middle. */
static void
on_invalidation(Datum arg, int cacheid, uint32 hash)
{
	(void) arg;
	(void) cacheid;
	(void) hash;
	for (Gateway *g = gateways; g != NULL; g = g->next)
		g->stale = true;
	server_names_valid = false;
}

/* Has the cache of gateways hear of changed servers, mappings and roles; once in a process. */
void
gateway_init(void)
{
	static const int caches[] = {FOREIGNSERVEROID, FOREIGNDATAWRAPPEROID, USERMAPPINGOID, AUTHOID};

	for (int i = 0; i < (int) lengthof(caches); i++)
		CacheRegisterSyscacheCallback(caches[i], on_invalidation, (Datum) 0);
}

static void
release_gateway(void *gateway)
{
	((Gateway *) gateway)->users--;
}

/* Keeps a gateway valid for as long as the current memory context lives. */
void
gateway_hold(Gateway *gateway)
{
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));

	callback->func = release_gateway;
	callback->arg = gateway;
	gateway->users++;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
}

static void
drop_stale_gateways(void)
{
	Gateway **link = &gateways;

	while (*link != NULL)
	{
		Gateway *g = *link;

		if (g->stale && g->users == 0)
		{
			*link = g->next;
			MemoryContextDelete(g->context);
		}
		else
			link = &g->next;
	}
}

static const Provider *
provider_of_wrapper(Oid wrapper)
{
	ForeignDataWrapper *fdw = GetForeignDataWrapperExtended(wrapper, FDW_MISSING_OK);

	return fdw != NULL ? provider_by_name(fdw->fdwname) : NULL;
}

/* The names of all gateways; valid until the next call of anything here. */
List *
gateway_names(void)
{
	Relation catalog;
	SysScanDesc scan;
	HeapTuple tuple;
	List *names = NIL;

	if (server_names_valid)
		return server_names;

	catalog = table_open(ForeignServerRelationId, AccessShareLock);
	scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_foreign_server server = (Form_pg_foreign_server) GETSTRUCT(tuple);

		if (provider_of_wrapper(server->srvfdw) != NULL)
		{
			MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

			names = lappend(names, pstrdup(NameStr(server->srvname)));
			MemoryContextSwitchTo(old);
		}
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);

	list_free_deep(server_names);
	server_names = names;
	server_names_valid = true;
	return server_names;
}

/* The provider of a gateway, or NULL if there is no such gateway. */
const Provider *
gateway_provider(const char *name)
{
	ForeignServer *server = GetForeignServerByName(name, true);

	return server != NULL ? provider_of_wrapper(server->fdwid) : NULL;
}

/* How the outbox calls a call, in its column "kind". */
const char *
kind_name(Call call)
{
	switch (call)
	{
		case CALL_OTP:
		case CALL_CHECK_OTP:
			return "otp";
		case CALL_OMNI:
			return "omni";
		case CALL_BULK:
			return "bulk";
		case CALL_BALANCE:
			return "balance";
		case CALL_STATUS:
		case CALL_STATUS_DETAIL:
			return "status";
		case CALL_TEXT:
		case CALL_COUNT:
			break;
	}
	return "text";
}

/* Reads a kind of the outbox; false if there is none of that name. */
bool
kind_from_name(const char *name, Call *call)
{
	for (int i = CALL_TEXT; i <= CALL_OMNI; i++)
	{
		if (strcmp(name, kind_name((Call) i)) == 0)
		{
			*call = (Call) i;
			return true;
		}
	}
	return false;
}

/*
 * Is a server set up for a call, as far as the choice of a default goes?  Some
 * calls make sense only with an option that most servers of the wrapper lack.
 */
static bool
is_set_up_for(const ForeignServer *server, const Provider *provider, Call call)
{
	const OptionDef *needed = provider->needs[call];

	return (provider->calls & ~provider->by_name_only & CALL_BIT(call)) &&
		   (needed == NULL || given_value(server->options, needed->name) != NULL);
}

/* An option of a gateway's server, checked; NULL if neither given nor defaulted. */
static const char *
server_option(const char *name, const OptionDef *option)
{
	ForeignServer *server = GetForeignServerByName(name, true);
	const char *given = server != NULL ? given_value(server->options, option->name) : NULL;
	const char *detail;

	if (given != NULL)
		given = option_value(option, given, &detail);
	return given != NULL ? given : option->initial;
}

static Events
read_events(const char *value)
{
	const OptionDef *option = &common_options[COMMON_NOTIFY];

	for (int i = 0; i < (int) lengthof(option->choices) && option->choices[i]; i++)
	{
		if (strcmp(value, option->choices[i]) == 0)
			return (Events) i;
	}
	return EVENTS_FAILURES;
}

/* Which events of a gateway's messages are told. */
Events
gateway_events(const char *name)
{
	return read_events(server_option(name, &common_options[COMMON_NOTIFY]));
}

/* Are texts of a gateway's messages blanked when they have ended? */
bool
gateway_redacts(const char *name)
{
	return setting_is_true(server_option(name, &common_options[COMMON_REDACT]));
}

/* Do the delivery reports of a gateway's messages carry tokens? */
bool
gateway_uses_tokens(const char *name)
{
	const Provider *provider = gateway_provider(name);
	const OptionDef *option = provider != NULL ? provider->callback_option : NULL;
	const char *url = option != NULL ? server_option(name, option) : NULL;

	return url != NULL && strstr(url, TOKEN_PLACE) != NULL;
}

/*
 * The gateway to use where the user names none: the configured default, else
 * the only one that can do this and that the role may use.  The result is valid
 * until the next call of anything here; NULL with the error filled if there is none.
 */
const char *
gateway_choose(Call call, Oid role, GatewayError *error)
{
	ListCell *lc;
	const char *found = NULL;
	StringInfoData choices;
	bool otp = call == CALL_OTP || call == CALL_CHECK_OTP;
	int n = 0;

	if (guc_default_gateway != NULL && guc_default_gateway[0] != '\0')
		return guc_default_gateway;

	initStringInfo(&choices);
	/* Who makes one-time passwords himself goes before those for whom they are made here. */
	for (int turn = 0; turn <= (otp ? 1 : 0) && n == 0; turn++)
	{
		foreach (lc, gateway_names())
		{
			ForeignServer *server = GetForeignServerByName(lfirst(lc), true);
			const Provider *provider = server != NULL ? provider_of_wrapper(server->fdwid) : NULL;

			if (provider == NULL || (otp && provider->otp_is_local != (turn == 1)) ||
				!is_set_up_for(server, provider, call) || !compat_has_server_usage(server->serverid, role))
				continue;
			appendStringInfo(&choices, "%s%s", n++ > 0 ? ", " : "", server->servername);
			found = lfirst(lc);
		}
	}
	if (n == 1)
		return found;
	if (n == 0)
		fail(error, ERRCODE_UNDEFINED_OBJECT,
			 "CREATE SERVER name FOREIGN DATA WRAPPER esms | etelecom | interits, and GRANT USAGE ON FOREIGN "
			 "SERVER.",
			 "there is no gateway for messages of kind \"%s\" that you may use", kind_name(call));
	else
	{
		fail(error, ERRCODE_AMBIGUOUS_PARAMETER, "Name one, or set sms_gateway.default_gateway.",
			 "more than one gateway can send this message");
		snprintf(error->detail, sizeof(error->detail), "They are: %s.", choices.data);
	}
	return NULL;
}

/* Finds a role's user mapping for a server, else PUBLIC's; NULL if neither is. */
static List *
mapping_options(Oid server, Oid role, bool *found)
{
	HeapTuple tuple =
		SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role), ObjectIdGetDatum(server));
	Datum datum;
	bool isnull;
	List *options;

	if (!HeapTupleIsValid(tuple))
		tuple =
			SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(server));
	*found = HeapTupleIsValid(tuple);
	if (!*found)
		return NIL;
	datum = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
	options = isnull ? NIL : untransformRelOptions(datum);
	ReleaseSysCache(tuple);
	return options;
}

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
		const char *given = given_value(options, table[i].name);
		const char *detail;

		values[i] = NULL;
		if (given != NULL)
			values[i] = option_value(&table[i], to_utf8(given, table[i].name), &detail);
		if (values[i] == NULL && table[i].initial != NULL)
			values[i] = option_value(&table[i], table[i].initial, &detail);
		if (values[i] != NULL)
			values[i] = pstrdup(values[i]);
	}
}

/* Names the credentials that a user mapping lacks; false if it lacks any. */
static bool
check_credentials(const Gateway *gateway, GatewayError *error)
{
	const OptionDef *options = gateway->provider->options;

	for (int i = 0; options[i].name != NULL; i++)
	{
		if ((options[i].where & OPTION_USER) && gateway->settings[i] == NULL)
			return fail(error, ERRCODE_UNDEFINED_OBJECT, "ALTER USER MAPPING ... OPTIONS (ADD ...).",
						"the user mapping for gateway \"%s\" lacks the option \"%s\"", gateway->name,
						options[i].name);
	}
	return true;
}

static Rate
read_rate(const char *value)
{
	Rate rate = {0, 0};

	sscanf(value, "%d %d", &rate.messages, &rate.seconds);
	return rate;
}

static Gateway *
build_gateway(ForeignServer *server, const Provider *provider, Oid role, List *user_options)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "sms_gateway gateway", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Gateway *g = palloc0(sizeof(Gateway));
	const char *common[COMMON_COUNT];

	fill_values(common_options, server->options, NIL, common);
	fill_values(provider->options, server->options, user_options, g->settings);
	g->context = context;
	g->server = server->serverid;
	g->role = role;
	g->name = pstrdup(server->servername);
	g->provider = provider;
	g->endpoint.id = ++last_endpoint;
	g->endpoint.base_url = common[COMMON_BASE_URL] ? common[COMMON_BASE_URL] : provider->base_url;
	g->endpoint.timeout_ms = atoi(common[COMMON_TIMEOUT]);
	g->endpoint.connect_timeout_ms = atoi(common[COMMON_CONNECT_TIMEOUT]);
	g->endpoint.ca_file = common[COMMON_CA_FILE];
	g->endpoint.ssl_cert = common[COMMON_SSL_CERT];
	g->endpoint.ssl_key = common[COMMON_SSL_KEY];
	g->endpoint.proxy = common[COMMON_PROXY];
	g->max_in_flight = atoi(common[COMMON_MAX_IN_FLIGHT]);
	g->rate_limit = atof(common[COMMON_RATE_LIMIT]);
	g->max_attempts = atoi(common[COMMON_MAX_ATTEMPTS]);
	g->max_parts = atoi(common[COMMON_MAX_PARTS]);
	g->country_code = common[COMMON_COUNTRY_CODE];
	g->fallback = common[COMMON_FALLBACK];
	g->resend_uncertain = strcmp(common[COMMON_ON_UNCERTAIN], "resend") == 0;
	g->poll_delivery =
		(provider->calls & CALL_BIT(CALL_STATUS)) &&
		(common[COMMON_POLL_DELIVERY] == NULL || setting_is_true(common[COMMON_POLL_DELIVERY]));
	g->events = read_events(common[COMMON_NOTIFY]);
	g->redact = setting_is_true(common[COMMON_REDACT]);
	g->unaccent = setting_is_true(common[COMMON_UNACCENT]);
	g->min_balance = common[COMMON_MIN_BALANCE] && (provider->calls & CALL_BIT(CALL_BALANCE))
						 ? atof(common[COMMON_MIN_BALANCE])
						 : NAN;
	g->otp_per_phone = read_rate(common[COMMON_OTP_PER_PHONE]);
	g->per_phone = read_rate(common[COMMON_PER_PHONE]);
	g->per_role = read_rate(common[COMMON_PER_ROLE]);
	g->daily_budget = common[COMMON_DAILY_BUDGET] ? atoi(common[COMMON_DAILY_BUDGET]) : 0;
	MemoryContextSwitchTo(old);
	return g;
}

/*
 * Resolves a gateway for a role: it exists, the role has USAGE, and there are
 * credentials.  Returns NULL with the error filled otherwise.  The result is
 * valid until the next call, or longer with gateway_hold().
 */
Gateway *
gateway_get(const char *name, Oid role, GatewayError *error)
{
	ForeignServer *server;
	const Provider *provider;
	List *user_options;
	bool found;
	Gateway *g;

	drop_stale_gateways();
	for (g = gateways; g != NULL; g = g->next)
	{
		if (!g->stale && g->role == role && strcmp(g->name, name) == 0)
			break;
	}
	if (g != NULL)
	{
		if (compat_has_server_usage(g->server, role))
			return g;
		fail(error, ERRCODE_INSUFFICIENT_PRIVILEGE, "GRANT USAGE ON FOREIGN SERVER ... TO ....",
			 "permission denied for gateway %s", name);
		return NULL;
	}

	server = GetForeignServerByName(name, true);
	provider = server != NULL ? provider_of_wrapper(server->fdwid) : NULL;
	if (provider == NULL)
	{
		char *names = NULL;
		ListCell *lc;

		foreach (lc, gateway_names())
			names = names == NULL ? pstrdup(lfirst(lc)) : psprintf("%s, %s", names, (char *) lfirst(lc));
		fail(error, ERRCODE_UNDEFINED_OBJECT,
			 names != NULL ? psprintf("Gateways are: %s.", names)
						   : "CREATE SERVER name FOREIGN DATA WRAPPER esms | etelecom | interits.",
			 server != NULL ? "server \"%s\" is not a gateway" : "gateway \"%s\" does not exist", name);
		return NULL;
	}
	if (!compat_has_server_usage(server->serverid, role))
	{
		fail(error, ERRCODE_INSUFFICIENT_PRIVILEGE, "GRANT USAGE ON FOREIGN SERVER ... TO ....",
			 "permission denied for gateway %s", name);
		return NULL;
	}
	user_options = mapping_options(server->serverid, role, &found);
	if (!found)
	{
		fail(error, ERRCODE_UNDEFINED_OBJECT,
			 "CREATE USER MAPPING FOR PUBLIC (or for the role) SERVER ... OPTIONS (...) holds the "
			 "credentials.",
			 "there is no user mapping of role \"%s\" for gateway \"%s\"", GetUserNameFromId(role, true),
			 name);
		return NULL;
	}
	g = build_gateway(server, provider, role, user_options);
	if (!check_credentials(g, error))
	{
		MemoryContextDelete(g->context);
		return NULL;
	}
	MemoryContextSetParent(g->context, TopMemoryContext);
	g->next = gateways;
	gateways = g;
	return g;
}

/* ------------------------------------------------------------------------
 * From a draft to a message that can be sent
 * ------------------------------------------------------------------------ */

/* A JSON value as the text that an option has; NULL if it cannot be one. */
static char *
json_option_text(const JsonbValue *value, const OptionDef *option)
{
	switch (value->type)
	{
		case jbvString:
			return option->type == OPTION_JSON ? NULL
											   : pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		case jbvBinary:
			if (option->type != OPTION_JSON || !JsonContainerIsObject(value->val.binary.data))
				return NULL;
			return JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);
		default:
			return NULL;
	}
}

/*
 * Lays the options of one message over those of its gateway.  "common" gets
 * those that belong to no provider.
 */
static bool
overlay_options(const Gateway *gateway, Jsonb *options, Prepared *prepared, const char *common[COMMON_COUNT],
				GatewayError *error)
{
	const Provider *provider = gateway->provider;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue value;

	if (!JB_ROOT_IS_OBJECT(options))
		return fail(error, ERRCODE_INVALID_PARAMETER_VALUE, NULL, "options must be a JSON object");

	memcpy(prepared->own_settings, gateway->settings, sizeof(gateway->settings));
	prepared->settings = prepared->own_settings;
	it = JsonbIteratorInit(&options->root);
	JsonbIteratorNext(&it, &key, true);
	while ((token = JsonbIteratorNext(&it, &key, true)) == WJB_KEY)
	{
		char *name = pnstrdup(key.val.string.val, key.val.string.len);
		const OptionDef *own = find_option(provider->options, name, OPTION_MESSAGE);
		const OptionDef *option = own ? own : find_option(common_options, name, OPTION_MESSAGE);
		const char *detail = "A value of this type is not taken.";
		char *text;
		const char *checked = NULL;

		JsonbIteratorNext(&it, &value, true);
		if (option == NULL)
			return fail(error, ERRCODE_INVALID_PARAMETER_VALUE,
						psprintf("Options of a message on this gateway are: %s.",
								 option_names(provider, OPTION_MESSAGE)),
						"invalid option \"%s\"", name);
		if (value.type == jbvNull)
			continue;
		text = json_option_text(&value, option);
		if (text != NULL)
			checked = option_value(option, to_utf8_composed(text, name), &detail);
		if (checked == NULL)
		{
			fail(error, ERRCODE_INVALID_PARAMETER_VALUE, NULL, "invalid value for option \"%s\"%s%s%s", name,
				 text ? ": \"" : "", text ? text : "", text ? "\"" : "");
			strlcpy(error->detail, detail, sizeof(error->detail));
			return false;
		}
		if (own != NULL)
			prepared->own_settings[own - provider->options] = checked;
		else
			common[option - common_options] = checked;
	}
	return true;
}

static bool
prepare_phone(const Gateway *gateway, const char *phone, char *msisdn, GatewayError *error)
{
	PhoneStatus status = phone != NULL ? phone_normalise(phone, gateway->country_code, msisdn) : PHONE_EMPTY;

	if (status == PHONE_OK)
		return true;
	fail(error, ERRCODE_INVALID_PARAMETER_VALUE, "Write it as 0901234567, 84901234567 or +84 901 234 567.",
		 "invalid phone number: \"%s\"", phone ? phone : "");
	strlcpy(error->detail, phone_status_text(status), sizeof(error->detail));
	return false;
}

static bool
prepare_phones(const Gateway *gateway, const Draft *draft, Prepared *prepared, GatewayError *error)
{
	const char **list;

	if (draft->call != CALL_BULK)
	{
		prepared->phone_list[0] = prepared->phone;
		prepared->message.phones = prepared->phone_list;
		prepared->message.nphones = 1;
		return prepare_phone(gateway, draft->phone, prepared->phone, error);
	}
	if (draft->nphones == 0 || draft->nphones > gateway->provider->max_phones)
		return fail(error, ERRCODE_INVALID_PARAMETER_VALUE,
					psprintf("This gateway takes 1 to %d.", gateway->provider->max_phones),
					"%d receivers in one request", draft->nphones);
	list = palloc(sizeof(char *) * draft->nphones);
	for (int i = 0; i < draft->nphones; i++)
	{
		char *msisdn = palloc(MSISDN_SIZE);

		if (!prepare_phone(gateway, draft->phones[i], msisdn, error))
			return false;
		list[i] = msisdn;
	}
	prepared->message.phones = list;
	prepared->message.nphones = draft->nphones;
	return true;
}

/* The value of an option that not every provider has; NULL if this one has not. */
const char *
gateway_setting(const Provider *provider, Settings settings, const OptionDef *option)
{
	return option != NULL ? settings[option - provider->options] : NULL;
}

/* The alphabet that the option "unicode" asks for. */
static TextCoding
coding_of(const Provider *provider, Settings settings)
{
	const char *unicode = gateway_setting(provider, settings, provider->unicode_option);

	if (unicode == NULL || strcmp(unicode, "auto") == 0)
		return CODING_BY_TEXT;
	return setting_is_true(unicode) ? CODING_UCS2 : CODING_GSM7;
}

/* Measures a text as it will be sent: with a code of its length in the place of {OTP}. */
static bool
measure(const Provider *provider, Settings settings, Message *message)
{
	TextCoding coding = coding_of(provider, settings);
	char code[16];
	char *with_code;
	bool valid;

	if (message->call != CALL_OTP || message->length < 1 || message->length >= (int) sizeof(code))
		return text_shape(message->content, strlen(message->content), coding, &message->shape);
	memset(code, '0', message->length);
	code[message->length] = '\0';
	with_code = replace_place(message->content, OTP_PLACE, code);
	valid = with_code != NULL && text_shape(with_code, strlen(with_code), coding, &message->shape);
	free(with_code);
	return valid;
}

/* Checks the text of kinds that have one, and measures it. */
static bool
prepare_content(const Gateway *gateway, Settings settings, bool unaccent, Message *message,
				GatewayError *error)
{
	if (message->content == NULL || message->content[strspn(message->content, " \t\r\n")] == '\0')
		return fail(error, ERRCODE_INVALID_PARAMETER_VALUE, NULL, "the text is empty");
	if (unaccent)
	{
		char *plain = pstrdup(message->content);

		text_unaccent(plain);
		message->content = plain;
	}
	if (!measure(gateway->provider, settings, message))
		return fail(error, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, NULL, "the text is not valid UTF-8");
	if (message->shape.parts > gateway->max_parts)
		return fail(error, ERRCODE_INVALID_PARAMETER_VALUE,
					"Shorten it, or raise the server option \"max_parts\".",
					"the text is too long: %d characters take %d messages, at most %d are allowed",
					message->shape.characters, message->shape.parts, gateway->max_parts);
	return true;
}

static bool
prepare_omni(Message *message, const Draft *draft, bool ordered, GatewayError *error)
{
	const char *list = draft->list_param;
	char first = list != NULL ? list[strspn(list, " \t\r\n")] : '{';

	if (first != '{' && !(first == '[' && ordered))
		return fail(error, ERRCODE_INVALID_PARAMETER_VALUE, "Write it as {\"name\": \"value\"}.",
					"list_param must be a JSON object");
	if (list != NULL && strlen(list) > MAX_LIST_PARAM)
		return fail(error, ERRCODE_INVALID_PARAMETER_VALUE, NULL, "list_param is longer than %d bytes",
					MAX_LIST_PARAM);
	if (draft->routerule != NULL && !option_is_list(draft->routerule, true))
		return fail(error, ERRCODE_INVALID_PARAMETER_VALUE,
					"1 is ZNS, 2 an automatic call, 3 SMS; each at most once.", "invalid routerule: {%s}",
					draft->routerule);
	if (draft->template_code != NULL &&
		(draft->template_code[0] == '\0' || strlen(draft->template_code) > 200))
		return fail(error, ERRCODE_INVALID_PARAMETER_VALUE, NULL, "a template code has 1 to 200 characters");
	message->list_param = to_utf8_composed(list, "list_param");
	message->template_code = to_utf8_composed(draft->template_code, "template_code");
	message->routerule = draft->routerule;
	return true;
}

/*
 * Checks everything about a message that can be known before it is sent, and
 * fills "prepared", whose pointers go to the draft's memory, the gateway's and
 * the current context's.  Returns false with the error filled if it can never be sent.
 */
bool
gateway_prepare(Gateway *gateway, const Draft *draft, Prepared *prepared, GatewayError *error)
{
	const Provider *provider = gateway->provider;
	Message *message = &prepared->message;
	const char *common[COMMON_COUNT] = {NULL};
	Complaint complaint = {"", NULL, false};
	bool by_template;
	bool unaccent;

	memset(prepared, 0, sizeof(*prepared));
	prepared->settings = gateway->settings;
	message->call = draft->call;
	if (!(provider->calls & CALL_BIT(draft->call)))
		return fail(error, ERRCODE_FEATURE_NOT_SUPPORTED, NULL,
					"gateway \"%s\" (%s) cannot send messages of kind \"%s\"", gateway->name, provider->name,
					kind_name(draft->call));
	if (draft->options != NULL && !overlay_options(gateway, draft->options, prepared, common, error))
		return false;
	if (!prepare_phones(gateway, draft, prepared, error))
		return false;

	if (draft->request_id != NULL &&
		(draft->request_id[0] == '\0' || pg_mbstrlen(draft->request_id) > REQUEST_ID_MAX))
		return fail(error, ERRCODE_INVALID_PARAMETER_VALUE, NULL, "a request_id has 1 to %d characters",
					REQUEST_ID_MAX);
	message->request_id = to_utf8(draft->request_id, "request_id");
	message->code = to_utf8(draft->code, "code");
	message->ttl = common[COMMON_TTL] ? atoi(common[COMMON_TTL]) / 1000
				   : draft->ttl       ? draft->ttl
									  : DEFAULT_TTL;
	message->length = common[COMMON_LENGTH] ? atoi(common[COMMON_LENGTH])
					  : draft->length       ? draft->length
											: DEFAULT_LENGTH;
	message->digits_only =
		common[COMMON_DIGITS_ONLY] ? setting_is_true(common[COMMON_DIGITS_ONLY]) : draft->digits_only;

	by_template = draft->call == CALL_OMNI || (draft->call == CALL_OTP && provider->otp_by_template);
	unaccent = common[COMMON_UNACCENT] ? setting_is_true(common[COMMON_UNACCENT]) : gateway->unaccent;
	if (by_template && !prepare_omni(message, draft, provider->ordered_params, error))
		return false;
	message->content = draft->call == CALL_CHECK_OTP ? NULL : to_utf8_composed(draft->content, "content");
	if ((message->content != NULL || (!by_template && draft->call != CALL_CHECK_OTP)) &&
		!prepare_content(gateway, prepared->settings, unaccent, message, error))
		return false;
	if (draft->call == CALL_OTP && !by_template && strstr(message->content, OTP_PLACE) == NULL)
		return fail(error, ERRCODE_INVALID_PARAMETER_VALUE, "The code is put in the place of {OTP}.",
					"the text of a one-time password must hold {OTP}");
	if (draft->call == CALL_OTP && (message->length < common_options[COMMON_LENGTH].min ||
									message->length > common_options[COMMON_LENGTH].max))
		return fail(error, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
					"a one-time password has %.0f to %.0f characters", common_options[COMMON_LENGTH].min,
					common_options[COMMON_LENGTH].max);
	if (draft->call == CALL_OTP && (message->ttl < 1 || message->ttl > MAX_TTL))
		return fail(error, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
					"a one-time password is good for 1 to %d seconds", MAX_TTL);
	if (!provider->check(prepared->settings, message, &complaint))
		return fail(error,
					complaint.unsupported ? ERRCODE_FEATURE_NOT_SUPPORTED : ERRCODE_INVALID_PARAMETER_VALUE,
					complaint.hint, "%s", complaint.message);
	return true;
}

/*
 * Builds a request about a message that was sent, or about the account.  Returns
 * false when memory is out.
 */
bool
gateway_query(const Gateway *gateway, Call call, const char *reference, HttpRequest *request)
{
	Message message = {.call = call, .reference = reference};

	memset(request, 0, sizeof(*request));
	return gateway->provider->build(gateway->settings, &message, request);
}
