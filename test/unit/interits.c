/*
 * interits.c
 *		Interits: its requests, compared as a whole, and its answers, each in its class.
 */
#include "unit.h"

static const char *const two_phones[] = {"84901234567", "84907654321"};

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
		{200, "{\"code\":1,\"referentId\":\"ref\"}", VERDICT_UNCERTAIN, "1"},
		{200, "{\"code\":1,\"data\":{\"token\":\"tok\"}}", VERDICT_UNCERTAIN, "1"},
		{200, "{\"code\":204,\"data\":{\"token\":\"tok\"},\"referentId\":\"ref\"}", VERDICT_ACCEPTED, "204"},
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
	assert_string_equal(complaint.missing->name, "sender");
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
	fill(&interits_provider, settings, "api_key", "K", "sender", "SHOP", "unicode", "strip", NULL);
	message.call = CALL_OTP;
	message.nphones = 1;
	message.content = "{OTP}";
	message.code = "1234";
	assert_body(&interits_provider, settings, &message, "/api/vendor/v1/sms/send-message",
				"{\"destinations\":[\"84901234567\"],\"from\":\"SHOP\",\"text\":\"1234\",\"requestId\":\"r\","
				"\"useUnicode\":2,\"type\":2}");
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
	message.call = CALL_BULK;
	assert_false(interits_provider.repeat_safe(settings, &message));
	fill(&interits_provider, settings, "idempotent", "true", NULL);
	assert_true(interits_provider.repeat_safe(settings, &message));
}

static void
test_interits_reports(void **state)
{
	(void) state;
	assert_report(&interits_provider, "{\"referentId\":\"R1\",\"status\":0}", DELIVERY_DELIVERED, "0", "R1");
	assert_report(&interits_provider, "{\"referent_id\":\"R1\",\"status\":\"23\"}", DELIVERY_UNDELIVERED,
				  "23", "R1");
}

/* A one-time password that is made here goes into the text. */
static void
test_interits_otp(void **state)
{
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {.call = CALL_OTP,
					   .phones = one_phone,
					   .nphones = 1,
					   .content = "{OTP} is your code, {OTP}",
					   .code = "123456"};
	HttpRequest request = {0};

	(void) state;
	fill(&interits_provider, settings, "api_key", "k", "sender", "s", "idempotent", "true", NULL);
	assert_true(interits_provider.build(settings, &message, &request));
	assert_non_null(strstr(request.body, "\"text\":\"123456 is your code, 123456\""));
	free(request.body);
	message.request_id = "r";
	assert_false(interits_provider.repeat_safe(settings, &message));
}

int
run_interits_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interits),
		cmocka_unit_test(test_interits_reports),
		cmocka_unit_test(test_interits_otp),
	};

	return cmocka_run_group_tests_name("interits", tests, NULL, NULL);
}
