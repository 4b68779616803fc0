/*
 * send.c
 *		What users call to send now: arguments in, rows out; the work is done elsewhere.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "api/args.h"
#include "api/exchange.h"
#include "base/encoding.h"
#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/scope.h"
#include "db/status.h"
#include "fmgr.h"
#include "funcapi.h"
#include "guard/limits.h"
#include "guard/mac.h"
#include "guard/otp.h"
#include "miscadmin.h"
#include "outbox/item.h"
#include "outbox/request_id.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(sms_send);
PG_FUNCTION_INFO_V1(sms_send_bulk);
PG_FUNCTION_INFO_V1(sms_send_otp);
PG_FUNCTION_INFO_V1(sms_omni_send);
PG_FUNCTION_INFO_V1(sms_check_otp);

/* Raises 23505 if a message with this request_id is in the outbox. */
static void
check_request_id(const Gateway *gateway, const char *request_id)
{
	if (request_id_is_used(gateway->name, request_id))
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("request_id \"%s\" was already used for gateway \"%s\"", request_id, gateway->name),
				 errhint("Leave request_id out to get a new one.")));
}

/*
 * Checks a draft for a gateway, and completes it with what is made for each
 * message: a request_id, the code of a one-time password.  The gateway stays valid for the
 * rest of the command.
 */
static void
prepare_now(Gateway *gateway, Draft *draft, Prepared *prepared)
{
	Refusal refusal;

	if (draft->request_id == NULL && (gateway->provider->identified & CALL_BIT(draft->call)))
		draft->request_id =
			request_id_make(home_origin(), random_int64() & 0xFFFFFFFF, GetCurrentTimestamp());
	else if (draft->request_id != NULL)
		check_request_id(gateway, draft->request_id);
	if (!gateway_prepare(gateway, draft, prepared, &refusal))
		refusal_raise(&refusal);
	gateway_hold(gateway);
	if (draft->call == CALL_OTP && gateway->provider->otp_is_local)
		prepared->message.code = otp_make(prepared->message.length, prepared->message.digits_only);
}

/* Keeps the hash of a one-time password that is about to be sent. */
static void
keep_otp(const Gateway *gateway, const Prepared *prepared)
{
	OwnerScope scope;

	scope_enter(&scope);
	otp_keep(gateway->name, prepared->phone, prepared->message.code, prepared->message.ttl);
	scope_leave(&scope);
}

static Status
verdict_status(Verdict verdict)
{
	switch (verdict)
	{
		case VERDICT_ACCEPTED:
			return STATUS_SENT;
		case VERDICT_UNCERTAIN:
			return STATUS_UNCERTAIN;
		default:
			return STATUS_FAILED;
	}
}

static void
put_text(Datum *value, bool *isnull, const char *text)
{
	*isnull = text == NULL || text[0] == '\0';
	if (!*isnull)
		*value = CStringGetTextDatum(from_utf8(text));
}

/* Sends a draft and returns its sms_result. */
static Datum
send_now(FunctionCallInfo fcinfo, Draft *draft, const char *gateway_name)
{
	Prepared prepared;
	Answer answer;
	Gateway *gateway;
	TupleDesc desc;
	Datum values[9] = {0};
	bool nulls[9] = {false};
	NameData name;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "the return type is not a row type");
	desc = BlessTupleDesc(desc);
	gateway = find_gateway(gateway_name, draft->call);
	prepare_now(gateway, draft, &prepared);
	limits_take(gateway, &prepared.message, true);
	if (draft->call == CALL_OTP && gateway->provider->otp_is_local)
		keep_otp(gateway, &prepared);
	exchange_now(gateway, &prepared, &answer);
	limits_keep(answer.verdict == VERDICT_ACCEPTED || answer.verdict == VERDICT_UNCERTAIN);

	namestrcpy(&name, gateway->name);
	values[0] = NameGetDatum(&name);
	values[1] = status_value(verdict_status(answer.verdict), TupleDescAttr(desc, 1)->atttypid);
	put_text(&values[2], &nulls[2], answer.smsid);
	put_text(&values[3], &nulls[3], answer.id_omni_mess);
	put_text(&values[4], &nulls[4], answer.referent_id);
	put_text(&values[5], &nulls[5], answer.code);
	put_text(&values[6], &nulls[6], answer.message);
	values[7] = Int32GetDatum(answer.http_status);
	nulls[7] = answer.http_status == 0;
	put_text(&values[8], &nulls[8], prepared.message.request_id);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

Datum
sms_send(PG_FUNCTION_ARGS)
{
	Draft draft = {
		.call = CALL_TEXT,
		.phone = text_arg(fcinfo, 0),
		.content = text_arg(fcinfo, 1),
		.request_id = text_arg(fcinfo, 3),
		.options = json_arg(fcinfo, 4),
	};

	return send_now(fcinfo, &draft, name_arg(fcinfo, 2));
}

Datum
sms_send_bulk(PG_FUNCTION_ARGS)
{
	Draft draft = {
		.call = CALL_BULK,
		.content = text_arg(fcinfo, 1),
		.request_id = text_arg(fcinfo, 3),
		.options = json_arg(fcinfo, 4),
	};

	if (!PG_ARGISNULL(0))
	{
		Datum *elements;
		bool *nulls;
		const char **phones;

		deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls,
						  &draft.nphones);
		phones = palloc0(sizeof(char *) * Max(draft.nphones, 1));
		for (int i = 0; i < draft.nphones; i++)
			phones[i] = nulls[i] ? NULL : TextDatumGetCString(elements[i]);
		draft.phones = phones;
	}
	return send_now(fcinfo, &draft, name_arg(fcinfo, 2));
}

Datum
sms_send_otp(PG_FUNCTION_ARGS)
{
	Draft draft = {
		.call = CALL_OTP,
		.phone = text_arg(fcinfo, 0),
		.content = text_arg(fcinfo, 1),
		.ttl = PG_ARGISNULL(3) ? 0 : seconds_arg(fcinfo, 3),
		.length = PG_ARGISNULL(4) ? 0 : PG_GETARG_INT32(4),
		.digits_only = PG_ARGISNULL(5) || PG_GETARG_BOOL(5),
		.options = json_arg(fcinfo, 6),
	};

	/* 0 is refused, not taken for the default. */
	if (!PG_ARGISNULL(3) && draft.ttl == 0)
		draft.ttl = -1;
	if (!PG_ARGISNULL(4) && draft.length == 0)
		draft.length = -1;
	return send_now(fcinfo, &draft, name_arg(fcinfo, 2));
}

Datum
sms_omni_send(PG_FUNCTION_ARGS)
{
	Draft draft = {
		.call = CALL_OMNI,
		.phone = text_arg(fcinfo, 0),
		.template_code = text_arg(fcinfo, 1),
		.options = json_arg(fcinfo, 5),
	};

	if (!PG_ARGISNULL(2))
	{
		Jsonb *list = PG_GETARG_JSONB_P(2);

		draft.list_param = JsonbToCString(NULL, &list->root, VARSIZE(list));
	}
	if (!PG_ARGISNULL(3))
		draft.routerule = item_join_routerule(PG_GETARG_ARRAYTYPE_P(3));
	return send_now(fcinfo, &draft, name_arg(fcinfo, 4));
}

Datum
sms_check_otp(PG_FUNCTION_ARGS)
{
	Draft draft = {
		.call = CALL_CHECK_OTP,
		.phone = text_arg(fcinfo, 0),
		.code = text_arg(fcinfo, 1),
	};
	Prepared prepared;
	Answer answer;
	Gateway *gateway;

	if (draft.code == NULL || draft.code[0] == '\0' || strlen(draft.code) > 20)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a one-time password to check has 1 to 20 characters")));
	gateway = find_gateway(name_arg(fcinfo, 2), CALL_CHECK_OTP);
	prepare_now(gateway, &draft, &prepared);
	if (gateway->provider->otp_is_local)
		PG_RETURN_BOOL(otp_check(gateway->name, prepared.phone, draft.code));
	exchange_now(gateway, &prepared, &answer);
	if (answer.verdict == VERDICT_ACCEPTED)
		PG_RETURN_BOOL(true);
	if (answer.verdict == VERDICT_PERMANENT)
		PG_RETURN_BOOL(false);
	ereport(WARNING,
			(errcode(ERRCODE_FDW_ERROR),
			 errmsg("gateway \"%s\" did not say whether the one-time password is right", gateway->name),
			 errdetail("%s", answer_text(&answer))));
	PG_RETURN_NULL();
}
