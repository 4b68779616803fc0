/*
 * manage.c
 *		What users call to manage messages, gateways and the outbox as a whole.
 */
#include "postgres.h"

#include "api/args.h"
#include "db/home.h"
#include "db/scope.h"
#include "fmgr.h"
#include "gateway/gateway.h"
#include "guard/mac.h"
#include "miscadmin.h"
#include "outbox/forget.h"
#include "outbox/identity.h"
#include "outbox/manage.h"
#include "outbox/pause.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "wake/wake.h"

PG_FUNCTION_INFO_V1(sms_cancel);
PG_FUNCTION_INFO_V1(sms_retry);
PG_FUNCTION_INFO_V1(sms_resolve);
PG_FUNCTION_INFO_V1(sms_pause);
PG_FUNCTION_INFO_V1(sms_resume);
PG_FUNCTION_INFO_V1(sms_adopt_outbox);
PG_FUNCTION_INFO_V1(sms_forget);
PG_FUNCTION_INFO_V1(sms_gateway_hidden);
PG_FUNCTION_INFO_V1(sms_gateway_created);
PG_FUNCTION_INFO_V1(sms_gateway_origin);

Datum
sms_cancel(PG_FUNCTION_ARGS)
{
	OwnerScope scope;
	bool done;

	PreventCommandIfReadOnly("sms_cancel()");
	scope_enter(&scope);
	done = manage_cancel(PG_GETARG_INT64(0), scope.user);
	scope_leave(&scope);
	PG_RETURN_BOOL(done);
}

Datum
sms_retry(PG_FUNCTION_ARGS)
{
	OwnerScope scope;
	bool done;

	PreventCommandIfReadOnly("sms_retry()");
	scope_enter(&scope);
	done = manage_retry(PG_GETARG_INT64(0), scope.user);
	scope_leave(&scope);
	PG_RETURN_BOOL(done);
}

Datum
sms_resolve(PG_FUNCTION_ARGS)
{
	Status status = status_of_value(PG_GETARG_DATUM(1));
	OwnerScope scope;
	bool done;

	PreventCommandIfReadOnly("sms_resolve()");
	if (status != STATUS_SENT && status != STATUS_FAILED)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an uncertain message cannot be resolved as \"%s\"", status_label(status)),
						errhint("It is resolved as sent or failed.")));
	scope_enter(&scope);
	done = manage_resolve(PG_GETARG_INT64(0), status, scope.user);
	scope_leave(&scope);
	PG_RETURN_BOOL(done);
}

/* Raises 42704 unless it is the name of a gateway, 22004 if it is NULL. */
static void
require_gateway(const char *name)
{
	Refusal refusal;

	if (name == NULL)
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("the gateway must not be null")));
	if (gateway_provider(name) != NULL)
		return;
	gateway_refuse_name(name, GetUserId(), &refusal);
	refusal_raise(&refusal);
}

Datum
sms_pause(PG_FUNCTION_ARGS)
{
	const char *gateway = name_arg(fcinfo, 0);
	const char *reason = text_arg(fcinfo, 1, BOUND_REASON, "reason");
	OwnerScope scope;

	PreventCommandIfReadOnly("sms_pause()");
	require_gateway(gateway);
	scope_enter(&scope);
	pause_begin(gateway, reason != NULL ? reason : "paused");
	scope_leave(&scope);
	wake_at_commit(WAKE_ONLY);
	PG_RETURN_VOID();
}

Datum
sms_resume(PG_FUNCTION_ARGS)
{
	const char *gateway = name_arg(fcinfo, 0);
	OwnerScope scope;
	bool done;

	PreventCommandIfReadOnly("sms_resume()");
	require_gateway(gateway);
	scope_enter(&scope);
	done = pause_resume(gateway);
	scope_leave(&scope);
	wake_at_commit(WAKE_ONLY);
	PG_RETURN_BOOL(done);
}

Datum
sms_adopt_outbox(PG_FUNCTION_ARGS)
{
	OwnerScope scope;
	int64 adopted;

	PreventCommandIfReadOnly("sms_adopt_outbox()");
	scope_enter(&scope);
	adopted = identity_adopt(PG_GETARG_DATUM(0), scope.user);
	scope_leave(&scope);
	wake_start_at_commit();
	PG_RETURN_INT64(adopted);
}

Datum
sms_forget(PG_FUNCTION_ARGS)
{
	char *phone = text_to_cstring(PG_GETARG_TEXT_PP(0));
	MemoryContext context = CurrentMemoryContext;
	OwnerScope scope;
	char *counts;

	PreventCommandIfReadOnly("sms_forget()");
	scope_enter(&scope);
	counts = MemoryContextStrdup(context, forget_phone(phone, scope.user));
	scope_leave(&scope);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(counts)));
}

/* What stands for a phone in counters: called by the update from 0.1.0. */
Datum
sms_gateway_hidden(PG_FUNCTION_ARGS)
{
	char hidden[HIDDEN_PHONE_SIZE];

	mac_hide_phone(text_to_cstring(PG_GETARG_TEXT_PP(0)), hidden);
	PG_RETURN_TEXT_P(cstring_to_text(hidden));
}

/* Called once by CREATE EXTENSION. */
Datum
sms_gateway_created(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	identity_create();
	if (!wake_is_possible())
		ereport(WARNING, (errmsg("no background worker will send the messages of sms_outbox"),
						  errdetail("The library sms_gateway is not in shared_preload_libraries."),
						  errhint("Add it and restart the server, or CALL sms_drain() from time to time.")));
	wake_start_at_commit();
	PG_RETURN_VOID();
}

/* Internal SQL function: the origin of rows that are made in this database; 0 in a copy that is not adopted. */
Datum
sms_gateway_origin(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_INT64(home_origin());
}
