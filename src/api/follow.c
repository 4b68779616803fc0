/*
 * follow.c
 *		What became of a message, when the provider calls back and when a user asks.
 *		(When the worker asks by itself: poll.c.)
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include <math.h>

#include "api/args.h"
#include "api/exchange.h"
#include "base/encoding.h"
#include "db/home.h"
#include "db/scope.h"
#include "engine/poll.h"
#include "guard/mac.h"
#include "miscadmin.h"
#include "outbox/follow.h"
#include "outbox/report.h"
#include "outbox/request_id.h"
#include "provider/answer.h"
#include "wake/wake.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(sms_delivery_report);
PG_FUNCTION_INFO_V1(sms_check_status);
PG_FUNCTION_INFO_V1(sms_balance);

/* ------------------------------------------------------------------------
 * Callbacks
 * ------------------------------------------------------------------------ */

/* The message that the report's token stands for; raises 42501 if one is needed and is not right. */
static int64
check_token(const char *gateway, const Report *report)
{
	int64 id = report->token[0] ? mac_token_id(report->token) : 0;

	if (id == 0 && (report->token[0] || gateway_uses_tokens(gateway)))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("the delivery report for gateway \"%s\" carries no valid token", gateway),
						errdetail("The gateway's callback_url holds {token}.")));
	return id;
}

/* What was learnt of a message cannot be written onto it. */
static void
refuse_locked(int64 id)
{
	ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					errmsg("message %lld could not be updated", (long long) id)));
}

/* Records a report; returns the message's id, 0 if it is of none that is known to be sent. */
static int64
take_report(const char *gateway, const Report *report, int64 by_token)
{
	Reported reported = report_find_message(gateway, report, by_token);

	if (reported.id == 0 && by_token != 0)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("the delivery report for gateway \"%s\" carries the token of another message",
							   gateway)));
	if (reported.id == 0 || reported.status == STATUS_QUEUED)
	{
		/* Of a message of sms_send() nobody will ever know more. */
		if (reported.id == 0 && request_id_is_of_call(report->request_id))
			return 0;
		/* Its answer may be on the way yet. */
		report_keep(gateway, report);
		wake_at_commit(WAKE_ONLY);
		return 0;
	}
	if (!report_record(gateway, report, &reported))
		refuse_locked(reported.id);
	return reported.id;
}

Datum
sms_delivery_report(PG_FUNCTION_ARGS)
{
	const char *gateway = PG_ARGISNULL(0) ? "" : NameStr(*PG_GETARG_NAME(0));
	const Provider *provider = gateway_provider(gateway);
	Refusal refusal;
	Report report;
	OwnerScope scope;
	Jsonb *given;
	char *json;
	char *utf8;
	int64 by_token;
	int64 id;

	if (XactReadOnly)
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("a delivery report cannot be taken in a read-only transaction"),
				 errhint("PostgREST answers GET in one: have the web server in front make it a POST.")));
	if (provider == NULL)
	{
		gateway_refuse_name(gateway, GetUserId(), &refusal);
		refusal_raise(&refusal);
	}
	given = json_arg(fcinfo, 1, BOUND_REPORT, "a delivery report");
	if (given == NULL || !JB_ROOT_IS_OBJECT(given))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a delivery report is a JSON object")));

	memset(&report, 0, sizeof(report));
	json = JsonbToCString(NULL, &given->root, VARSIZE(given));
	utf8 = to_utf8(json, "report");
	if (!provider->report(utf8, strlen(utf8), &report))
		PG_RETURN_NULL();
	by_token = check_token(gateway, &report);
	scope_enter(&scope);
	id = take_report(gateway, &report, by_token);
	scope_leave(&scope);
	if (id == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(id);
}

/* ------------------------------------------------------------------------
 * Asking now
 * ------------------------------------------------------------------------ */

/* Asks a gateway, with what was learnt before kept in exchange->report. */
static void
ask(Exchange *exchange, Call call, const char *reference)
{
	Message message = {.call = call, .reference = reference};

	exchange->message = &message;
	exchange_run(exchange);
	exchange->message = NULL;
}

/* The gateway of a message, with the credentials of who queued it, if it can be asked; held. */
static Gateway *
gateway_to_ask(const Follow *follow)
{
	Refusal refusal;
	Gateway *gateway;

	if (!OidIsValid(follow->role))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("the role that queued message %lld does not exist", (long long) follow->id)));
	gateway = gateway_get(follow->gateway, follow->role, &refusal);
	if (gateway == NULL)
		refusal_raise(&refusal);
	if (!(gateway->provider->calls & CALL_BIT(CALL_STATUS)))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("gateway \"%s\" (%s) cannot be asked about a message", gateway->name,
							   gateway->provider->name),
						errhint("It calls back: see sms_delivery_report().")));
	gateway_hold(gateway);
	return gateway;
}

/* Asks a provider what became of a message; false, with a warning, if it tells nothing. */
static bool
ask_provider(const Follow *follow, Report *report)
{
	Gateway *gateway = gateway_to_ask(follow);
	Exchange exchange = {.gateway = gateway, .settings = gateway->settings};
	char *reference = to_utf8(follow->reference, "id");
	bool told;

	ask(&exchange, CALL_STATUS, reference);
	told = exchange.told;
	if (!told)
		ereport(WARNING, (errcode(ERRCODE_FDW_ERROR),
						  errmsg("gateway \"%s\" did not say what became of message %lld", gateway->name,
								 (long long) follow->id),
						  exchange_detail(&exchange.answer)));
	else if (exchange.report.delivery != DELIVERY_PENDING &&
			 (gateway->provider->calls & CALL_BIT(CALL_STATUS_DETAIL)))
		ask(&exchange, CALL_STATUS_DETAIL, reference);
	*report = exchange.report;
	return told;
}

/* Reads a message as the current user may; it is not locked. */
static Follow *
read_message(int64 id)
{
	MemoryContext caller = CurrentMemoryContext;
	OwnerScope scope;
	Follow *follow;

	scope_enter(&scope);
	MemoryContextSwitchTo(caller);
	PushActiveSnapshot(GetLatestSnapshot());
	follow = report_sent_message(id, scope.user);
	PopActiveSnapshot();
	scope_leave(&scope);
	return follow;
}

static Datum
status_datum(FunctionCallInfo fcinfo, Status status)
{
	return status_value(status, get_func_rettype(fcinfo->flinfo->fn_oid));
}

Datum
sms_check_status(PG_FUNCTION_ARGS)
{
	int64 id = PG_GETARG_INT64(0);
	Follow *follow;
	Report report;
	FollowUp followup = {.row.id = id, .report = &report};
	OwnerScope scope;

	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("a standby asks no gateway")));
	follow = read_message(id);
	scope_require_served();
	home_require();
	if (follow->reference == NULL || (follow->status != STATUS_SENT && follow->status != STATUS_UNCERTAIN) ||
		!ask_provider(follow, &report))
		return status_datum(fcinfo, follow->status);

	/* No lock was held while the network was awaited. */
	followup.row.role = follow->role;
	followup.legs = follow->legs;
	if (follow->legs)
		strlcpy(report.smsid, to_utf8(follow->reference, "id"), sizeof(report.smsid));
	scope_enter(&scope);
	if (!follow_record_one(&followup))
		refuse_locked(id);
	scope_leave(&scope);
	return status_datum(fcinfo, read_message(id)->status);
}

/* ------------------------------------------------------------------------
 * The account
 * ------------------------------------------------------------------------ */

Datum
sms_balance(PG_FUNCTION_ARGS)
{
	Gateway *gateway = exchange_gateway(name_arg(fcinfo, 0), CALL_BALANCE);
	Exchange exchange = {.gateway = gateway, .settings = gateway->settings};

	if (!(gateway->provider->calls & CALL_BIT(CALL_BALANCE)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("gateway \"%s\" (%s) does not tell a balance",
																gateway->name, gateway->provider->name)));
	gateway_hold(gateway);
	ask(&exchange, CALL_BALANCE, NULL);
	if (!exchange.told || !exchange_is_amount(exchange.balance))
	{
		ereport(WARNING, (errcode(ERRCODE_FDW_ERROR),
						  errmsg("gateway \"%s\" did not say what is left on the account", gateway->name),
						  exchange_detail(&exchange.answer)));
		PG_RETURN_NULL();
	}
	if (!isnan(gateway->min_balance) && strtod(exchange.balance, NULL) < gateway->min_balance)
		poll_tell_balance(gateway->name, exchange.balance, gateway->min_balance);
	return DirectFunctionCall3(numeric_in, CStringGetDatum(exchange.balance), ObjectIdGetDatum(InvalidOid),
							   Int32GetDatum(-1));
}
