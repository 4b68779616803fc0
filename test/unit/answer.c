/*
 * answer.c
 *		What an answer means, whichever provider it comes from.
 */
#include "provider/answer.h"
#include "unit.h"

static void
test_failures(void **state)
{
	HttpAnswer http = {
		.progress = HTTP_NOT_SENT, .body = "", .retry_after = -1, .code = "connect", .error = "refused"};
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {.call = CALL_TEXT};
	Answer answer;

	(void) state;
	answer_read(&esms_provider, settings, &message, NULL, &http, &answer);
	assert_int_equal(answer.verdict, VERDICT_TRANSIENT);
	assert_string_equal(answer.code, "connect");
	assert_string_equal(answer.message, "refused");
	http.progress = HTTP_MAYBE_SENT;
	answer_read(&esms_provider, settings, &message, NULL, &http, &answer);
	assert_int_equal(answer.verdict, VERDICT_UNCERTAIN);
	http.progress = HTTP_ANSWERED;
	http.status = 503;
	http.retry_after = 7;
	answer_read(&esms_provider, settings, &message, NULL, &http, &answer);
	assert_int_equal(answer.verdict, VERDICT_THROTTLED);
	assert_int_equal(answer.retry_after, 7);
	http.status = 301;
	strcpy(http.redirect_host, "evil.example");
	answer_read(&esms_provider, settings, &message, NULL, &http, &answer);
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
	assert_string_equal(answer.message, "key *** of abc"); /* what is too short is no secret */
	answer = read_answer(&esms_provider, settings, &message, 500, "K3Y-0123");
	assert_string_equal(answer.message, "***");
	answer = read_answer(&esms_provider, settings, &message, 200,
						 "{\"CodeResult\": \"100\", \"SMSID\": \"id-k3y-0123-7\"}");
	assert_int_equal(answer.verdict, VERDICT_ACCEPTED);
	assert_string_equal(answer.smsid, ""); /* an id with a part hidden names nothing */
}

/* What others than the owner are told: the code and our words, never the provider's. */
static void
test_reason(void **state)
{
	static const struct
	{
		int status;
		const char *body;
		const char *reason;
	} cases[] = {
		{200, "{\"CodeResult\": \"103\", \"ErrorMessage\": \"of 84901\"}", "103: the balance is used up"},
		{200, "{\"CodeResult\": \"777\", \"ErrorMessage\": \"of 84901\"}", "777: the message is refused"},
		{200, "{\"CodeResult\": \"of 84901\"}", "unknown code: the message is refused"},
		{401, "of 84901", "401: the credentials are refused (HTTP status 401)"},
		{500, "of 84901", "500: the gateway fails"},
		{200, "of 84901", "200: the answer cannot be read: not the JSON that the provider documents"},
		{429, "of 84901", "429: the gateway asks to slow down"},
	};
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {.call = CALL_TEXT};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		Answer answer = read_answer(&esms_provider, settings, &message, cases[i].status, cases[i].body);
		char reason[128];

		answer_reason(&answer, reason, sizeof(reason));
		assert_string_equal(reason, cases[i].reason);
	}
}

int
run_answer_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_echoed_credentials),
		cmocka_unit_test(test_reason),
	};

	return cmocka_run_group_tests_name("answer", tests, NULL, NULL);
}
