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

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "base/compat.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "common/hashfn.h"
#include "foreign/foreign.h"
#include "gateway/configure.h"
#include "gateway/gateway.h"
#include "gateway/hint.h"
#include "gateway/options.h"
#include "provider/support.h"
#include "provider/table.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* A gateway in the cache. */
typedef struct CachedGateway
{
	Gateway gateway; /* first, for others hold a pointer to it */
	int users;       /* memory contexts in which it is held */
	MemoryContext context;
	struct CachedGateway *next;
} CachedGateway;

/*
 * What this process has read from the catalogs.  It lives as long as the process: each
 * gateway in a memory context of its own below TopMemoryContext, the names in another.
 *
 * A change of any server, wrapper, user mapping or role makes all of it stale.  News of
 * one can arrive in any look-up in a catalog, while pointers into the cache are in use:
 * so it is only marked.  Stale names are read again, and freed, by the next gateway_names();
 * stale gateways are freed by the next gateway_get(), but for those that are held.
 */
static struct
{
	CachedGateway *gateways; /* newest first */
	List *names;             /* of the servers of our wrappers */
	MemoryContext names_context;
	bool names_valid;
	uint64 changes; /* news so far: what was read while it moved may be old already */
	unsigned long last_endpoint;
} cache;

/* ------------------------------------------------------------------------
 * Lifetime
 * ------------------------------------------------------------------------ */

/* A catalog changed.  Called by PostgreSQL at any time: may neither allocate nor free. */
static void
on_catalog_change(Datum arg, int cacheid, uint32 hash)
{
	(void) arg;
	(void) cacheid;
	(void) hash;
	cache.changes++;
	cache.names_valid = false;
	for (CachedGateway *g = cache.gateways; g != NULL; g = g->next)
		g->gateway.stale = true;
}

/* Has the cache hear of changed servers, wrappers, mappings and roles; once in a process. */
void
gateway_init(void)
{
	static const int caches[] = {FOREIGNSERVEROID, FOREIGNDATAWRAPPEROID, USERMAPPINGOID, AUTHOID};

	for (int i = 0; i < (int) lengthof(caches); i++)
		CacheRegisterSyscacheCallback(caches[i], on_catalog_change, (Datum) 0);
}

static void
release_gateway(void *cached)
{
	((CachedGateway *) cached)->users--;
}

/* Keeps a gateway of gateway_get() valid for as long as the current memory context lives. */
void
gateway_hold(Gateway *gateway)
{
	CachedGateway *cached = (CachedGateway *) gateway;
	MemoryContextCallback *callback = palloc0(sizeof(MemoryContextCallback));

	callback->func = release_gateway;
	callback->arg = cached;
	cached->users++;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, callback);
}

static void
drop_stale_gateways(void)
{
	CachedGateway **link = &cache.gateways;

	while (*link != NULL)
	{
		CachedGateway *g = *link;

		if (g->gateway.stale && g->users == 0)
		{
			*link = g->next;
			MemoryContextDelete(g->context);
		}
		else
			link = &g->next;
	}
}

static CachedGateway *
find_cached(const char *name, Oid role)
{
	for (CachedGateway *g = cache.gateways; g != NULL; g = g->next)
	{
		if (!g->gateway.stale && g->gateway.role == role && strcmp(g->gateway.name, name) == 0)
			return g;
	}
	return NULL;
}

/* Hands a gateway to the cache.  "changes" is the cache's from before it was looked up. */
static void
add_to_cache(CachedGateway *cached, uint64 changes)
{
	cached->gateway.stale = changes != cache.changes;
	MemoryContextSetParent(cached->context, TopMemoryContext);
	cached->next = cache.gateways;
	cache.gateways = cached;
}

/* ------------------------------------------------------------------------
 * Servers
 * ------------------------------------------------------------------------ */

/*
 * The provider whose wrapper this is, or NULL.  Wrappers are known by their names, which
 * are unique in a database: somebody else's wrapper "esms" can only be where ours was
 * renamed, or is not installed.  Its servers count as gateways there; their options are
 * checked when they are read, as all are.
 */
static const Provider *
provider_of_wrapper(Oid wrapper)
{
	ForeignDataWrapper *fdw = GetForeignDataWrapperExtended(wrapper, FDW_MISSING_OK);

	return fdw != NULL ? provider_by_name(fdw->fdwname) : NULL;
}

/*
 * Returns the server of a gateway, in the current memory context, and sets *provider;
 * NULL for both if there is no gateway of that name.  Looks at no privileges.
 */
ForeignServer *
gateway_server(const char *name, const Provider **provider)
{
	ForeignServer *server = GetForeignServerByName(name, true);

	*provider = server != NULL ? provider_of_wrapper(server->fdwid) : NULL;
	return *provider != NULL ? server : NULL;
}

/* The provider of a gateway, or NULL if there is no such gateway. */
const Provider *
gateway_provider(const char *name)
{
	const Provider *provider;

	gateway_server(name, &provider);
	return provider;
}

/* Reads the names of all gateways, in the catalog's order, into the current memory context. */
static List *
read_names(void)
{
	Relation catalog = table_open(ForeignServerRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	HeapTuple tuple;
	List *names = NIL;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_foreign_server server = (Form_pg_foreign_server) GETSTRUCT(tuple);

		if (provider_of_wrapper(server->srvfdw) != NULL)
			names = lappend(names, pstrdup(NameStr(server->srvname)));
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return names;
}

/* The names of all gateways, char *; valid until the next call of anything here. */
List *
gateway_names(void)
{
	uint64 changes = cache.changes;
	MemoryContext context;
	MemoryContext old;
	List *names;

	if (cache.names_valid)
		return cache.names;

	context = AllocSetContextCreate(CurrentMemoryContext, "sms_gateway names", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	names = read_names();
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(context, TopMemoryContext);

	if (cache.names_context != NULL)
		MemoryContextDelete(cache.names_context);
	cache.names_context = context;
	cache.names = names;
	cache.names_valid = changes == cache.changes;
	return cache.names;
}

/* An option of a gateway's server, checked; NULL if neither given nor defaulted. */
static const char *
server_option(const char *name, const OptionDef *option)
{
	ForeignServer *server = GetForeignServerByName(name, true);
	const char *given = server != NULL ? options_given(server->options, option->name) : NULL;
	const char *detail;

	if (given != NULL)
		given = options_value(option, given, &detail);
	return given != NULL ? given : option->initial;
}

/* Which events of a gateway's messages are told; failures, if there is no such gateway. */
Events
gateway_events(const char *name)
{
	const OptionDef *option = &options_common[COMMON_NOTIFY];

	return (Events) options_choice(option, server_option(name, option));
}

/* Are texts of a gateway's messages blanked when they have ended? */
bool
gateway_redacts(const char *name)
{
	return setting_is_true(server_option(name, &options_common[COMMON_REDACT]));
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

/* How often a server, wrapper, user mapping or role has changed, as far as this process has heard. */
uint64
gateway_changes(void)
{
	return cache.changes;
}

/* A version of a row of a catalog has a number of its own. */
static uint64
fingerprint_of(HeapTuple tuple, Oid oid)
{
	uint32 version[] = {oid, HeapTupleHeaderGetRawXmin(tuple->t_data),
						ItemPointerGetBlockNumberNoCheck(&tuple->t_self),
						ItemPointerGetOffsetNumberNoCheck(&tuple->t_self)};

	return hash_bytes_extended((const unsigned char *) version, sizeof(version), 0);
}

/*
 * A number that is another one when the server of a name, or one of its user mappings, has changed; 0: none.
 * Sets *mappings to how many those are.
 */
uint64
gateway_fingerprint(const char *name, int *mappings)
{
	HeapTuple server = SearchSysCache1(FOREIGNSERVERNAME, CStringGetDatum(name));
	Relation catalog;
	SysScanDesc scan;
	HeapTuple tuple;
	Oid oid;
	uint64 print;

	*mappings = 0;
	if (!HeapTupleIsValid(server))
		return 0;
	oid = ((Form_pg_foreign_server) GETSTRUCT(server))->oid;
	print = fingerprint_of(server, oid);
	ReleaseSysCache(server);

	catalog = table_open(UserMappingRelationId, AccessShareLock);
	scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_user_mapping mapping = (Form_pg_user_mapping) GETSTRUCT(tuple);

		if (mapping->umserver != oid)
			continue;
		print += fingerprint_of(tuple, mapping->oid); /* in whatever order they come */
		++*mappings;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return print;
}

/* A number of a user mapping, given as its row, that is another one when the mapping or its server has changed. */
static uint64
credentials_of(Oid server, HeapTuple mapping)
{
	HeapTuple tuple = SearchSysCache1(FOREIGNSERVEROID, ObjectIdGetDatum(server));
	uint64 print = fingerprint_of(mapping, ((Form_pg_user_mapping) GETSTRUCT(mapping))->oid);

	if (HeapTupleIsValid(tuple))
	{
		print += fingerprint_of(tuple, server);
		ReleaseSysCache(tuple);
	}
	return Max(print, 1);
}

/* The number of a role's own user mapping for a gateway, as Gateway.credentials has it; 0: there is none. */
uint64
gateway_credentials(const char *name, Oid role)
{
	const ForeignServer *server = GetForeignServerByName(name, true);
	HeapTuple tuple;
	uint64 print;

	if (server == NULL)
		return 0;
	tuple =
		SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role), ObjectIdGetDatum(server->serverid));
	if (!HeapTupleIsValid(tuple))
		return 0;
	print = credentials_of(server->serverid, tuple);
	ReleaseSysCache(tuple);
	return print;
}

/* ------------------------------------------------------------------------
 * From server and mapping to gateway
 * ------------------------------------------------------------------------ */

/* A user mapping: a role's, or PUBLIC's if "user" is invalid. */
typedef struct Mapping
{
	Oid user;
	uint64 credentials; /* 0: PUBLIC's */
	List *options;
} Mapping;

/*
 * Finds a role's user mapping for a server, else PUBLIC's; false if neither is.
 * GetUserMapping() would raise an error then.
 */
static bool
find_mapping(Oid server, Oid role, Mapping *mapping)
{
	HeapTuple tuple =
		SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(role), ObjectIdGetDatum(server));
	Datum datum;
	bool isnull;

	mapping->user = role;
	if (!HeapTupleIsValid(tuple))
	{
		mapping->user = InvalidOid;
		tuple =
			SearchSysCache2(USERMAPPINGUSERSERVER, ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(server));
	}
	if (!HeapTupleIsValid(tuple))
		return false;
	datum = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple, Anum_pg_user_mapping_umoptions, &isnull);
	mapping->options = isnull ? NIL : untransformRelOptions(datum);
	mapping->credentials = OidIsValid(mapping->user) ? credentials_of(server, tuple) : 0;
	ReleaseSysCache(tuple);
	return true;
}

/* Makes a gateway in a memory context of its own, a child of the current one. */
static CachedGateway *
new_gateway(const ForeignServer *server, const Provider *provider, Oid role, const Mapping *mapping)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "sms_gateway gateway", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	CachedGateway *cached = palloc0(sizeof(CachedGateway));

	cached->context = context;
	cached->gateway.server = server->serverid;
	cached->gateway.owner = server->owner;
	cached->gateway.role = role;
	cached->gateway.role_name = GetUserNameFromId(role, true);
	cached->gateway.credentials = mapping->credentials;
	cached->gateway.name = pstrdup(server->servername);
	cached->gateway.provider = provider;
	cached->gateway.endpoint.id = ++cache.last_endpoint;
	gateway_configure(&cached->gateway, server->options, mapping->options);
	MemoryContextSwitchTo(old);
	return cached;
}

/* The names of the gateways that a role may use. */
static List *
names_for(Oid role)
{
	List *names = NIL;
	ListCell *lc;

	foreach (lc, gateway_names())
	{
		const ForeignServer *server = GetForeignServerByName(lfirst(lc), true);

		if (server != NULL && compat_has_server_usage(server->serverid, role))
			names = lappend(names, server->servername);
	}
	return names;
}

/*
 * Refuses a name that is not a gateway's, with UNDEFINED_OBJECT and a hint at those that the role may use; returns
 * false.
 */
bool
gateway_refuse_name(const char *name, Oid role, Refusal *refusal)
{
	bool is_server = GetForeignServerByName(name, true) != NULL;
	const List *names = names_for(role);
	const char *hint = names != NIL             ? hint_list("Gateways that you may use are", names)
					   : gateway_names() == NIL ? hint_create_server(~0u)
												: NULL;

	return refusal_fill(refusal, ERRCODE_UNDEFINED_OBJECT, hint,
						is_server ? "server \"%s\" is not a gateway" : "gateway \"%s\" does not exist", name);
}

/* Refuses if the role has no USAGE on the server of a gateway. */
static bool
check_usage(Oid server, const char *name, Oid role, Refusal *refusal)
{
	if (compat_has_server_usage(server, role))
		return true;
	return refusal_fill(refusal, ERRCODE_INSUFFICIENT_PRIVILEGE, hint_grant(name, role),
						"permission denied for gateway %s", name);
}

/*
 * Refuses if the server has an option whose value an earlier version took: without it, requests could go where nobody
 * meant them to.
 */
static bool
check_server(const ForeignServer *server, const Provider *provider, Refusal *refusal)
{
	const char *detail;
	const OptionDef *invalid = options_find_invalid(provider, server->options, &detail);

	if (invalid == NULL)
		return true;
	refusal_fill(refusal, ERRCODE_UNDEFINED_OBJECT, hint_alter_server(server->servername, invalid, true),
				 "gateway \"%s\" has an invalid value for option \"%s\"", server->servername, invalid->name);
	return refusal_detail(refusal, detail);
}

/* Refuses if the user mapping lacks a credential; all that a mapping can hold is needed. */
static bool
check_credentials(const Gateway *gateway, const Mapping *mapping, Refusal *refusal)
{
	const OptionDef *options = gateway->provider->options;

	for (int i = 0; options[i].name != NULL; i++)
	{
		bool given = options_given(mapping->options, options[i].name) != NULL;

		if ((options[i].where & OPTION_USER) && gateway->settings[i] == NULL)
			return refusal_fill(refusal, ERRCODE_UNDEFINED_OBJECT,
								hint_alter_mapping(gateway->name, mapping->user, &options[i], given),
								"the user mapping for gateway \"%s\" lacks the option \"%s\"", gateway->name,
								options[i].name);
	}
	return true;
}

/*
 * Looks a gateway up in the catalogs and adds it to the cache.  Returns NULL with the
 * refusal filled if the role cannot use it.
 */
static CachedGateway *
resolve_gateway(const char *name, Oid role, Refusal *refusal)
{
	uint64 changes = cache.changes;
	const Provider *provider;
	ForeignServer *server = gateway_server(name, &provider);
	Mapping mapping;
	CachedGateway *cached;

	if (server == NULL)
	{
		gateway_refuse_name(name, role, refusal);
		return NULL;
	}
	if (!check_usage(server->serverid, name, role, refusal))
		return NULL;
	if (!find_mapping(server->serverid, role, &mapping))
	{
		refusal_fill(refusal, ERRCODE_UNDEFINED_OBJECT, hint_create_mapping(name, role, provider),
					 "there is no user mapping of role \"%s\" for gateway \"%s\"",
					 GetUserNameFromId(role, true), name);
		return NULL;
	}
	if (!check_server(server, provider, refusal))
		return NULL;
	cached = new_gateway(server, provider, role, &mapping);
	if (!check_credentials(&cached->gateway, &mapping, refusal))
	{
		MemoryContextDelete(cached->context);
		return NULL;
	}
	add_to_cache(cached, changes);
	return cached;
}

/*
 * Resolves a gateway for a role: it exists, the role has USAGE, and there are
 * credentials.  Returns NULL with the refusal filled otherwise: with UNDEFINED_OBJECT or
 * INSUFFICIENT_PRIVILEGE.  The result is valid until the next call, or longer with
 * gateway_hold().  Raises 22021 if an option cannot be converted into UTF-8.
 */
Gateway *
gateway_get(const char *name, Oid role, Refusal *refusal)
{
	CachedGateway *cached;

	drop_stale_gateways();
	cached = find_cached(name, role);
	if (cached == NULL)
		cached = resolve_gateway(name, role, refusal);
	else if (!check_usage(cached->gateway.server, name, role, refusal))
		return NULL;
	return cached != NULL ? &cached->gateway : NULL;
}

/* ------------------------------------------------------------------------
 * Use
 * ------------------------------------------------------------------------ */

/*
 * The value of an option that not every provider has ("option" is then NULL), out of the
 * settings of a gateway or a message; NULL if there is none.
 */
const char *
gateway_setting(const Provider *provider, Settings settings, const OptionDef *option)
{
	return option != NULL ? settings[option - provider->options] : NULL;
}

/*
 * Builds a request about a message that was sent ("reference" is the provider's id of it), a page of those that were,
 * or about the account: "question" says what is asked.  The request belongs to the caller; returns false when memory is out.
 */
bool
gateway_query(const Gateway *gateway, const Message *question, HttpRequest *request)
{
	memset(request, 0, sizeof(*request));
	return gateway->provider->build(gateway->settings, question, request);
}
