/*
 * follow.c
 *		What became of a message, when the provider calls back and when a user asks.
 *		(When the worker asks by itself: poll.c.)
 */
#include "postgres.h"

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

/* Writes onto a message what was learnt of it. */
static void
record(FollowUp *followup)
{
	if (!follow_record_one(followup))
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("message %lld could not be updated", (long long) followup->row.id)));
}

/* Records a report; returns the message's id, 0 if it is of none that is known to be sent. */
static int64
take_report(const char *gateway, const Report *report, const char *json, int64 by_token)
{
	Reported reported = report_find_message(gateway, report, by_token);
	FollowUp followup = {.row = {.id = reported.id, .role = reported.role}, .report = report};

	if (reported.id == 0 && by_token != 0)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("the delivery report for gateway \"%s\" carries the token of another message",
							   gateway)));
	if (reported.id == 0 || reported.status == STATUS_QUEUED)
	{
		/* Its answer may be on the way yet. */
		report_keep(gateway, report, json, 0);
		wake_at_commit(WAKE_ONLY);
		return 0;
	}
	record(&followup);

	/* So that it is known again once the message has left the index of those awaited. */
	if (reported.by_id_only)
		report_keep(gateway, report, json, reported.id);
	return reported.id;
}

Datum
sms_delivery_report(PG_FUNCTION_ARGS)
{
	const char *gateway = PG_ARGISNULL(0) ? "" : NameStr(*PG_GETARG_NAME(0));
	const Provider *provider = gateway_provider(gateway);
	Report report;
	OwnerScope scope;
	Jsonb *given;
	char *json;
	char *utf8;
	int64 by_token;
	int64 id;

	if (provider == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("gateway \"%s\" does not exist", gateway)));
	given = PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1);
	if (given == NULL || !JB_ROOT_IS_OBJECT(given))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("a delivery report is a JSON object")));

	memset(&report, 0, sizeof(report));
	json = JsonbToCString(NULL, &given->root, VARSIZE(given));
	utf8 = to_utf8(json, "report");
	if (!provider->report(utf8, strlen(utf8), &report))
		PG_RETURN_NULL();
	by_token = check_token(gateway, &report);
	if (report.token[0])
	{
		/* The token is a secret: what is kept goes without. */
		given = DatumGetJsonbP(DirectFunctionCall2(jsonb_delete, JsonbPGetDatum(given),
												   PointerGetDatum(cstring_to_text("token"))));
		json = JsonbToCString(NULL, &given->root, VARSIZE(given));
	}
	scope_enter(&scope);
	id = take_report(gateway, &report, json, by_token);
	scope_leave(&scope);
	if (id == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(id);
}

/* ------------------------------------------------------------------------
 * Asking now
 * ------------------------------------------------------------------------ */

typedef struct Asked
{
	const Provider *provider;
	Call call;
	const Gateway *gateway;
	Answer answer;
	Report report;
	bool told;
} Asked;

static void
take_status(const HttpAnswer *http, void *arg)
{
	Asked *asked = arg;
	Message message = {.call = asked->call};

	answer_read(asked->provider, asked->gateway->settings, &message, http, &asked->answer);
	if (asked->answer.verdict == VERDICT_ACCEPTED)
		asked->told = asked->provider->report(http->body, http->len, &asked->report);
}

static void
ask(Asked *asked, Call call, const char *reference)
{
	HttpRequest request;

	asked->call = call;
	if (!gateway_query(asked->gateway, call, reference, &request) ||
		!http_call(&asked->gateway->endpoint, &request, true, take_status, asked))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

/* Asks a provider; false, with a warning, if it tells nothing. */
static bool
ask_provider(const Follow *follow, Asked *asked)
{
	Refusal refusal;
	Gateway *gateway = OidIsValid(follow->role) ? gateway_get(follow->gateway, follow->role, &refusal) : NULL;
	char *reference;

	if (gateway == NULL && OidIsValid(follow->role))
		refusal_raise(&refusal);
	if (gateway == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("the role that queued message %lld does not exist", (long long) follow->id)));
	if (!(gateway->provider->calls & CALL_BIT(CALL_STATUS)))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("gateway \"%s\" (%s) cannot be asked about a message", gateway->name,
							   gateway->provider->name),
						errhint("It calls back: see sms_delivery_report().")));
	gateway_hold(gateway);
	asked->gateway = gateway;
	asked->provider = gateway->provider;
	reference = to_utf8(follow->reference, "id");
	ask(asked, CALL_STATUS, reference);
	if (asked->told && asked->report.delivery != DELIVERY_PENDING &&
		(asked->provider->calls & CALL_BIT(CALL_STATUS_DETAIL)))
	{
		ask(asked, CALL_STATUS_DETAIL, reference);
		asked->told = true;
	}
	else if (!asked->told)
		ereport(WARNING, (errcode(ERRCODE_FDW_ERROR),
						  errmsg("gateway \"%s\" did not say what became of message %lld", gateway->name,
								 (long long) follow->id),
						  errdetail("%s", answer_text(&asked->answer))));
	return asked->told;
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
	Asked asked;
	FollowUp followup = {.row.id = id, .report = &asked.report};
	OwnerScope scope;

	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("a standby asks no gateway")));
	follow = read_message(id);
	home_require();
	memset(&asked, 0, sizeof(asked));
	if (follow->reference == NULL || (follow->status != STATUS_SENT && follow->status != STATUS_UNCERTAIN) ||
		!ask_provider(follow, &asked))
		return status_datum(fcinfo, follow->status);

	/* No lock was held while the network was awaited. */
	followup.row.role = follow->role;
	scope_enter(&scope);
	record(&followup);
	scope_leave(&scope);
	return status_datum(fcinfo, read_message(id)->status);
}

typedef struct Balance
{
	const Gateway *gateway;
	Answer answer;
	bool told;
	char amount[40];
} Balance;

static void
take_balance(const HttpAnswer *http, void *arg)
{
	Balance *balance = arg;
	Message message = {.call = CALL_BALANCE};

	answer_read(balance->gateway->provider, balance->gateway->settings, &message, http, &balance->answer);
	balance->told = balance->answer.verdict == VERDICT_ACCEPTED &&
					balance->gateway->provider->balance(http, balance->amount, sizeof(balance->amount));
}

Datum
sms_balance(PG_FUNCTION_ARGS)
{
	Gateway *gateway = find_gateway(name_arg(fcinfo, 0), CALL_BALANCE);
	Balance balance = {.gateway = gateway};
	HttpRequest request;
	char *end;

	if (!(gateway->provider->calls & CALL_BIT(CALL_BALANCE)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("gateway \"%s\" (%s) does not tell a balance",
																gateway->name, gateway->provider->name)));
	gateway_hold(gateway);
	if (!gateway_query(gateway, CALL_BALANCE, NULL, &request) ||
		!http_call(&gateway->endpoint, &request, true, take_balance, &balance))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	/* Only what numeric takes too: strtod alone takes "inf" and "0x1p3". */
	if (balance.told)
		balance.told = strspn(balance.amount, "+-.0123456789eE") == strlen(balance.amount) &&
					   isfinite(strtod(balance.amount, &end)) && end != balance.amount && *end == '\0';
	if (!balance.told)
	{
		ereport(WARNING, (errcode(ERRCODE_FDW_ERROR),
						  errmsg("gateway \"%s\" did not say what is left on the account", gateway->name),
						  errdetail("%s", answer_text(&balance.answer))));
		PG_RETURN_NULL();
	}
	if (!isnan(gateway->min_balance) && strtod(balance.amount, NULL) < gateway->min_balance)
		poll_tell_balance(gateway->name, balance.amount, gateway->min_balance);
	return DirectFunctionCall3(numeric_in, CStringGetDatum(balance.amount), ObjectIdGetDatum(InvalidOid),
							   Int32GetDatum(-1));
}
