/*
 * choose.c
 *		Chooses the gateway of messages that name none.
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/settings.h"
#include "foreign/foreign.h"
#include "gateway/choose.h"
#include "gateway/options.h"
#include "lib/stringinfo.h"
#include "provider/table.h"

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

/*
 * The gateway to use where the user names none: the configured default, else
 * the only one that can do this and that the role may use.  The result is valid
 * until the next call of anything here; NULL with the error filled if there is none.
 */
const char *
gateway_choose(Call call, Oid role, Refusal *refusal)
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
		refused(refusal, ERRCODE_UNDEFINED_OBJECT,
				psprintf("CREATE SERVER name FOREIGN DATA WRAPPER %s, and GRANT USAGE ON FOREIGN SERVER.",
						 provider_choices),
				"there is no gateway for messages of kind \"%s\" that you may use", kind_name(call));
	else
	{
		refused(refusal, ERRCODE_AMBIGUOUS_PARAMETER, "Name one, or set sms_gateway.default_gateway.",
				"more than one gateway can send this message");
		snprintf(refusal->detail, sizeof(refusal->detail), "They are: %s.", choices.data);
	}
	return NULL;
}
