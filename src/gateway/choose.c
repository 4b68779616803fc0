/*
 * choose.c
 *		Chooses the gateway of messages that name none, and says whose servers may take a message that has not chosen them.
 */
#include "postgres.h"

#include <ctype.h>

#include "access/htup_details.h"
#include "base/compat.h"
#include "base/settings.h"
#include "catalog/pg_class.h"
#include "db/home.h"
#include "foreign/foreign.h"
#include "gateway/choose.h"
#include "gateway/gateway.h"
#include "gateway/hint.h"
#include "gateway/options.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "provider/table.h"
#include "utils/syscache.h"

/*
 * Can a server be chosen for a call?  Its provider offers the call, and an option
 * without which the call makes no sense is given; most servers of some wrappers lack it.
 */
static bool
is_set_up_for(const ForeignServer *server, const Provider *provider, Call call)
{
	const OptionDef *needed = provider->needs[call];

	return (provider->calls & ~provider->by_name_only & CALL_BIT(call)) &&
		   (needed == NULL || options_given(server->options, needed->name) != NULL);
}

/* Are one-time passwords of a server made here? */
static bool
makes_otp_here(const ForeignServer *server, const Provider *provider)
{
	const OptionDef *option = provider->otp_option;

	return provider_otp_is_local(provider, option ? options_given(server->options, option->name) : NULL);
}

static Oid
outbox_owner(void)
{
	HeapTuple table = SearchSysCache1(RELOID, ObjectIdGetDatum(home_relation_or_none("sms_outbox")));
	Oid owner;

	if (!HeapTupleIsValid(table))
		return InvalidOid;
	owner = ((Form_pg_class) GETSTRUCT(table))->relowner;
	ReleaseSysCache(table);
	return owner;
}

/*
 * May a role's messages go through a server that it does not name?  Whoever may make servers could else grant one to
 * everybody, and would get everybody's texts and codes: so it belongs to a superuser, to the outbox's owner or to the
 * role itself.  That the role is a member of the owner does not count: anybody can make it one of his own.
 */
static bool
is_trusted(Oid owner, Oid role)
{
	return owner == role || superuser_arg(owner) || owner == outbox_owner();
}

/*
 * What is kept of a role's message that names a gateway: whose the server is, if not one of those who may be trusted
 * with every message of the role; NULL if it is.  A name alone chooses nothing: the server may be dropped, and
 * somebody else may make one of that name.  Nor does an oid, which means another role where a dump is restored.
 * Returns "oid name", palloc'd; in the name all but letters and digits is escaped, so it is fit for JSON as it is.
 */
char *
gateway_owner_mark(Oid owner, Oid role)
{
	StringInfoData mark;

	if (is_trusted(owner, role))
		return NULL;
	initStringInfo(&mark);
	appendStringInfo(&mark, "%u ", owner);
	for (const unsigned char *p = (const unsigned char *) GetUserNameFromId(owner, false); *p; p++)
		appendStringInfo(&mark, (*p < 0x80 && isalnum(*p)) || *p == '_' ? "%c" : "%%%02X", *p);
	return mark.data;
}

/* Refuses, with UNDEFINED_OBJECT, a gateway that a message has not chosen, as its owner is. */
bool
gateway_refuse_owner(const Gateway *gateway, Refusal *refusal)
{
	return refusal_fill(refusal, ERRCODE_UNDEFINED_OBJECT,
						"Name the gateway, as it is meant, or have the server's owner changed.",
						"gateway \"%s\" belongs to role \"%s\", whom the message has not chosen",
						gateway->name, GetUserNameFromId(gateway->owner, false));
}

/*
 * May a gateway that the current user has not named take what is his?  One of an owner that may be trusted with it, or
 * of the owner of "named", which he has named.  Raises 42501 if not.
 */
void
gateway_require_owner(const Gateway *gateway, const Gateway *named)
{
	Refusal refusal;

	if (is_trusted(gateway->owner, gateway->role) || gateway->owner == named->owner)
		return;
	gateway_refuse_owner(gateway, &refusal);
	refusal.sqlstate = ERRCODE_INSUFFICIENT_PRIVILEGE;
	refusal_raise(&refusal);
}

/*
 * The names of the gateways that are set up for a call, trusted if that is asked for, and that the role may use, or, without one, anybody.  With
 * one-time passwords, those whose provider makes them himself go before those for which
 * they are made here: the latter are left out if there is one of the former.
 */
static List *
candidates(Call call, Oid role, bool trusted)
{
	bool otp = call == CALL_OTP || call == CALL_CHECK_OTP;
	List *all = NIL;
	List *makers = NIL;
	ListCell *lc;

	foreach (lc, gateway_names())
	{
		const Provider *provider;
		ForeignServer *server = gateway_server(lfirst(lc), &provider);

		if (server == NULL || !is_set_up_for(server, provider, call) ||
			(OidIsValid(role) && !compat_has_server_usage(server->serverid, role)) ||
			(trusted && !is_trusted(server->owner, role)))
			continue;
		all = lappend(all, server->servername);
		if (!makes_otp_here(server, provider))
			makers = lappend(makers, server->servername);
	}
	return otp && makers != NIL ? makers : all;
}

/* Says why there is no gateway for a call: nobody has made one, or the role may use none of them, or trust none. */
static void
refuse_all(Call call, Oid role, Refusal *refusal)
{
	List *others = candidates(call, role, false);

	if (others != NIL)
	{
		refusal_fill(refusal, ERRCODE_AMBIGUOUS_PARAMETER,
					 hint_list("Name one, as it is meant. They are", others),
					 "no gateway is taken by default for messages of kind \"%s\"", kind_name(call));
		refusal_detail(
			refusal,
			"Only one that belongs to a superuser, to the owner of sms_outbox or to the role itself is.");
		return;
	}
	others = candidates(call, InvalidOid, false);
	if (others == NIL)
	{
		refusal_fill(refusal, ERRCODE_UNDEFINED_OBJECT, hint_create_server(CALL_BIT(call)),
					 "there is no gateway for messages of kind \"%s\"", kind_name(call));
		return;
	}
	refusal_fill(refusal, ERRCODE_INSUFFICIENT_PRIVILEGE, hint_grant(linitial(others), role),
				 "permission denied for all gateways for messages of kind \"%s\"", kind_name(call));
	refusal_detail(refusal, psprintf("Role \"%s\" has the USAGE privilege on none of them.",
									 GetUserNameFromId(role, false)));
}

/* Is the configured default a gateway, trusted, and of a provider that offers the call?  Fills the refusal if not. */
static bool
is_default_able(Call call, Oid role, Refusal *refusal)
{
	const Provider *provider;
	const ForeignServer *server = gateway_server(guc_default_gateway, &provider);

	if (server == NULL)
		gateway_refuse_name(guc_default_gateway, role, refusal);
	else if (!is_trusted(server->owner, role))
		refusal_fill(refusal, ERRCODE_INSUFFICIENT_PRIVILEGE,
					 "Name the gateway, as it is meant, or have the server's owner changed.",
					 "gateway \"%s\" belongs to role \"%s\", and is not taken by default",
					 guc_default_gateway, GetUserNameFromId(server->owner, false));
	else if (!(provider->calls & CALL_BIT(call)))
		refusal_fill(refusal, ERRCODE_FEATURE_NOT_SUPPORTED, "Name another gateway.",
					 call == CALL_BALANCE ? "gateway \"%s\" (%s) does not tell a balance"
										  : "gateway \"%s\" (%s) cannot send messages of kind \"%s\"",
					 guc_default_gateway, provider->name, kind_name(call));
	else
		return true;
	return refusal_detail(refusal, "It is the gateway of the setting sms_gateway.default_gateway.");
}

/*
 * The name of the gateway to use for a call where the user names none: the configured
 * default, else the only one that is set up for the call, trusted, and that the role may use.
 * Returns a string of the setting or of the current memory context; NULL, with the
 * refusal filled, if there is none or more than one.
 */
const char *
gateway_choose(Call call, Oid role, Refusal *refusal)
{
	List *names;

	if (guc_default_gateway != NULL && guc_default_gateway[0] != '\0')
		return is_default_able(call, role, refusal) ? guc_default_gateway : NULL;

	names = candidates(call, role, true);
	if (list_length(names) == 1)
		return linitial(names);
	if (names != NIL)
	{
		refusal_fill(refusal, ERRCODE_AMBIGUOUS_PARAMETER, "Name one, or set sms_gateway.default_gateway.",
					 "more than one gateway can send this message");
		refusal_detail(refusal, hint_list("They are", names));
		return NULL;
	}
	refuse_all(call, role, refusal);
	return NULL;
}
