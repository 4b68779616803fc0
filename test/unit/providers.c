/*
 * providers.c
 *		Each provider's requests, compared as a whole, and its answers, each in its
 *		class.
 */
#include "unit.h"

static const char *const one_phone[] = {"84901234567"};
static const char *const two_phones[] = {"84901234567", "84907654321"};

/* Reads an HTTP answer as a provider does. */
Answer
read_answer(const Provider *provider, Settings settings, const Message *message, int status, const char *body)
{
	HttpAnswer http = {
		.progress = HTTP_ANSWERED, .status = status, .body = body, .len = strlen(body), .retry_after = -1};
	Answer answer;

	answer_read(provider, settings, message, &http, &answer);
	return answer;
}

void
assert_body(const Provider *provider, Settings settings, const Message *message, const char *path,
			const char *expected)
{
	HttpRequest request = {0};

	assert_true(provider->build(settings, message, &request));
	assert_string_equal(request.path, path);
	assert_string_equal(request.body, expected);
	free(request.body);
}

/* The place of an option in a provider's table. */
static int
option_at(const Provider *provider, const char *name)
{
	for (int i = 0; provider->options[i].name != NULL; i++)
	{
		if (strcmp(provider->options[i].name, name) == 0)
			return i;
	}
	fail_msg("%s has no option %s", provider->name, name);
	return -1;
}

/* Settings with the table's defaults and the given names and values, ended by NULL. */
static void
fill(const Provider *provider, const char **settings, ...)
{
	va_list args;
	const char *name;

	for (int i = 0; provider->options[i].name != NULL; i++)
		settings[i] = provider->options[i].initial;
	va_start(args, settings);
	while ((name = va_arg(args, const char *)) != NULL)
		settings[option_at(provider, name)] = va_arg(args, const char *);
	va_end(args);
}

/* ------------------------------------------------------------------------ */

static void
test_esms_text(void **state)
{
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {.call = CALL_TEXT,
					   .phones = one_phone,
					   .nphones = 1,
					   .content = "He said \"xin ch\xC3\xA0o\"\n\\",
					   .request_id = "r-1"};
	Complaint complaint;

	(void) state;
	fill(&esms_provider, settings, "api_key", "K", "secret_key", "S", "brandname", "SHOP", NULL);
	assert_true(esms_provider.check(settings, &message, &complaint));
	assert_body(
		&esms_provider, settings, &message, "/MainService.svc/json/SendMultipleMessage_V4_post_json/",
		"{\"ApiKey\":\"K\",\"SecretKey\":\"S\",\"Phone\":\"84901234567\","
		"\"Content\":\"He said \\\"xin ch\xC3\xA0o\\\"\\n\\\\\",\"SmsType\":\"2\",\"Brandname\":\"SHOP\","
		"\"IsUnicode\":\"0\",\"RequestId\":\"r-1\"}");

	fill(&esms_provider, settings, "api_key", "K", "secret_key", "S", "brandname", "SHOP", "sms_type", "8",
		 "sandbox", "true", "campaign_id", "tet", "callback_url", "https://x/y?z=1", "send_date",
		 "2026-12-31T18:30:00+00:00", NULL);
	message.content = "x";
	message.shape.ucs2 = true;
	message.request_id = NULL;
	assert_body(&esms_provider, settings, &message, "/MainService.svc/json/SendMultipleMessage_V4_post_json/",
				"{\"ApiKey\":\"K\",\"SecretKey\":\"S\",\"Phone\":\"84901234567\",\"Content\":\"x\","
				"\"SmsType\":\"8\",\"IsUnicode\":\"1\",\"Sandbox\":\"1\",\"campaignid\":\"tet\","
				"\"CallbackUrl\":\"https://x/y?z=1\",\"SendDate\":\"2027-01-01 01:30:00\"}");

	/* Without an offset a date is Vietnam's. */
	fill(&esms_provider, settings, "brandname", "SHOP", "send_date", "2026-12-31 08:00", NULL);
	assert_true(esms_provider.check(settings, &message, &complaint));
	fill(&esms_provider, settings, "brandname", "SHOP", "send_date", "tomorrow", NULL);
	assert_false(esms_provider.check(settings, &message, &complaint));
	fill(&esms_provider, settings, NULL);
	assert_false(esms_provider.check(settings, &message, &complaint));
	assert_non_null(complaint.hint);
}

static const char *
query_of(const HttpRequest *request, const char *name)
{
	for (int i = 0; i < request->nquery; i++)
	{
		if (strcmp(request->query[i].name, name) == 0)
			return request->query[i].value;
	}
	return NULL;
}

static void
test_esms_otp(void **state)
{
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {.call = CALL_OTP,
					   .phones = one_phone,
					   .nphones = 1,
					   .content = "{OTP} & more",
					   .ttl = 300,
					   .length = 6,
					   .digits_only = true};
	HttpRequest request = {0};
	Complaint complaint;

	(void) state;
	fill(&esms_provider, settings, "api_key", "K", "secret_key", "S", "brandname", "SHOP", NULL);
	assert_true(esms_provider.check(settings, &message, &complaint));
	assert_true(esms_provider.build(settings, &message, &request));
	assert_null(request.body);
	assert_string_equal(request.path, "/MainService.svc/json/SendMessageAutoGenCode_V4_get");
	assert_string_equal(query_of(&request, "Phone"), "84901234567");
	assert_string_equal(query_of(&request, "ApiKey"), "K");
	assert_string_equal(query_of(&request, "SecretKey"), "S");
	assert_string_equal(query_of(&request, "TimeAlive"), "5");
	assert_string_equal(query_of(&request, "NumCharOfCode"), "6");
	assert_string_equal(query_of(&request, "Brandname"), "SHOP");
	assert_string_equal(query_of(&request, "Type"), "2");
	assert_string_equal(query_of(&request, "message"), "{OTP} & more");
	assert_string_equal(query_of(&request, "IsNumber"), "1");
	assert_int_equal(request.nquery, 9);

	message.ttl = 60;
	assert_false(esms_provider.check(settings, &message, &complaint));
	message.ttl = 901;
	assert_false(esms_provider.check(settings, &message, &complaint));
	message.ttl = 150;
	assert_false(esms_provider.check(settings, &message, &complaint));

	memset(&request, 0, sizeof(request));
	message.call = CALL_CHECK_OTP;
	message.code = "123456";
	assert_true(esms_provider.build(settings, &message, &request));
	assert_string_equal(request.path, "/MainService.svc/json/CheckCodeGen_V4_get");
	assert_string_equal(query_of(&request, "Code"), "123456");
	assert_int_equal(request.nquery, 4);
}

static void
test_esms_answers(void **state)
{
	static const struct
	{
		int status;
		const char *body;
		Verdict verdict;
		const char *code;
		const char *smsid;
	} cases[] = {
		{200, "{\"CodeResult\":\"100\",\"CountRegenerate\":0,\"SMSID\":\"d533459ee42b2b9525ba9eabf6a8156\"}",
		 VERDICT_ACCEPTED, "100", "d533459ee42b2b9525ba9eabf6a8156"},
		{200, "{\"CodeResult\":100,\"SMSID\":5}", VERDICT_ACCEPTED, "100", "5"},
		{200, "{\"CodeResult\":\"101\",\"CountRegenerate\":0,\"ErrorMessage\":\"Authorize Failed\"}",
		 VERDICT_GATEWAY, "101", ""},
		{200, "{\"CodeResult\":\"104\",\"ErrorMessage\":\"Brand name code is not exist\"}", VERDICT_PERMANENT,
		 "104", ""},
		{200, "{\"CodeResult\":\"124\",\"ErrorMessage\":\"Request exist 1\",\"SendStatus\":\"5\"}",
		 VERDICT_ACCEPTED, "124", ""},
		{200,
		 "{\"CodeResult\":\"146\",\"ErrorMessage\":\"Sai template Brandname CSKH\",\"SMSID\":\"3f5e156\"}",
		 VERDICT_PERMANENT, "146", "3f5e156"},
		{200, "{\"CodeResult\":\"99\"}", VERDICT_PERMANENT, "99", ""},
		{200, "{\"CodeResult\":\"103\"}", VERDICT_GATEWAY, "103", ""},
		{200, "{\"CodeResult\":\"160\"}", VERDICT_THROTTLED, "160", ""},
		{200, "{\"CodeResult\":\"199\"}", VERDICT_ACCEPTED, "199", ""},
		{200, "{\"CodeResult\":\"987\"}", VERDICT_PERMANENT, "987", ""},
		{200, "{\"CodeResponse\":\"101\"}", VERDICT_GATEWAY, "101", ""},
		{200, "{\"error\":\"Invalid request\"}", VERDICT_UNCERTAIN, "99", ""},
		{200, "", VERDICT_UNCERTAIN, "200", ""},
		{200, "<html>", VERDICT_UNCERTAIN, "200", ""},
		{200, "{\"CodeResult\":\"100\",\"SMSID\":\"d5", VERDICT_UNCERTAIN, "200", ""},
		{200, "[]", VERDICT_UNCERTAIN, "200", ""},
		{200, "{\"CodeResult\":{}}", VERDICT_UNCERTAIN, "200", ""},
		{500, "oops", VERDICT_UNCERTAIN, "500", ""},
		{503, "", VERDICT_TRANSIENT, "503", ""},
		{401, "who are you", VERDICT_GATEWAY, "401", ""},
		{404, "", VERDICT_GATEWAY, "404", ""},
		{400, "", VERDICT_PERMANENT, "400", ""},
		{302, "", VERDICT_GATEWAY, "302", ""},
		{429, "", VERDICT_THROTTLED, "429", ""},
	};
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {.call = CALL_TEXT};

	(void) state;
	fill(&esms_provider, settings, NULL);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Answer answer = read_answer(&esms_provider, settings, &message, cases[i].status, cases[i].body);

		if (answer.verdict != cases[i].verdict)
			fail_msg("%d %s: verdict %d, not %d", cases[i].status, cases[i].body, answer.verdict,
					 cases[i].verdict);
		assert_string_equal(answer.code, cases[i].code);
		assert_string_equal(answer.smsid, cases[i].smsid);
		assert_int_equal(answer.http_status, cases[i].status);
	}
	assert_false(esms_provider.repeat_safe(settings, &message));
	message.request_id = "r";
	assert_true(esms_provider.repeat_safe(settings, &message));
	message.call = CALL_OTP;
	assert_false(esms_provider.repeat_safe(settings, &message));
}

/* The other calls of eSMS that send. */
static void
test_esms_other_calls(void **state)
{
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	const char *many[30];
	Message bulk = {.call = CALL_BULK, .phones = many, .nphones = 30, .content = "Sale", .request_id = "r"};
	Message viber = {
		.call = CALL_TEXT, .phones = one_phone, .nphones = 1, .content = "Hi", .request_id = "r"};
	Message omni = {.call = CALL_OMNI,
					.phones = one_phone,
					.nphones = 1,
					.template_code = "T1",
					.list_param = "{\"otp\": \"1\", \"n\": 2}",
					.request_id = "r"};
	HttpRequest request = {0};
	Complaint complaint;

	(void) state;
	for (int i = 0; i < 30; i++)
		many[i] = one_phone[0];
	fill(&esms_provider, settings, "api_key", "K", "secret_key", "S", "brandname", "B", NULL);
	assert_true(esms_provider.check(settings, &bulk, &complaint));
	assert_true(esms_provider.build(settings, &bulk, &request));
	assert_string_equal(request.path, "/MainService.svc/json/SendMultipleSMSBrandname_json/");
	assert_non_null(strstr(request.body, "\"Phones\":[\"84901234567\",\"84901234567\","));
	assert_non_null(strstr(request.body, "\"SmsType\":\"1\""));
	free(request.body);
	bulk.nphones = 29;
	assert_false(esms_provider.check(settings, &bulk, &complaint));
	assert_false(esms_provider.repeat_safe(settings, &bulk));

	assert_false(esms_provider.check(settings, &omni, &complaint)); /* oaid is missing */
	fill(&esms_provider, settings, "api_key", "K", "secret_key", "S", "brandname", "B", "oaid", "O", NULL);
	assert_true(esms_provider.check(settings, &omni, &complaint));
	assert_body(
		&esms_provider, settings, &omni, "/MainService.svc/json/SendZaloMessage_V5_post/",
		"{\"ApiKey\":\"K\",\"SecretKey\":\"S\",\"OAID\":\"O\",\"Phone\":\"84901234567\",\"TempID\":\"T1\","
		"\"TempData\":[{\"key\":\"otp\",\"value\":\"1\"},{\"key\":\"n\",\"value\":\"2\"}],\"SendingMode\":"
		"\"1\","
		"\"RequestId\":\"r\"}");
	omni.routerule = "1,3";
	assert_false(esms_provider.check(settings, &omni, &complaint)); /* no text for the SMS */
	omni.content = "Ch\xC3\xA0o \xE1\xBA\xA1";
	assert_false(esms_provider.check(settings, &omni, &complaint)); /* an object of two has no order */
	omni.list_param = "[\"1\", 2]";
	assert_true(esms_provider.check(settings, &omni, &complaint));
	assert_body(
		&esms_provider, settings, &omni, "/MainService.svc/json/MultiChannelMessage/",
		"{\"ApiKey\":\"K\",\"SecretKey\":\"S\",\"Phone\":\"84901234567\",\"Channels\":[\"zalo\",\"sms\"],"
		"\"Data\":["
		"{\"TempID\":\"T1\",\"Params\":[\"1\",\"2\"],\"OAID\":\"O\",\"SendingMode\":\"1\",\"RequestId\":"
		"\"r\"},"
		"{\"Content\":\"Ch\xC3\xA0o \xE1\xBA\xA1\",\"IsUnicode\":\"1\",\"SmsType\":\"2\",\"Brandname\":\"B\","
		"\"RequestId\":\"r\"}]}");
	omni.routerule = "2";
	assert_false(esms_provider.check(settings, &omni, &complaint));

	fill(&esms_provider, settings, "api_key", "K", "secret_key", "S", "brandname", "B", "sms_type", "23",
		 "viber_url", "https://x", "sandbox", "true", "callback_url", "https://cb/{token}?t={token}", NULL);
	viber.token = "7-abc";
	assert_true(esms_provider.check(settings, &viber, &complaint));
	assert_body(&esms_provider, settings, &viber, "/MainService.svc/json/Send_Multiple_Sms_OTT/",
				"{\"ApiKey\":\"K\",\"SecretKey\":\"S\",\"Phones\":[\"84901234567\"],\"Content\":\"Hi\","
				"\"SmsType\":\"23\","
				"\"Brandname\":\"B\",\"OttUrl\":\"https://x\",\"IsSandBox\":\"1\",\"RequestId\":\"r\","
				"\"CallbackUrl\":\"https://cb/7-abc?t=7-abc\"}");
	assert_false(esms_provider.repeat_safe(settings, &viber));
}

/* Status calls and callbacks, in every form that is documented or seen. */
static void
test_reports(void **state)
{
	static const struct
	{
		const Provider *provider;
		const char *json;
		Delivery delivery;
		const char *code;
		const char *id;
	} cases[] = {
		{&esms_provider,
		 "{\"CodeResponse\":\"100\",\"SMSID\":\"abc\",\"SendFailed\":0,\"SendStatus\":5,\"SendSuccess\":1,"
		 "\"TotalPrice\":850.0000,\"TotalReceiver\":1,\"TotalSent\":1}",
		 DELIVERY_DELIVERED, "5", "abc"},
		{&esms_provider,
		 "{\"SMSID\":\"abc\",\"SendFailed\":\"1\",\"SendStatus\":\"5\",\"SendSuccess\":\"0\","
		 "\"TotalReceiver\":\"1\"}",
		 DELIVERY_UNDELIVERED, "5", "abc"},
		{&esms_provider, "{\"SMSID\":\"abc\",\"SendStatus\":\"4\"}", DELIVERY_UNDELIVERED, "4", "abc"},
		{&esms_provider,
		 "{\"SMSID\":\"abc\",\"SendStatus\":5,\"SendSuccess\":0,\"SendFailed\":0,\"TotalReceiver\":1}",
		 DELIVERY_PENDING, "5", "abc"},
		{&esms_provider,
		 "{\"SMSID\":\"abc\",\"SendStatus\":5,\"SendSuccess\":1,\"SendFailed\":0,\"TotalReceiver\":2}",
		 DELIVERY_PENDING, "5", "abc"},
		{&esms_provider, "{\"smsid\":\"abc\",\"send_status\":7}", DELIVERY_PENDING, "7", "abc"},
		{&etelecom_provider, "{\"idOmniMess\":\"I1\",\"status\":\"SUCCESS\",\"mtcount\":2,\"telcoid\":\"2\"}",
		 DELIVERY_DELIVERED, "SUCCESS", "I1"},
		{&etelecom_provider, "{\"id_omni_mess\":\"I1\",\"status\":\"FAIL\",\"error_code\":\"-23\"}",
		 DELIVERY_UNDELIVERED, "FAIL", "I1"},
		{&etelecom_provider, "{\"idOmniMess\":\"I1\",\"status\":\"PROCESSING\"}", DELIVERY_PENDING,
		 "PROCESSING", "I1"},
		{&interits_provider, "{\"referentId\":\"R1\",\"status\":0}", DELIVERY_DELIVERED, "0", "R1"},
		{&interits_provider, "{\"referent_id\":\"R1\",\"status\":\"23\"}", DELIVERY_UNDELIVERED, "23", "R1"},
	};
	static const char *const nothing[] = {
		"", "[]", "null", "{}", "{\"SMSID\":\"abc\"}", "{\"status\":{}}", "{\"status\":"};
	Report report;

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		memset(&report, 0, sizeof(report));
		assert_true(cases[i].provider->report(cases[i].json, strlen(cases[i].json), &report));
		if (report.delivery != cases[i].delivery)
			fail_msg("%s: delivery %d", cases[i].json, report.delivery);
		assert_string_equal(report.code, cases[i].code);
		assert_string_equal(report.smsid[0]          ? report.smsid
							: report.id_omni_mess[0] ? report.id_omni_mess
													 : report.referent_id,
							cases[i].id);
	}
	for (size_t i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++)
	{
		for (int p = 0; providers[p] != NULL; p++)
		{
			memset(&report, 0, sizeof(report));
			if (providers[p]->report(nothing[i], strlen(nothing[i]), &report))
				fail_msg("%s reads \"%s\"", providers[p]->name, nothing[i]);
		}
	}
	memset(&report, 0, sizeof(report));
	assert_true(esms_provider.report(cases[0].json, strlen(cases[0].json), &report));
	assert_string_equal(report.price, "850");
	assert_true(esms_provider.report("{\"ReceiverList\":[{\"NetworkName\":\"Viettel\"}]}", 44, &report));
	assert_string_equal(report.telco, "Viettel");
	assert_string_equal(report.code, "5");
	memset(&report, 0, sizeof(report));
	assert_true(etelecom_provider.report(cases[6].json, strlen(cases[6].json), &report));
	assert_int_equal(report.parts, 2);
	assert_string_equal(report.telco, "MobiFone");
}

/* A one-time password that is made here, in the request of each provider that has to be given it. */
static void
test_local_otp(void **state)
{
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {.call = CALL_OTP,
					   .phones = one_phone,
					   .nphones = 1,
					   .content = "{OTP} is your code, {OTP}",
					   .template_code = "T",
					   .list_param = "{\"a\": 1}",
					   .code = "123456"};
	HttpRequest request = {0};

	(void) state;
	fill(&etelecom_provider, settings, "username", "u", "password", "p", "otp_param", "code", NULL);
	assert_true(etelecom_provider.build(settings, &message, &request));
	assert_non_null(strstr(request.body, "\"list_param\":{\"a\":1,\"code\":\"123456\"}"));
	free(request.body);
	fill(&interits_provider, settings, "api_key", "k", "sender", "s", "idempotent", "true", NULL);
	assert_true(interits_provider.build(settings, &message, &request));
	assert_non_null(strstr(request.body, "\"text\":\"123456 is your code, 123456\""));
	free(request.body);
	message.request_id = "r";
	assert_false(interits_provider.repeat_safe(settings, &message));
}

static void
test_etelecom(void **state)
{
	static const struct
	{
		int status;
		const char *body;
		Verdict verdict;
		const char *code;
		const char *id;
	} cases[] = {
		{200, "{\"status\":\"1\",\"code\":\"Success\",\" idOmniMess \":\"ICOMNI123\"}", VERDICT_ACCEPTED, "1",
		 "ICOMNI123"},
		{200, "{\"status\":1,\"code\":\"Success\",\"idOmniMess\":\"ICOMNI123\"}", VERDICT_ACCEPTED, "1",
		 "ICOMNI123"},
		{200, "{\"status\":\"-1\",\"code\":\"PhoneNumber Wrong Format\"}", VERDICT_PERMANENT, "-1", ""},
		{200, "{\"status\":\"-2\",\"code\":\"Wrong Format Parameter: otp\"}", VERDICT_PERMANENT, "-2", ""},
		{200, "{\"status\":\"-3\",\"code\":\"You have run out of messages\"}", VERDICT_GATEWAY, "-3", ""},
		{200, "{\"status\":-6,\"code\":\"Can't find template with templatecode: x\"}", VERDICT_PERMANENT,
		 "-6", ""},
		{200, "{\"status\":\"-8\",\"code\":\"Can't find any routing for this request\"}", VERDICT_PERMANENT,
		 "-8", ""},
		{200, "{\"status\":\"-9\",\"code\":\"Can't find any information about channel: 1\"}",
		 VERDICT_PERMANENT, "-9", ""},
		{401, "Unauthorized", VERDICT_GATEWAY, "401", ""},
		{401, "Can't access from this IP", VERDICT_GATEWAY, "401", ""},
		{200, "Unauthorized", VERDICT_UNCERTAIN, "200", ""},
		{502, "", VERDICT_UNCERTAIN, "502", ""},
	};
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {.call = CALL_OMNI,
					   .phones = one_phone,
					   .nphones = 1,
					   .template_code = "TPL",
					   .list_param = "{\"otp\": \"123456\", \"n\": 12345678901234567890123}"};
	Complaint complaint;

	(void) state;
	fill(&etelecom_provider, settings, "username", "u", "password", "p", NULL);
	assert_body(&etelecom_provider, settings, &message, "/api/OmniMessage/SendMessage",
				"{\"username\":\"u\",\"password\":\"p\",\"phonenumber\":\"84901234567\","
				"\"routerule\":[\"1\",\"3\"],\"templatecode\":\"TPL\","
				"\"list_param\":{\"otp\": \"123456\", \"n\": 12345678901234567890123}}");
	message.routerule = "2";
	message.list_param = NULL;
	message.template_code = NULL;
	assert_false(etelecom_provider.check(settings, &message, &complaint));
	fill(&etelecom_provider, settings, "username", "u", "password", "p", "template_code", "DEF", NULL);
	assert_true(etelecom_provider.check(settings, &message, &complaint));
	assert_body(&etelecom_provider, settings, &message, "/api/OmniMessage/SendMessage",
				"{\"username\":\"u\",\"password\":\"p\",\"phonenumber\":\"84901234567\","
				"\"routerule\":[\"2\"],\"templatecode\":\"DEF\",\"list_param\":{}}");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Answer answer = read_answer(&etelecom_provider, settings, &message, cases[i].status, cases[i].body);

		if (answer.verdict != cases[i].verdict)
			fail_msg("%s: verdict %d, not %d", cases[i].body, answer.verdict, cases[i].verdict);
		assert_string_equal(answer.code, cases[i].code);
		assert_string_equal(answer.id_omni_mess, cases[i].id);
		if (cases[i].status == 401)
			assert_string_equal(answer.message, cases[i].body);
	}
	assert_false(etelecom_provider.repeat_safe(settings, &message));
}

static void
test_interits(void **state)
{
	static const struct
	{
		int status;
		const char *body;
		Verdict verdict;
		const char *code;
	} cases[] = {
		{200, "{\"code\":0,\"data\":{\"token\":\"tok\"},\"message\":\"ok\",\"referentId\":\"ref\"}",
		 VERDICT_ACCEPTED, "0"},
		{200, "{\"data\":{\"token\":\"tok\"},\"message\":\"ok\",\"referentId\":\"ref\"}", VERDICT_ACCEPTED,
		 "200"},
		{201, "{\"code\":\"201\",\"data\":{\"token\":\"tok\"},\"referentId\":\"ref\"}", VERDICT_ACCEPTED,
		 "201"},
		{200, "{\"code\":1,\"message\":\"no\"}", VERDICT_PERMANENT, "1"},
		{200, "{\"code\":\"x\",\"message\":\"no\"}", VERDICT_PERMANENT, "x"},
		{200, "", VERDICT_UNCERTAIN, "200"},
		{400, "{\"code\":400,\"message\":\"bad\"}", VERDICT_PERMANENT, "400"},
		{401, "{\"code\":401}", VERDICT_GATEWAY, "401"},
		{403, "", VERDICT_GATEWAY, "403"},
		{404, "", VERDICT_GATEWAY, "404"},
		{405, "", VERDICT_GATEWAY, "405"},
		{429, "", VERDICT_THROTTLED, "429"},
		{500, "{\"code\":500,\"message\":\"down\"}", VERDICT_UNCERTAIN, "500"},
		{502, "", VERDICT_UNCERTAIN, "502"},
		{503, "", VERDICT_TRANSIENT, "503"},
		{504, "", VERDICT_UNCERTAIN, "504"},
	};
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {
		.call = CALL_BULK, .phones = two_phones, .nphones = 2, .content = "hello", .request_id = "r"};
	HttpRequest request = {0};
	Complaint complaint;

	(void) state;
	fill(&interits_provider, settings, "api_key", "K", NULL);
	assert_false(interits_provider.check(settings, &message, &complaint));
	fill(&interits_provider, settings, "api_key", "K", "sender", "SHOP", "scheduled",
		 "2024-12-20T10:33:44.757+07:00", "ext", "{\"a\": 1}", "type", "3", NULL);
	assert_true(interits_provider.check(settings, &message, &complaint));
	assert_body(&interits_provider, settings, &message, "/api/vendor/v1/sms/send-message",
				"{\"destinations\":[\"84901234567\",\"84907654321\"],\"from\":\"SHOP\",\"text\":\"hello\","
				"\"scheduled\":\"2024-12-20T03:33:44.757Z\",\"requestId\":\"r\",\"useUnicode\":0,"
				"\"type\":3,\"ext\":{\"a\": 1}}");
	assert_true(interits_provider.build(settings, &message, &request));
	assert_string_equal(request.header[0].name, "API-KEY");
	assert_string_equal(request.header[0].value, "K");
	free(request.body);
	fill(&interits_provider, settings, "api_key", "K", "sender", "SHOP", NULL);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Answer answer = read_answer(&interits_provider, settings, &message, cases[i].status, cases[i].body);

		if (answer.verdict != cases[i].verdict)
			fail_msg("%d %s: verdict %d, not %d", cases[i].status, cases[i].body, answer.verdict,
					 cases[i].verdict);
		assert_string_equal(answer.code, cases[i].code);
		if (answer.verdict == VERDICT_ACCEPTED)
		{
			assert_string_equal(answer.referent_id, "ref");
			assert_string_equal(answer.token, "tok");
		}
	}
	fill(&interits_provider, settings, "success_codes", "7, 8", NULL);
	assert_int_equal(read_answer(&interits_provider, settings, &message, 200, "{\"code\":8}").verdict,
					 VERDICT_ACCEPTED);
	assert_int_equal(read_answer(&interits_provider, settings, &message, 200, "{\"code\":0}").verdict,
					 VERDICT_PERMANENT);
	assert_false(interits_provider.repeat_safe(settings, &message));
	fill(&interits_provider, settings, "idempotent", "true", NULL);
	assert_true(interits_provider.repeat_safe(settings, &message));
}

static void
test_failures(void **state)
{
	HttpAnswer http = {
		.progress = HTTP_NOT_SENT, .body = "", .retry_after = -1, .code = "connect", .error = "refused"};
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {.call = CALL_TEXT};
	Answer answer;

	(void) state;
	answer_read(&esms_provider, settings, &message, &http, &answer);
	assert_int_equal(answer.verdict, VERDICT_TRANSIENT);
	assert_string_equal(answer.code, "connect");
	assert_string_equal(answer.message, "refused");
	http.progress = HTTP_MAYBE_SENT;
	answer_read(&esms_provider, settings, &message, &http, &answer);
	assert_int_equal(answer.verdict, VERDICT_UNCERTAIN);
	http.progress = HTTP_ANSWERED;
	http.status = 503;
	http.retry_after = 7;
	answer_read(&esms_provider, settings, &message, &http, &answer);
	assert_int_equal(answer.verdict, VERDICT_THROTTLED);
	assert_int_equal(answer.retry_after, 7);
	http.status = 301;
	strcpy(http.redirect_host, "evil.example");
	answer_read(&esms_provider, settings, &message, &http, &answer);
	assert_int_equal(answer.verdict, VERDICT_GATEWAY);
	assert_non_null(strstr(answer.message, "evil.example"));
}

/* A provider that tells our credentials in its error: they do not reach the row. */
static void
test_echoed_credentials(void **state)
{
	const char *settings[PROVIDER_MAX_OPTIONS];
	Message message = {.call = CALL_TEXT};
	Answer answer;

	(void) state;
	fill(&esms_provider, settings, "api_key", "K3Y-0123", "secret_key", "abc", NULL);
	answer = read_answer(&esms_provider, settings, &message, 200,
						 "{\"CodeResult\": \"99\", \"ErrorMessage\": \"key k3y-0123K3Y-0123 of abc\"}");
	assert_string_equal(answer.code, "99");
	assert_string_equal(answer.message, "key ****** of abc"); /* what is too short is no secret */
	answer = read_answer(&esms_provider, settings, &message, 500, "K3Y-0123");
	assert_string_equal(answer.message, "***");
}

static void
test_dates(void **state)
{
	long long ms;

	(void) state;
	assert_true(date_read("1970-01-01T00:00:00Z", 0, &ms));
	assert_true(ms == 0);
	assert_true(date_read("1970-01-01 07:00:00.5+07", 0, &ms));
	assert_true(ms == 500);
	assert_true(date_read("1970-01-01T07:00", 7 * 3600, &ms));
	assert_true(ms == 0);
	assert_true(date_read("2024-02-29T23:59:59-0330", 0, &ms));
	assert_true(ms == 1709263799000LL);
	assert_false(date_read("2023-02-29T00:00:00Z", 0, &ms));
	assert_false(date_read("2023-02-28T24:30:00Z", 0, &ms));
	assert_false(date_read("2023-02-28", 0, &ms));
	assert_false(date_read("", 0, &ms));
	assert_false(date_read("2023-02-28T00:00:00Zulu", 0, &ms));
}

int
run_esms_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_esms_text),
		cmocka_unit_test(test_esms_otp),
		cmocka_unit_test(test_esms_answers),
		cmocka_unit_test(test_esms_other_calls),
	};

	return cmocka_run_group_tests_name("esms", tests, NULL, NULL);
}

int
run_etelecom_tests(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_etelecom)};

	return cmocka_run_group_tests_name("etelecom", tests, NULL, NULL);
}

int
run_interits_tests(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_interits)};

	return cmocka_run_group_tests_name("interits", tests, NULL, NULL);
}

int
run_common_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_failures), cmocka_unit_test(test_echoed_credentials),
		cmocka_unit_test(test_reports),  cmocka_unit_test(test_local_otp),
		cmocka_unit_test(test_dates),
	};

	return cmocka_run_group_tests_name("common", tests, NULL, NULL);
}
