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
#include "db/sql.h"
#include "db/status.h"
#include "fmgr.h"
#include "funcapi.h"
#include "gateway/choose.h"
#include "guard/limits.h"
#include "guard/mac.h"
#include "guard/otp.h"
#include "guard/templates.h"
#include "miscadmin.h"
#include "outbox/item.h"
#include "outbox/request_id.h"
#include "outbox/write.h"
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

/* Does the request of a call carry a request_id? */
static bool
is_identified(const Gateway *gateway, Call call)
{
	return (gateway->provider->identified & CALL_BIT(call)) && (call != CALL_OTP || gateway->otp_is_local);
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

	if (draft->request_id == NULL && is_identified(gateway, draft->call))
		draft->request_id = request_id_make_for_call(home_origin());
	else if (draft->request_id != NULL)
		check_request_id(gateway, draft->request_id);
	if (!gateway_prepare(gateway, draft, prepared, &refusal))
		refusal_raise(&refusal);
	gateway_hold(gateway);
	if (draft->call == CALL_OTP && gateway->otp_is_local)
		prepared->message.code = otp_make(prepared->message.length, prepared->message.digits_only);
}

/* Keeps what is known of a one-time password that is about to be sent; returns its id. */
static int64
keep_otp(const Gateway *gateway, const Prepared *prepared)
{
	OwnerScope scope;
	int64 id;

	scope_enter(&scope);
	id = otp_keep(gateway->name, gateway->name, prepared->phone, prepared->message.code,
				  prepared->message.ttl);
	scope_leave(&scope);
	return id;
}

/* A one-time password has certainly not been sent. */
static void
forget_otp(int64 id)
{
	OwnerScope scope;
	Datum ids[] = {Int64GetDatum(id)};

	scope_enter(&scope);
	otp_forget(sql_id_array(ids, lengthof(ids)));
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

/* Columns of sms_result. */
enum
{
	RESULT_GATEWAY,
	RESULT_STATUS,
	RESULT_SMSID,
	RESULT_ID_OMNI_MESS,
	RESULT_REFERENT_ID,
	RESULT_CODE,
	RESULT_MESSAGE,
	RESULT_HTTP_STATUS,
	RESULT_REQUEST_ID,
	RESULT_COLUMNS
};

/* An sms_result; "desc" is its type. */
static Datum
result_datum(TupleDesc desc, const Gateway *gateway, const char *request_id, const Answer *answer)
{
	Datum values[RESULT_COLUMNS] = {0};
	bool nulls[RESULT_COLUMNS] = {false};
	Oid status_type = TupleDescAttr(desc, RESULT_STATUS)->atttypid;
	NameData name;

	namestrcpy(&name, gateway->name);
	values[RESULT_GATEWAY] = NameGetDatum(&name);
	values[RESULT_STATUS] = status_value(verdict_status(answer->verdict), status_type);
	write_text(&values[RESULT_SMSID], &nulls[RESULT_SMSID], answer->smsid);
	write_text(&values[RESULT_ID_OMNI_MESS], &nulls[RESULT_ID_OMNI_MESS], answer->id_omni_mess);
	write_text(&values[RESULT_REFERENT_ID], &nulls[RESULT_REFERENT_ID], answer->referent_id);
	write_text(&values[RESULT_CODE], &nulls[RESULT_CODE], answer->code);
	write_text(&values[RESULT_MESSAGE], &nulls[RESULT_MESSAGE], answer->message);
	values[RESULT_HTTP_STATUS] = Int32GetDatum(answer->http_status);
	nulls[RESULT_HTTP_STATUS] = answer->http_status == 0;
	write_text(&values[RESULT_REQUEST_ID], &nulls[RESULT_REQUEST_ID], request_id);
	return HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
}

/* Sends a draft and returns its sms_result. */
static Datum
send_now(FunctionCallInfo fcinfo, Draft *draft, const char *gateway_name)
{
	Gateway *gateway = exchange_gateway(gateway_name, draft->call);
	Exchange exchange = {.gateway = gateway};
	const char *request_id;
	Prepared prepared;
	TupleDesc desc;
	bool may_have_gone;
	int64 otp = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "the return type is not a row type");
	prepare_now(gateway, draft, &prepared);
	templates_check(gateway, &prepared);
	request_id = prepared.message.request_id;
	if (request_id != NULL)
		prepared.message.request_id = request_id_on_wire(request_id, 0, psprintf("%u", GetUserId()), 0);
	limits_take(gateway, &prepared.message, true);
	if (draft->call == CALL_OTP)
		otp = keep_otp(gateway, &prepared);
	exchange.settings = prepared.settings;
	exchange.message = &prepared.message;
	limits_send();
	exchange_run(&exchange);
	may_have_gone =
		exchange.answer.verdict == VERDICT_ACCEPTED || exchange.answer.verdict == VERDICT_UNCERTAIN;
	limits_sent(may_have_gone);
	if (otp != 0 && !may_have_gone)
		forget_otp(otp);
	return result_datum(BlessTupleDesc(desc), gateway, request_id, &exchange.answer);
}

Datum
sms_send(PG_FUNCTION_ARGS)
{
	Draft draft = {
		.call = CALL_TEXT,
		.phone = text_arg(fcinfo, 0, BOUND_PHONE, "phone"),
		.content = text_arg(fcinfo, 1, BOUND_CONTENT, "content"),
		.request_id = text_arg(fcinfo, 3, BOUND_REQUEST_ID, "request_id"),
		.options = json_arg(fcinfo, 4, BOUND_OPTIONS, "options"),
	};

	return send_now(fcinfo, &draft, name_arg(fcinfo, 2));
}

Datum
sms_send_bulk(PG_FUNCTION_ARGS)
{
	Draft draft = {
		.call = CALL_BULK,
		.content = text_arg(fcinfo, 1, BOUND_CONTENT, "content"),
		.request_id = text_arg(fcinfo, 3, BOUND_REQUEST_ID, "request_id"),
		.options = json_arg(fcinfo, 4, BOUND_OPTIONS, "options"),
	};

	if (!PG_ARGISNULL(0))
	{
		Datum *elements;
		bool *nulls;
		const char **phones;

		bound_check(PG_GETARG_DATUM(0), BOUND_PHONES, "phones");
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
		.phone = text_arg(fcinfo, 0, BOUND_PHONE, "phone"),
		.content = text_arg(fcinfo, 1, BOUND_CONTENT, "content"),
		.ttl = PG_ARGISNULL(3) ? 0 : seconds_arg(fcinfo, 3),
		.length = PG_ARGISNULL(4) ? 0 : PG_GETARG_INT32(4),
		.digits_only = PG_ARGISNULL(5) || PG_GETARG_BOOL(5),
		.options = json_arg(fcinfo, 6, BOUND_OPTIONS, "options"),
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
		.phone = text_arg(fcinfo, 0, BOUND_PHONE, "phone"),
		.template_code = text_arg(fcinfo, 1, BOUND_TEMPLATE_CODE, "template_code"),
		.list_param = json_arg(fcinfo, 2, BOUND_LIST_PARAM, "list_param"),
		.options = json_arg(fcinfo, 5, BOUND_OPTIONS, "options"),
	};

	if (!PG_ARGISNULL(3))
	{
		bound_check(PG_GETARG_DATUM(3), BOUND_ROUTERULE, "routerule");
		draft.routerule = item_join_routerule(PG_GETARG_ARRAYTYPE_P(3));
	}
	return send_now(fcinfo, &draft, name_arg(fcinfo, 4));
}

/*
 * Asks the provider whether a code that it made is right, through the gateway that sent it.  Returns the
 * verdict; says in a warning why there is none.
 */
static Verdict
ask_provider_for_otp(Gateway *gateway, const Otp *otp, Draft *draft)
{
	Prepared prepared;
	Exchange exchange;

	if (otp->id != 0 && strcmp(NameStr(otp->sent_by), gateway->name) != 0)
	{
		Gateway *named = gateway;

		gateway = exchange_gateway(NameStr(otp->sent_by), CALL_CHECK_OTP);
		gateway_require_owner(gateway, named); /* which sms_check_otp() holds */
	}
	prepare_now(gateway, draft, &prepared);
	exchange = (Exchange){.gateway = gateway, .settings = prepared.settings, .message = &prepared.message};
	exchange_run(&exchange);
	if (exchange.answer.verdict != VERDICT_ACCEPTED && exchange.answer.verdict != VERDICT_PERMANENT)
		ereport(WARNING,
				(errcode(ERRCODE_FDW_ERROR),
				 errmsg("gateway \"%s\" did not say whether the one-time password is right", gateway->name),
				 exchange_detail(&exchange.answer)));
	return exchange.answer.verdict;
}

/* A code as somebody has typed or pasted it, without blanks around it; NULL if there is none. */
static const char *
code_arg(FunctionCallInfo fcinfo, int n)
{
	char *code = text_arg(fcinfo, n, BOUND_CODE, "code");

	if (code == NULL)
		return NULL;
	code += strspn(code, " \t\r\n");
	for (size_t len = strlen(code); len > 0 && strchr(" \t\r\n", code[len - 1]) != NULL; len--)
		code[len - 1] = '\0';
	return code;
}

Datum
sms_check_otp(PG_FUNCTION_ARGS)
{
	Draft draft = {
		.call = CALL_CHECK_OTP,
		.phone = text_arg(fcinfo, 0, BOUND_PHONE, "phone"),
		.code = code_arg(fcinfo, 1),
	};
	Prepared prepared;
	Gateway *gateway;
	Verdict verdict;
	Otp otp;
	bool right;
	bool counts;

	if (draft.code == NULL || draft.code[0] == '\0' || strlen(draft.code) > 20)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a one-time password to check has 1 to 20 characters")));
	gateway = exchange_gateway(name_arg(fcinfo, 2), CALL_CHECK_OTP);
	prepare_now(gateway, &draft, &prepared);
	otp_find(gateway->name, prepared.phone, &otp);
	if (otp.id != 0 ? otp.here : gateway->otp_is_local)
	{
		right = otp_is_right(&otp, prepared.phone, draft.code);
		PG_RETURN_BOOL(otp_try(gateway, prepared.phone, &otp, right) && right &&
					   otp_use_up(&otp, prepared.phone));
	}

	/* Counted before it is known, or many could guess at once.  Asked also where there is none to be right. */
	counts = otp_try(gateway, prepared.phone, &otp, false);
	if (otp.live && !counts)
		PG_RETURN_BOOL(false);
	verdict = ask_provider_for_otp(gateway, &otp, &draft);
	if (verdict != VERDICT_ACCEPTED && verdict != VERDICT_PERMANENT)
	{
		otp_take_back_try(prepared.phone, &otp);
		PG_RETURN_NULL();
	}
	PG_RETURN_BOOL(counts && verdict == VERDICT_ACCEPTED && otp_use_up(&otp, prepared.phone));
}
