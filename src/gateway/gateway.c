/*
 * gateway.c
 *		From a foreign server and a user mapping to a gateway ready for use, and the
 *		cache of those.
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
#include "base/compat.h"
#include "base/encoding.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "foreign/foreign.h"
#include "gateway/gateway.h"
#include "gateway/options.h"
#include "provider/support.h"
#include "provider/table.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"

static Gateway *gateways = NULL; /* the cache, newest first */
static List *server_names = NIL; /* servers of our wrappers */
static bool server_names_valid = false;
static unsigned long last_endpoint = 0;

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

const Provider *
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
check_credentials(const Gateway *gateway, Refusal *refusal)
{
	const OptionDef *options = gateway->provider->options;

	for (int i = 0; options[i].name != NULL; i++)
	{
		if ((options[i].where & OPTION_USER) && gateway->settings[i] == NULL)
			return refused(refusal, ERRCODE_UNDEFINED_OBJECT, "ALTER USER MAPPING ... OPTIONS (ADD ...).",
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
gateway_get(const char *name, Oid role, Refusal *refusal)
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
		refused(refusal, ERRCODE_INSUFFICIENT_PRIVILEGE, "GRANT USAGE ON FOREIGN SERVER ... TO ....",
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
		refused(refusal, ERRCODE_UNDEFINED_OBJECT,
				names != NULL ? psprintf("Gateways are: %s.", names)
							  : psprintf("CREATE SERVER name FOREIGN DATA WRAPPER %s.", provider_choices),
				server != NULL ? "server \"%s\" is not a gateway" : "gateway \"%s\" does not exist", name);
		return NULL;
	}
	if (!compat_has_server_usage(server->serverid, role))
	{
		refused(refusal, ERRCODE_INSUFFICIENT_PRIVILEGE, "GRANT USAGE ON FOREIGN SERVER ... TO ....",
				"permission denied for gateway %s", name);
		return NULL;
	}
	user_options = mapping_options(server->serverid, role, &found);
	if (!found)
	{
		refused(refusal, ERRCODE_UNDEFINED_OBJECT,
				"CREATE USER MAPPING FOR PUBLIC (or for the role) SERVER ... OPTIONS (...) holds the "
				"credentials.",
				"there is no user mapping of role \"%s\" for gateway \"%s\"", GetUserNameFromId(role, true),
				name);
		return NULL;
	}
	g = build_gateway(server, provider, role, user_options);
	if (!check_credentials(g, refusal))
	{
		MemoryContextDelete(g->context);
		return NULL;
	}
	MemoryContextSetParent(g->context, TopMemoryContext);
	g->next = gateways;
	gateways = g;
	return g;
}

/* The value of an option that not every provider has; NULL if this one has not. */
const char *
gateway_setting(const Provider *provider, Settings settings, const OptionDef *option)
{
	return option != NULL ? settings[option - provider->options] : NULL;
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
