/*
 * trace.c
 *		What the log tells of a request.
 */
#include "net/trace.h"
#include "unit.h"

static void
add(Trace *trace, TraceKind kind, const char *text)
{
	trace_add(trace, kind, text, strlen(text));
}

static void
test_lines(void **state)
{
	HttpRequest request = {
		.query = {{"Phone", "84901234567"}, {"Key", "s3cret key"}},
		.nquery = 2,
		.header = {{"API-KEY", "k3y-0123"}},
		.nheaders = 1,
	};
	Trace *trace = trace_create(&request);

	(void) state;
	assert_string_equal(trace_text(trace), "");
	add(trace, TRACE_WORDS, "Found s3cret%20key, k3y-0123 and 84901234567\n");
	add(trace, TRACE_HEADER_OUT,
		"GET /x?Phone=84901234567 HTTP/1.1\r\nHost: x.example\r\nAPI-KEY: k3y-0123\r\n\r\n");
	add(trace, TRACE_HEADER_IN, "HTTP/1.1 200 OK\r\n");
	add(trace, TRACE_BODY_IN, "s3cret key");
	add(trace, TRACE_BODY_OUT, "");
	assert_string_equal(trace_text(trace), "* Found ***, *** and ***\n"
										   "> GET /x?*** HTTP/1.1\n"
										   "> Host: x.example\n"
										   "> API-KEY: ***\n"
										   "< HTTP/1.1 200 OK\n"
										   "< (10 bytes)\n"
										   "> (0 bytes)");
	trace_free(trace);
	trace_free(NULL);
}

/* Lines that do not fit are left out. */
static void
test_room(void **state)
{
	HttpRequest request = {0};
	Trace *trace = trace_create(&request);
	const char *text;

	(void) state;
	for (int i = 0; i < 1000; i++)
		add(trace, TRACE_WORDS, "twenty bytes of text");
	text = trace_text(trace);
	assert_true(strlen(text) >= 8192 - 24 && strlen(text) <= 8191);
	assert_string_equal(text + strlen(text) - 4, "text");
	trace_free(trace);
}

int
run_trace_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_room),
	};

	return cmocka_run_group_tests_name("trace", tests, NULL, NULL);
}
