/*
 * functions.c
 *		What users call: arguments in, rows out; the work is done elsewhere.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "sms_gateway.h"
#include "utils/builtins.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(sms_send);
PG_FUNCTION_INFO_V1(sms_send_bulk);
PG_FUNCTION_INFO_V1(sms_send_otp);
PG_FUNCTION_INFO_V1(sms_omni_send);
PG_FUNCTION_INFO_V1(sms_check_otp);
PG_FUNCTION_INFO_V1(sms_cancel);
PG_FUNCTION_INFO_V1(sms_retry);
PG_FUNCTION_INFO_V1(sms_resolve);
PG_FUNCTION_INFO_V1(sms_pause);
PG_FUNCTION_INFO_V1(sms_resume);
PG_FUNCTION_INFO_V1(sms_wait);
PG_FUNCTION_INFO_V1(sms_drain);
PG_FUNCTION_INFO_V1(sms_balance);
PG_FUNCTION_INFO_V1(sms_parts);
PG_FUNCTION_INFO_V1(sms_unaccent);
PG_FUNCTION_INFO_V1(sms_adopt_outbox);
PG_FUNCTION_INFO_V1(sms_gateway_created);

/* ------------------------------------------------------------------------
 * Arguments
 * ------------------------------------------------------------------------ */

static char *
text_arg(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(number));
}

static const char *
name_arg(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL : NameStr(*PG_GETARG_NAME(number));
}

static Jsonb *
json_arg(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL : PG_GETARG_JSONB_P(number);
}

/* An interval in whole seconds; months count 30 days. */
static int
seconds_arg(FunctionCallInfo fcinfo, int number)
{
	Interval *interval = PG_GETARG_INTERVAL_P(number);
	double seconds = interval->time / (double) USECS_PER_SEC +
					 (interval->day + interval->month * (double) DAYS_PER_MONTH) * SECS_PER_DAY;

	return (int) Max(Min(seconds, 1e9), -1e9);
}

/* ------------------------------------------------------------------------
 * Sending now
 * ------------------------------------------------------------------------ */

typedef struct Exchange
{
	const Gateway *gateway;
	const Prepared *prepared;
	Answer *answer;
} Exchange;

static void
take_answer(const HttpAnswer *http, void *arg)
{
	Exchange *exchange = arg;

	provider_read(exchange->gateway->provider, exchange->prepared->settings, &exchange->prepared->message,
				  http, exchange->answer);
}

/* What a provider answered, as a DETAIL. */
char *
answer_text(const Answer *answer)
{
	return psprintf("%s%s%s", from_utf8(answer->code), answer->message[0] ? ": " : "",
					from_utf8(answer->message));
}

/* Raises 23505 if a message with this request_id is in the outbox. */
static void
check_request_id(const Gateway *gateway, const char *request_id)
{
	if (outbox_request_id_used(gateway->name, request_id))
		ereport(ERROR,
				(errcode(ERRCODE_UNIQUE_VIOLATION),
				 errmsg("request_id \"%s\" was already used for gateway \"%s\"", request_id, gateway->name),
				 errhint("Leave request_id out to get a new one.")));
}

/* The gateway to use for a call: the one named, else the default. */
static Gateway *
find_gateway(const char *name, Call call)
{
	GatewayError error;
	Gateway *gateway = NULL;

	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("a standby sends no messages")));
	outbox_require_home();
	if (name == NULL)
		name = gateway_choose(call, GetUserId(), &error);
	if (name != NULL)
		gateway = gateway_get(name, GetUserId(), &error);
	if (gateway == NULL)
		gateway_raise(&error);
	return gateway;
}

/*
 * Checks a draft for a gateway, and completes it with what is made for each
 * message: a request_id, the code of a one-time password.  The gateway stays valid for the
 * rest of the command.
 */
static void
prepare_now(Gateway *gateway, Draft *draft, Prepared *prepared)
{
	GatewayError error;

	if (draft->request_id == NULL && (gateway->provider->identified & CALL_BIT(draft->call)))
		draft->request_id =
			outbox_request_id(outbox_origin(), random_int64() & 0xFFFFFFFF, GetCurrentTimestamp());
	else if (draft->request_id != NULL)
		check_request_id(gateway, draft->request_id);
	if (!gateway_prepare(gateway, draft, prepared, &error))
		gateway_raise(&error);
	gateway_hold(gateway);
	if (draft->call == CALL_OTP && gateway->provider->otp_is_local)
		prepared->message.code = otp_make(prepared->message.length, prepared->message.digits_only);
}

/* Makes a request and reads the answer. */
static void
exchange_now(Gateway *gateway, Prepared *prepared, Answer *answer)
{
	HttpRequest request;
	Exchange exchange = {gateway, prepared, answer};

	memset(&request, 0, sizeof(request));
	if (!gateway->provider->build(prepared->settings, &prepared->message, &request) ||
		!http_call(&gateway->endpoint, &request,
				   gateway->provider->repeat_safe(prepared->settings, &prepared->message), take_answer,
				   &exchange))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

/* Keeps the hash of a one-time password that is about to be sent. */
static void
keep_otp(const Gateway *gateway, const Prepared *prepared)
{
	OwnerScope scope;

	outbox_enter(&scope);
	otp_keep(gateway->name, prepared->phone, prepared->message.code, prepared->message.ttl);
	outbox_leave(&scope);
}

static const char *
verdict_status(Verdict verdict)
{
	switch (verdict)
	{
		case VERDICT_ACCEPTED:
			return "sent";
		case VERDICT_UNCERTAIN:
			return "uncertain";
		default:
			return "failed";
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
	values[1] = ObjectIdGetDatum(
		outbox_status_label(TupleDescAttr(desc, 1)->atttypid, verdict_status(answer.verdict)));
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
		draft.routerule = outbox_join_routerule(PG_GETARG_ARRAYTYPE_P(3));
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

	provider_read(balance->gateway->provider, balance->gateway->settings, &message, http, &balance->answer);
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

/* ------------------------------------------------------------------------
 * Texts
 * ------------------------------------------------------------------------ */

static void
refuse_utf8(void)
{
	ereport(ERROR, (errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE), errmsg("the text is not valid UTF-8")));
}

Datum
sms_parts(PG_FUNCTION_ARGS)
{
	TextCoding coding = PG_ARGISNULL(1) ? CODING_BY_TEXT : PG_GETARG_BOOL(1) ? CODING_UCS2 : CODING_GSM7;
	TupleDesc desc;
	TextShape shape;
	Datum values[3] = {0};
	bool nulls[3] = {true, true, true};
	char *content;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "the return type is not a row type");
	if (!PG_ARGISNULL(0))
	{
		content = to_utf8_composed(text_arg(fcinfo, 0), "content");
		if (!text_shape(content, strlen(content), coding, &shape))
			refuse_utf8();
		values[0] = CStringGetTextDatum(shape.ucs2 ? "UCS-2" : "GSM-7");
		values[1] = Int32GetDatum(shape.characters);
		values[2] = Int32GetDatum(shape.parts);
		memset(nulls, false, sizeof(nulls));
	}
	return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls));
}

Datum
sms_unaccent(PG_FUNCTION_ARGS)
{
	char *content = pstrdup(to_utf8(text_arg(fcinfo, 0), "content"));

	if (!text_unaccent(content))
		refuse_utf8();
	PG_RETURN_TEXT_P(cstring_to_text(from_utf8(content)));
}

/* ------------------------------------------------------------------------
 * Messages in the outbox
 * ------------------------------------------------------------------------ */

Datum
sms_cancel(PG_FUNCTION_ARGS)
{
	OwnerScope scope;
	bool done;

	outbox_enter(&scope);
	done = outbox_cancel(PG_GETARG_INT64(0), scope.user);
	outbox_leave(&scope);
	PG_RETURN_BOOL(done);
}

Datum
sms_retry(PG_FUNCTION_ARGS)
{
	OwnerScope scope;
	bool done;

	outbox_enter(&scope);
	done = outbox_retry(PG_GETARG_INT64(0), scope.user);
	outbox_leave(&scope);
	PG_RETURN_BOOL(done);
}

Datum
sms_resolve(PG_FUNCTION_ARGS)
{
	HeapTuple label = SearchSysCache1(ENUMOID, ObjectIdGetDatum(PG_GETARG_OID(1)));
	char *status = pstrdup(NameStr(((Form_pg_enum) GETSTRUCT(label))->enumlabel));
	OwnerScope scope;
	bool done;

	ReleaseSysCache(label);
	if (strcmp(status, "sent") != 0 && strcmp(status, "failed") != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("an uncertain message cannot be resolved as \"%s\"", status),
						errhint("It is resolved as sent or failed.")));
	outbox_enter(&scope);
	done = outbox_resolve(PG_GETARG_INT64(0), status, scope.user);
	outbox_leave(&scope);
	PG_RETURN_BOOL(done);
}

static void
require_gateway(const char *name)
{
	if (name == NULL || gateway_provider(name) == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("gateway \"%s\" does not exist", name ? name : "")));
}

Datum
sms_pause(PG_FUNCTION_ARGS)
{
	const char *gateway = name_arg(fcinfo, 0);
	const char *reason = text_arg(fcinfo, 1);
	OwnerScope scope;

	require_gateway(gateway);
	outbox_enter(&scope);
	outbox_pause(gateway, reason != NULL ? reason : "paused", true);
	outbox_leave(&scope);
	wake_at_commit(WAKE_ONLY);
	PG_RETURN_VOID();
}

Datum
sms_resume(PG_FUNCTION_ARGS)
{
	const char *gateway = name_arg(fcinfo, 0);
	OwnerScope scope;
	bool done;

	require_gateway(gateway);
	outbox_enter(&scope);
	done = outbox_resume(gateway, true);
	outbox_leave(&scope);
	wake_at_commit(WAKE_ONLY);
	PG_RETURN_BOOL(done);
}

/*
 * Waits in steps that grow from 2 to 50 ms: a message usually takes a few.
 */
Datum
sms_wait(PG_FUNCTION_ARGS)
{
	TimestampTz end =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), Max(seconds_arg(fcinfo, 0), 0) * INT64CONST(1000));
	long step = 2;

	for (;;)
	{
		OwnerScope scope;
		bool idle;
		long left;

		outbox_enter(&scope);
		idle = outbox_idle(false, false);
		outbox_leave(&scope);
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), end);
		if (idle || left <= 0)
			PG_RETURN_BOOL(idle);
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Min(step, left),
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		step = Min(step * 2, 50);
	}
}

Datum
sms_drain(PG_FUNCTION_ARGS)
{
	CallContext *context = (CallContext *) fcinfo->context;

	if (context == NULL || !IsA(context, CallContext) || context->atomic)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
						errmsg("sms_drain cannot run inside a transaction block"),
						errdetail("It commits what it claims before it sends.")));
	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("a standby sends no messages")));
	outbox_require_home();
	if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	SPI_commit();
	engine_run(true);
	SPI_finish();
	PG_RETURN_VOID();
}

Datum
sms_adopt_outbox(PG_FUNCTION_ARGS)
{
	OwnerScope scope;
	int64 adopted;

	outbox_enter(&scope);
	adopted = outbox_adopt(PG_GETARG_DATUM(0), scope.user);
	outbox_leave(&scope);
	start_worker_at_commit();
	PG_RETURN_INT64(adopted);
}

/* Called once by CREATE EXTENSION. */
Datum
sms_gateway_created(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	outbox_create_identity();
	if (!launcher_is_there())
		ereport(WARNING, (errmsg("no background worker will send the messages of sms_outbox"),
						  errdetail("sms_gateway is not in shared_preload_libraries."),
						  errhint("Add it and restart the server, or CALL sms_drain() from time to time.")));
	start_worker_at_commit();
	PG_RETURN_VOID();
}
