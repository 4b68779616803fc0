/*
 * details.c
 *		The details of a message.
 */
#include "text/details.h"
#include "unit.h"

static void
test_details(void **state)
{
	char *once;
	char *twice;

	(void) state;
	once = details_with_failure(NULL, "a", "104", "no brand", "b");
	assert_string_equal(once, "{\"failed_over\":[{\"gateway\":\"a\",\"result_code\":\"104\","
							  "\"result_message\":\"no brand\"}]}");
	twice = details_with_failure(once, "b", "1", "x", "c");
	assert_non_null(twice);
	assert_null(details_with_failure(twice, "c", "1", "x", "a"));
	free(once);
	once = details_with_token(twice, "t");
	assert_non_null(strstr(once, "\"token\":\"t\""));
	assert_non_null(strstr(once, "\"failed_over\""));
	free(once);
	free(twice);
}

int
run_details_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_details),
	};

	return cmocka_run_group_tests_name("details", tests, NULL, NULL);
}
