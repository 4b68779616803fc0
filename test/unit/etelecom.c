/*
 * etelecom.c
 *		eTelecom: its requests, compared as a whole, and its answers, each in its class.
 */
#include "unit.h"

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

/* The status call and the webhook, in every form that is documented or seen. */
static void
test_etelecom_reports(void **state)
{
	const Provider *etelecom = &etelecom_provider;
	Report report;

	(void) state;
	report = assert_report(etelecom,
						   "{\"idOmniMess\":\"I1\",\"status\":\"SUCCESS\",\"mtcount\":2,\"telcoid\":\"2\"}",
						   DELIVERY_DELIVERED, "SUCCESS", "I1");
	assert_int_equal(report.parts, 2);
	assert_string_equal(report.telco, "MobiFone");
	assert_report(etelecom, "{\"id_omni_mess\":\"I1\",\"status\":\"FAIL\",\"error_code\":\"-23\"}",
				  DELIVERY_UNDELIVERED, "FAIL", "I1");
	assert_report(etelecom, "{\"idOmniMess\":\"I1\",\"status\":\"PROCESSING\"}", DELIVERY_PENDING,
				  "PROCESSING", "I1");
}

/* A one-time password that is made here goes into the template's variables. */
static void
test_etelecom_otp(void **state)
{
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {.call = CALL_OTP,
					   .phones = one_phone,
					   .nphones = 1,
					   .template_code = "T",
					   .list_param = "{\"a\": 1}",
					   .code = "123456"};
	HttpRequest request = {0};
	Complaint complaint;

	(void) state;
	fill(&etelecom_provider, settings, "username", "u", "password", "p", "otp_param", "code", NULL);
	assert_true(etelecom_provider.build(settings, &message, &request));
	assert_non_null(strstr(request.body, "\"list_param\":{\"a\":1,\"code\":\"123456\"}"));
	free(request.body);
	message.template_code = NULL;
	assert_false(etelecom_provider.check(settings, &message, &complaint));
	assert_string_equal(complaint.message, "this eTelecom gateway cannot send one-time passwords without the "
										   "option \"template_code\"");
	assert_string_equal(complaint.missing->name, "template_code");
	assert_true(complaint.unsupported);
}

int
run_etelecom_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_etelecom),
		cmocka_unit_test(test_etelecom_reports),
		cmocka_unit_test(test_etelecom_otp),
	};

	return cmocka_run_group_tests_name("etelecom", tests, NULL, NULL);
}
