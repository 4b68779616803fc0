/*
 * progress.c
 *		A request goes out once; an answer has bounds; a failure has a word and a text.
 */
#include "net/progress.h"
#include "unit.h"

static void
test_sent_once(void **state)
{
	Progress progress = {0};

	(void) state;
	assert_true(progress_send(&progress));
	assert_true(progress.began);
	assert_false(progress.repeated);
	assert_false(progress_send(&progress));
	assert_true(progress.repeated);
	progress_restart(&progress);
	assert_false(progress.began);
	assert_true(progress_send(&progress));
	progress.repeat_safe = true;
	assert_true(progress_send(&progress));
}

/* Whoever asked for it sees that a request may be on the wire, before it is. */
static void
test_told_before(void **state)
{
	unsigned char started = 0x5A;
	Progress progress = {.started = &started};

	(void) state;
	assert_int_equal(started, 0x5A);
	assert_true(progress_send(&progress));
	assert_int_equal(started, 1);
	progress_restart(&progress);
	assert_null((void *) progress.started);
}

static void
test_body(void **state)
{
	static char much[64 * 1024];
	Progress progress = {0};
	char *small;

	(void) state;
	assert_true(progress_body(&progress, "{\"a\":", 5));
	assert_true(progress_body(&progress, "1}", 2));
	assert_string_equal(progress.body, "{\"a\":1}");
	assert_int_equal(progress.len, 7);

	/* The buffer stays for the next answer, unless it is a large one. */
	small = progress.body;
	progress_restart(&progress);
	assert_int_equal(progress.len, 0);
	assert_true(progress_body(&progress, "x", 1));
	assert_ptr_equal(progress.body, small);
	assert_string_equal(progress.body, "x");
	progress_restart(&progress);
	for (int i = 0; i < 16; i++)
		assert_true(progress_body(&progress, much, sizeof(much)));
	assert_false(progress.too_large);
	assert_false(progress_body(&progress, "x", 1));
	assert_true(progress.too_large);
	progress_restart(&progress);
	assert_null(progress.body);
	assert_false(progress.too_large);
}

static void
test_headers(void **state)
{
	static char line[64 * 1024] = "A: b";
	Progress progress = {0};

	(void) state;
	assert_false(progress_is_readable(&progress));
	assert_true(progress_header(&progress, line, sizeof(line) - 3));
	assert_false(progress_is_readable(&progress));
	assert_true(progress_header(&progress, "\r\n", 2));
	assert_true(progress_is_readable(&progress));
	assert_true(progress_header(&progress, "x", 1)); /* it was an interim answer */
	assert_false(progress_is_readable(&progress));
	assert_false(progress.too_large);
	assert_false(progress_header(&progress, "\n", 1));
	assert_true(progress.too_large);
	assert_false(progress_is_readable(&progress));
}

static void
test_failures(void **state)
{
	static const struct
	{
		Failure failure;
		Progress progress;
		const char *code;
		const char *error;
	} cases[] = {
		{FAILURE_RESOLVE, {0}, "resolve", "its words"},
		{FAILURE_CONNECT, {0}, "connect", "its words"},
		{FAILURE_TLS, {0}, "tls", "its words"},
		{FAILURE_DESCRIPTORS, {0}, "descriptors", "no file descriptor is left in this process"},
		{FAILURE_BROKEN, {.began = true}, "broken", "its words"},
		{FAILURE_TIMEOUT, {0}, "timeout", "no connection within 200 ms"},
		{FAILURE_TIMEOUT, {.began = true}, "timeout", "no answer within 3000 ms"},
		{FAILURE_BROKEN,
		 {.began = true, .repeated = true},
		 "broken",
		 "the connection closed before an answer"},
		{FAILURE_BROKEN,
		 {.began = true, .too_large = true},
		 "too_large",
		 "the answer is larger than 1048576 bytes"},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		HttpAnswer answer = {0};

		progress_failed(&cases[i].progress, cases[i].failure, 3000, 200, "its words", &answer);
		assert_string_equal(answer.code, cases[i].code);
		assert_string_equal(answer.error, cases[i].error);
	}
}

int
run_progress_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sent_once), cmocka_unit_test(test_told_before), cmocka_unit_test(test_body),
		cmocka_unit_test(test_headers),   cmocka_unit_test(test_failures),
	};

	return cmocka_run_group_tests_name("progress", tests, NULL, NULL);
}
