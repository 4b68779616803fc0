/*
 * table.c
 *		The table of providers, made from list.h; the names of kinds of messages.
 */
#include <string.h>

#include "provider/table.h"

const Provider *const providers[] = {
#define PROVIDER(name, about) &name##_provider,
#include "provider/list.h"
	NULL,
};

/* Returns the provider of that name, or NULL. */
const Provider *
provider_by_name(const char *name)
{
	for (int i = 0; providers[i] != NULL; i++)
	{
		if (strcmp(providers[i]->name, name) == 0)
			return providers[i];
	}
	return NULL;
}

/*
 * Are one-time passwords of a provider made and checked here?  "maker" is the value that a server has for its
 * otp_option, or NULL.
 */
bool
provider_otp_is_local(const Provider *provider, const char *maker)
{
	return provider->otp_is_local || (maker != NULL && strcmp(maker, OTP_LOCAL) == 0);
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
		case CALL_SENT_LIST:
			return "sent";
		case CALL_STATUS:
		case CALL_STATUS_DETAIL:
			return "status";
		case CALL_BRANDNAMES:
			return "brandnames";
		case CALL_TEMPLATES:
			return "templates";
		case CALL_PRICE:
			return "price";
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
