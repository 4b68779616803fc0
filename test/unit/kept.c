/*
 * kept.c
 *		Reports that are kept until their message is known.
 */
#include "provider/kept.h"
#include "unit.h"

static void
test_kept(void **state)
{
	Report report = {.delivery = DELIVERY_UNDELIVERED,
					 .code = "3",
					 .message = "l\xE1\xBB\x97i \"x\"",
					 .referent_id = "r-1",
					 .request_id = "sgw-1",
					 .token = "secret",
					 .price = "850.5",
					 .parts = 2,
					 .telco = "Viettel"};
	Report again = {.parts = 0};
	char *json = report_write(&report);

	(void) state;
	assert_non_null(json);
	assert_null(strstr(json, "secret"));
	assert_true(report_read(json, strlen(json), &again));
	memset(report.token, 0, sizeof(report.token));
	assert_memory_equal(&report, &again, sizeof(report));
	free(json);
}

static void
test_others(void **state)
{
	static const char *const others[] = {"", "[]", "{}", "{\"SendStatus\": \"5\"}", "{\"delivery\": \"x\"}"};

	(void) state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
	{
		Report report = {.parts = 0};

		assert_false(report_read(others[i], strlen(others[i]), &report));
		assert_string_equal(report.code, "");
	}
}

int
run_kept_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kept),
		cmocka_unit_test(test_others),
	};

	return cmocka_run_group_tests_name("kept", tests, NULL, NULL);
}
