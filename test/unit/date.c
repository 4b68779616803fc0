/*
 * date.c
 *		Dates as users and PostgreSQL write them.
 */
#include "text/date.h"
#include "unit.h"

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
run_date_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dates),
	};

	return cmocka_run_group_tests_name("date", tests, NULL, NULL);
}
