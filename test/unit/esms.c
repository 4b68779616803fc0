/*
 * esms.c
 *		eSMS: its requests, compared as a whole, and its answers, each in its class.
 */
#include "unit.h"

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
	assert_body(
		&esms_provider, settings, &message, "/MainService.svc/json/SendMultipleMessage_V4_post_json/",
		"{\"ApiKey\":\"K\",\"SecretKey\":\"S\",\"Phone\":\"84901234567\",\"Content\":\"x\","
		"\"SmsType\":\"8\",\"IsUnicode\":\"1\",\"Unicode\":\"1\",\"Sandbox\":\"1\",\"campaignid\":\"tet\","
		"\"CallbackUrl\":\"https://x/y?z=1\",\"SendDate\":\"2027-01-01 01:30:00\"}");

	/* Without an offset a date is Vietnam's. */
	fill(&esms_provider, settings, "brandname", "SHOP", "send_date", "2026-12-31 08:00", NULL);
	assert_true(esms_provider.check(settings, &message, &complaint));
	fill(&esms_provider, settings, "brandname", "SHOP", "send_date", "tomorrow", NULL);
	assert_false(esms_provider.check(settings, &message, &complaint));
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
	message.ttl = 660;
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

/* A one-time password that is made here is a text. */
static void
test_esms_local_otp(void **state)
{
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {.call = CALL_OTP,
					   .phones = one_phone,
					   .nphones = 1,
					   .content = "{OTP}",
					   .code = "1234",
					   .request_id = "r-1",
					   .ttl = 17,
					   .length = 4};
	Complaint complaint;
	const char *request;

	(void) state;
	fill(&esms_provider, settings, "api_key", "K", "secret_key", "S", "brandname", "SHOP", "otp", "local",
		 "sandbox", "true", NULL);
	assert_true(esms_provider.check(settings, &message, &complaint));
	assert_true(esms_provider.carries(settings, &message, &request) & OPTION_BIT(5));
	assert_false(esms_provider.repeat_safe(settings, &message));
	assert_body(&esms_provider, settings, &message, "/MainService.svc/json/SendMultipleMessage_V4_post_json/",
				"{\"ApiKey\":\"K\",\"SecretKey\":\"S\",\"Phone\":\"84901234567\",\"Content\":\"1234\","
				"\"SmsType\":\"2\",\"Brandname\":\"SHOP\",\"IsUnicode\":\"0\",\"Sandbox\":\"1\","
				"\"RequestId\":\"r-1\"}");
	fill(&esms_provider, settings, "otp", "local", NULL);
	assert_false(esms_provider.check(settings, &message, &complaint));
	fill(&esms_provider, settings, "otp", "local", "sms_type", "8", NULL);
	assert_true(esms_provider.check(settings, &message, &complaint));
	fill(&esms_provider, settings, "otp", "local", "sms_type", "23", "brandname", "SHOP", NULL);
	assert_false(esms_provider.check(settings, &message, &complaint));
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
		 VERDICT_UNCERTAIN, "124", ""},
		{200, "{\"CodeResult\":\"143\",\"ErrorMessage\":\"Account is locked\"}", VERDICT_GATEWAY, "143", ""},
		{200, "{\"CodeResult\":\"163\"}", VERDICT_PERMANENT, "163", ""},
		{200, "{\"CodeResult\":\"201\"}", VERDICT_PERMANENT, "201", ""},
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

/* 124 proves something of a message that may have been accepted before, and of no other. */
static void
test_esms_duplicate(void **state)
{
	static const char *const sent = "{\"CodeResult\":\"124\",\"SendStatus\":\"5\"}";
	static const char *const refused = "{\"CodeResult\":\"124\",\"SendStatus\":\"4\"}";
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {.call = CALL_TEXT, .request_id = "r"};
	Answer answer;

	(void) state;
	fill(&esms_provider, settings, NULL);
	answer = read_answer(&esms_provider, settings, &message, 200, sent);
	assert_int_equal(answer.verdict, VERDICT_UNCERTAIN);
	assert_true(answer.id_taken);
	message.unsure = true;
	answer = read_answer(&esms_provider, settings, &message, 200, sent);
	assert_int_equal(answer.verdict, VERDICT_ACCEPTED);
	assert_false(answer.id_taken);
	answer = read_answer(&esms_provider, settings, &message, 200, refused);
	assert_int_equal(answer.verdict, VERDICT_PERMANENT);
}

/* What a request cannot carry is refused; sandbox too, where it would not be one. */
static void
test_esms_carries(void **state)
{
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {
		.call = CALL_OTP, .phones = one_phone, .nphones = 1, .content = "{OTP}", .ttl = 300, .length = 6};
	Complaint complaint;
	const char *request;

	(void) state;
	fill(&esms_provider, settings, "brandname", "SHOP", "sandbox", "true", NULL);
	assert_false(esms_provider.check(settings, &message, &complaint));
	assert_int_equal(esms_provider.carries(settings, &message, &request), OPTION_BIT(2));
	message.call = CALL_TEXT;
	assert_true(esms_provider.carries(settings, &message, &request) & OPTION_BIT(8));
	message.call = CALL_OMNI;
	message.routerule = "1,3";
	assert_false(esms_provider.carries(settings, &message, &request) & OPTION_BIT(8));
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
	Leg legs[MAX_ROUTES];

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
	assert_true(esms_provider.repeat_safe(settings, &bulk));

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
		"\"RequestId\":\"r.a\"}]}");
	assert_int_equal(esms_provider.legs(settings, &omni, legs), 2);
	omni.request_id = "sgw-0123456789abc0123456789a-9223372036854775807.9";
	assert_int_equal(esms_provider.legs(settings, &omni, legs), 2);
	assert_string_equal(legs[0].request_id, omni.request_id);
	assert_string_equal(legs[1].request_id, "sgw-0123456789abc0123456789a-9223372036854775807.j");
	assert_int_equal(strlen(legs[1].request_id), REQUEST_ID_MAX);
	omni.request_id = "01234567890123456789012345678901234567890123456789";
	esms_provider.legs(settings, &omni, legs);
	assert_string_equal(legs[1].request_id, "012345678901234567890123456789012345678901234567.a");
	omni.request_id = NULL;
	assert_int_equal(esms_provider.legs(settings, &omni, legs), 0);
	omni.routerule = "1";
	omni.request_id = "r";
	assert_int_equal(esms_provider.legs(settings, &omni, legs), 0);
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
	assert_true(esms_provider.repeat_safe(settings, &viber));
}

/* The status call and the callback, in every form that is documented or seen. */
static void
test_esms_reports(void **state)
{
	static const char one[] =
		"{\"CodeResponse\":\"100\",\"SMSID\":\"abc\",\"SendFailed\":0,\"SendStatus\":5,\"SendSuccess\":1,"
		"\"TotalPrice\":850.0000,\"TotalReceiver\":1,\"TotalSent\":1}";
	const Provider *esms = &esms_provider;
	Report report;

	(void) state;
	report = assert_report(esms, one, DELIVERY_DELIVERED, "5", "abc");
	assert_string_equal(report.price, "850");
	assert_true(esms->report("{\"ReceiverList\":[{\"NetworkName\":\"Viettel\"}]}", 44, &report));
	assert_string_equal(report.telco, "Viettel");
	assert_string_equal(report.code, "5");
	assert_report(esms,
				  "{\"SMSID\":\"abc\",\"SendFailed\":\"1\",\"SendStatus\":\"5\",\"SendSuccess\":\"0\","
				  "\"TotalReceiver\":\"1\"}",
				  DELIVERY_UNDELIVERED, "5", "abc");
	assert_report(esms, "{\"SMSID\":\"abc\",\"SendStatus\":\"4\"}", DELIVERY_UNDELIVERED, "4", "abc");
	assert_report(
		esms, "{\"SMSID\":\"abc\",\"SendStatus\":5,\"SendSuccess\":0,\"SendFailed\":0,\"TotalReceiver\":1}",
		DELIVERY_PENDING, "5", "abc");
	assert_report(
		esms, "{\"SMSID\":\"abc\",\"SendStatus\":5,\"SendSuccess\":1,\"SendFailed\":0,\"TotalReceiver\":2}",
		DELIVERY_PENDING, "5", "abc");
	assert_report(esms, "{\"smsid\":\"abc\",\"send_status\":7}", DELIVERY_PENDING, "7", "abc");
	memset(&report, 0, sizeof(report));
	assert_false(esms->report("{\"SMSID\":\"abc\"}", 15, &report));
}

/* Whose option is missing, and what kind cannot go at all without it. */
static void
test_esms_complaints(void **state)
{
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {.call = CALL_TEXT, .phones = one_phone, .nphones = 1, .content = "x"};
	Complaint complaint;

	(void) state;
	fill(&esms_provider, settings, NULL);
	assert_false(esms_provider.check(settings, &message, &complaint));
	assert_string_equal(complaint.message, "this message needs the option \"brandname\"");
	assert_string_equal(complaint.missing->name, "brandname");
	assert_non_null(strstr(complaint.hint, "sms_type '8'"));
	assert_false(complaint.unsupported);
	message.call = CALL_OMNI;
	assert_false(esms_provider.check(settings, &message, &complaint));
	assert_string_equal(complaint.message, "this eSMS gateway cannot send messages of kind \"omni\" without "
										   "the option \"oaid\"");
	assert_string_equal(complaint.missing->name, "oaid");
	assert_true(complaint.unsupported);
	message.call = CALL_TEXT;
	fill(&esms_provider, settings, "send_date", "tomorrow", NULL);
	assert_false(esms_provider.check(settings, &message, &complaint));
	assert_string_equal(complaint.message, "invalid value for option \"send_date\": \"tomorrow\"");
	assert_null(complaint.missing);
}

/* What the account has sent: the question, in Vietnam's time, and the answer of the documentation. */
static void
test_esms_sent(void **state)
{
	static char answer[] =
		"{\"CodeResult\":\"100\",\"CountTotal\":4,\"SentData\":[{\"Campaign\":\"\",\"Content\":\"x\","
		"\"Phone\":"
		"\"84901234567\",\"ReferenceId\":\"r\",\"SellPrice\":850,\"SendResult\":1,\"SendStatus\":5,"
		"\"SentTime\":"
		"\"/Date(1705484048995+0700)/\",\"SmsId\":\"abc\",\"SmsType\":2},{\"SendResult\":0,\"SendStatus\":5},"
		"{\"SendStatus\":\"4\"},null]}";
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	SentPage page = {.list = "2", .from = 1705484048995LL, .to = 1705487999000LL, .number = 2};
	Message question = {.call = CALL_SENT_LIST, .sent = &page};
	Message message = {
		.call = CALL_TEXT, .phones = one_phone, .nphones = 1, .content = "x", .request_id = "r"};
	HttpAnswer http = {.status = 200, .body = answer, .len = sizeof(answer) - 1};
	static SentEntry entries[SENT_PAGE_SIZE];

	(void) state;
	fill(&esms_provider, settings, "api_key", "K", "secret_key", "S", "brandname", "B", "oaid", "O", NULL);
	assert_body(&esms_provider, settings, &question, "/MainService.svc/json/GetSmsSentData_V2",
				"{\"ApiKey\":\"K\",\"SecretKey\":\"S\",\"SmsType\":\"2\",\"From\":\"2024-01-17 16:34:08\","
				"\"To\":\"2024-01-17 17:39:59\",\"Page\":2,\"PageSize\":200}");
	assert_int_equal(esms_provider.read_sent(&http, entries), 4);
	assert_string_equal(entries[0].request_id, "r");
	assert_string_equal(entries[0].phone, "84901234567");
	assert_string_equal(entries[0].report.smsid, "abc");
	assert_string_equal(entries[0].report.price, "850");
	assert_int_equal(entries[0].report.delivery, DELIVERY_DELIVERED);
	assert_int_equal(entries[1].report.delivery, DELIVERY_PENDING);
	assert_true(entries[2].refused && !entries[1].refused && !entries[3].refused);
	http.body = "{\"CodeResult\":\"100\"}";
	http.len = strlen(http.body);
	assert_int_equal(esms_provider.read_sent(&http, entries), -1);

	assert_string_equal(esms_provider.sent_list(settings, &message), "2");
	message.request_id = NULL;
	assert_null(esms_provider.sent_list(settings, &message));
	message.request_id = "r";
	message.call = CALL_OTP;
	assert_null(esms_provider.sent_list(settings, &message));
	message.call = CALL_OMNI;
	message.content = NULL;
	assert_null(esms_provider.sent_list(settings, &message)); /* Zalo alone */
	message.content = "x";
	assert_string_equal(esms_provider.sent_list(settings, &message), "2");
}

int
run_esms_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_esms_text),    cmocka_unit_test(test_esms_otp),
		cmocka_unit_test(test_esms_answers), cmocka_unit_test(test_esms_duplicate),
		cmocka_unit_test(test_esms_carries), cmocka_unit_test(test_esms_other_calls),
		cmocka_unit_test(test_esms_reports), cmocka_unit_test(test_esms_complaints),
		cmocka_unit_test(test_esms_sent),    cmocka_unit_test(test_esms_local_otp),
	};

	return cmocka_run_group_tests_name("esms", tests, NULL, NULL);
}
