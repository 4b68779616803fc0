/*
 * hint.c
 *		Hints that name the commands with which a gateway is made usable.
 *
 * A role is named to itself only, unless the error names it: a message can be asked about
 * by others than the role that queued it, and they are not told who that was.  All hints
 * are sentences, palloc'd.
 */
#include "postgres.h"

#include "gateway/hint.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "provider/table.h"
#include "utils/builtins.h"

/* Names gateways: "They are: shop, omni." */
char *
hint_list(const char *subject, const List *names)
{
	StringInfoData list;
	ListCell *lc;

	initStringInfo(&list);
	appendStringInfo(&list, "%s:", subject);
	foreach (lc, names)
		appendStringInfo(&list, "%s %s", lc == list_head(names) ? "" : ",", (char *) lfirst(lc));
	appendStringInfoChar(&list, '.');
	return list.data;
}

/* The current user's name for use in a command; NULL if the role is another, or gone. */
static const char *
own_name(Oid role)
{
	char *name = role == GetUserId() ? GetUserNameFromId(role, true) : NULL;

	return name != NULL ? quote_identifier(name) : NULL;
}

/*
 * How to make a gateway that can be chosen for one of the calls (CALL_BITs), with the
 * wrappers whose providers offer one; NULL if none does.
 */
char *
hint_create_server(unsigned calls)
{
	List *names = NIL;
	ListCell *lc;
	StringInfoData hint;

	for (int i = 0; providers[i] != NULL; i++)
	{
		if (providers[i]->calls & ~providers[i]->by_name_only & calls)
			names = lappend(names, unconstify(char *, providers[i]->name));
	}
	if (names == NIL)
		return NULL;
	initStringInfo(&hint);
	appendStringInfoString(&hint, "Create one with CREATE SERVER and the foreign-data wrapper ");
	foreach (lc, names)
	{
		if (lc != list_head(names))
			appendStringInfoString(&hint, lnext(names, lc) != NULL ? ", " : " or ");
		appendStringInfoString(&hint, lfirst(lc));
	}
	appendStringInfoString(&hint, ", and grant USAGE on it.");
	return hint.data;
}

/* How to let a role use a server. */
char *
hint_grant(const char *server, Oid role)
{
	const char *name = own_name(role);

	if (name == NULL)
		return psprintf("The role that queued the message needs USAGE on the foreign server %s.",
						quote_identifier(server));
	return psprintf("Grant it with GRANT USAGE ON FOREIGN SERVER %s TO %s.", quote_identifier(server), name);
}

/* How to give a server an option, or another value of one that it has. */
char *
hint_alter_server(const char *server, const OptionDef *option, bool given)
{
	return psprintf("Set it with ALTER SERVER %s OPTIONS (%s %s 'value').", quote_identifier(server),
					given ? "SET" : "ADD", quote_identifier(option->name));
}

/*
 * How to give a role credentials for a server: with all options of the provider's user
 * mappings.  The error names the role already.
 */
char *
hint_create_mapping(const char *server, Oid role, const Provider *provider)
{
	const char *name = GetUserNameFromId(role, true);
	StringInfoData options;

	initStringInfo(&options);
	for (const OptionDef *o = provider->options; o->name != NULL; o++)
	{
		if (o->where & OPTION_USER)
			appendStringInfo(&options, "%s%s 'value'", options.len > 0 ? ", " : "",
							 quote_identifier(o->name));
	}
	return psprintf("Create one with CREATE USER MAPPING FOR %s SERVER %s OPTIONS (%s).",
					name != NULL ? quote_identifier(name) : "PUBLIC", quote_identifier(server), options.data);
}

/*
 * How to give a user mapping an option, or another value of one that it has: the mapping
 * is a role's, or PUBLIC's where "user" is invalid.
 */
char *
hint_alter_mapping(const char *server, Oid user, const OptionDef *option, bool given)
{
	const char *name = OidIsValid(user) ? own_name(user) : "PUBLIC";

	if (name == NULL)
		return pstrdup("Set it with ALTER USER MAPPING for the role that queued the message.");
	return psprintf("Set it with ALTER USER MAPPING FOR %s SERVER %s OPTIONS (%s %s 'value').", name,
					quote_identifier(server), given ? "SET" : "ADD", quote_identifier(option->name));
}
