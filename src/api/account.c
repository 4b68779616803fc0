/*
 * account.c
 *		What the provider knows of the account and of a text, before it costs money.
 */
#include "postgres.h"

#include "access/xact.h"
#include "api/args.h"
#include "api/exchange.h"
#include "base/encoding.h"
#include "guard/templates.h"
#include "miscadmin.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(sms_gateway_ask_brandnames);
PG_FUNCTION_INFO_V1(sms_gateway_ask_templates);
PG_FUNCTION_INFO_V1(sms_price);

/* The gateway to ask, held; raises 0A000 if its provider has no such call. */
static Gateway *
gateway_to_ask_for(const char *name, Call call)
{
	Gateway *gateway = exchange_gateway(name, call);

	if (!(gateway->provider->calls & CALL_BIT(call)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("gateway \"%s\" (%s) cannot be asked that", gateway->name, gateway->provider->name)));
	gateway_hold(gateway);
	return gateway;
}

static void
warn_of_silence(const Exchange *exchange)
{
	ereport(WARNING,
			(errcode(ERRCODE_FDW_ERROR), errmsg("gateway \"%s\" did not tell it", exchange->gateway->name),
			 exchange_detail(&exchange->answer)));
}

/* Asks for a list, of a brandname's or of the account's; JSON in the database's encoding, NULL with a warning if there is none. */
static char *
ask_for_list(const Gateway *gateway, Call call, const char *brandname)
{
	Message message = {.call = call, .reference = brandname};
	Exchange exchange = {.gateway = gateway, .settings = gateway->settings, .message = &message};
	char *list = NULL;

	exchange_run(&exchange);
	if (exchange.told)
	{
		PG_TRY();
		{
			list = pstrdup(from_utf8(exchange.list));
		}
		PG_FINALLY();
		{
			free(exchange.list);
		}
		PG_END_TRY();
	}
	else
		warn_of_silence(&exchange);
	return list;
}

static Datum
json_datum(const char *json)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

Datum
sms_gateway_ask_brandnames(PG_FUNCTION_ARGS)
{
	char *list =
		ask_for_list(gateway_to_ask_for(name_arg(fcinfo, 0), CALL_BRANDNAMES), CALL_BRANDNAMES, NULL);

	if (list == NULL)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(json_datum(list));
}

Datum
sms_gateway_ask_templates(PG_FUNCTION_ARGS)
{
	Gateway *gateway = gateway_to_ask_for(name_arg(fcinfo, 0), CALL_TEMPLATES);
	const Provider *provider = gateway->provider;
	const char *brandname = to_utf8(text_arg(fcinfo, 1, BOUND_PHONE, "brandname"), "brandname");
	bool refresh = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	char *list;

	if (brandname == NULL)
		brandname = gateway_setting(provider, gateway->settings, provider->brandname_option);
	if (brandname == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("gateway \"%s\" has no brandname", gateway->name),
						errhint("Give one as the second argument.")));
	list = refresh ? NULL : templates_kept(gateway, brandname);
	if (list == NULL)
	{
		if (XactReadOnly)
			ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
							errmsg("templates cannot be read anew in a read-only transaction")));
		list = ask_for_list(gateway, CALL_TEMPLATES, brandname);
		if (list == NULL)
			PG_RETURN_NULL();
		templates_keep(gateway, brandname, list);
	}
	PG_RETURN_DATUM(json_datum(list));
}

Datum
sms_price(PG_FUNCTION_ARGS)
{
	Gateway *gateway = gateway_to_ask_for(name_arg(fcinfo, 2), CALL_PRICE);
	Draft draft = {.call = CALL_PRICE,
				   .phone = text_arg(fcinfo, 0, BOUND_PHONE, "phone"),
				   .content = text_arg(fcinfo, 1, BOUND_CONTENT, "content")};
	Exchange exchange = {.gateway = gateway};
	Prepared prepared;
	Refusal refusal;

	if (!gateway_prepare(gateway, &draft, &prepared, &refusal))
		refusal_raise(&refusal);
	exchange.settings = prepared.settings;
	exchange.message = &prepared.message;
	exchange_run(&exchange);
	if (exchange.told && exchange_is_amount(exchange.balance))
		return DirectFunctionCall3(numeric_in, CStringGetDatum(exchange.balance),
								   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	warn_of_silence(&exchange);
	PG_RETURN_NULL();
}
