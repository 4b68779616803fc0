/*
 * scrub.c
 *		What is left of libcurl's words when secrets are taken out.
 */
#include "text/scrub.h"
#include "unit.h"

static void
test_scrub(void **state)
{
	static const char *const secrets[] = {"k3y-0123", "ab", NULL};
	static const struct
	{
		ScrubLine kind;
		const char *line;
		const char *expected; /* NULL: nothing of it is shown */
	} cases[] = {
		{SCRUB_HEADER, "GET /otp?Phone=84901234567&ApiKey=x HTTP/1.1\r\n", "GET /otp?*** HTTP/1.1"},
		{SCRUB_HEADER, "POST /api/k3y-0123/x HTTP/1.1\r\n", "POST /api/***/x HTTP/1.1"},
		{SCRUB_HEADER, "API-KEY: k3y-9999\r\n", "API-KEY: ***"},
		{SCRUB_HEADER, "Authorization: Basic eDp5\r\n", "Authorization: ***"},
		{SCRUB_HEADER, "content-type: text/html; charset=utf-8\r\n",
		 "content-type: text/html; charset=utf-8"},
		{SCRUB_HEADER, "Server: k3y-0123\r\n", "Server: ***"},
		{SCRUB_HEADER, "Location: https://x.example/\r\n", "Location: ***"},
		{SCRUB_HEADER, "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK"},
		{SCRUB_HEADER, "\r\n", NULL},
		{SCRUB_INFO, "Connected to 127.0.0.1 (127.0.0.1) port 80 (#0)\n",
		 "Connected to 127.0.0.1 (127.0.0.1) port 80 (#0)"},
		{SCRUB_INFO, "Issue another request to this URL: 'http://x/?a=b'\n",
		 "Issue another request to this URL: 'http://x/?***'"},
		{SCRUB_INFO, "h2h3 [api-key: k3y]\n", NULL},
		{SCRUB_INFO, "subject: CN=caf\xC3\xA9\x01\n", "subject: CN=caf???"},
	};
	char out[512];
	char small[8];

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		bool shown =
			scrub_line(cases[i].kind, cases[i].line, strlen(cases[i].line), secrets, out, sizeof(out));

		assert_int_equal(shown, cases[i].expected != NULL);
		if (shown)
			assert_string_equal(out, cases[i].expected);
	}
	assert_true(scrub_line(SCRUB_INFO, "a long line", 11, NULL, small, sizeof(small)));
	assert_string_equal(small, "a long ");
}

int
run_scrub_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scrub),
	};

	return cmocka_run_group_tests_name("scrub", tests, NULL, NULL);
}
