/*
 * phone.c
 *		Phone numbers as people write them.
 */
#include "text/phone.h"
#include "unit.h"

static const struct
{
	const char *phone;
	const char *country;
	PhoneStatus status;
	const char *msisdn;
} phones[] = {
	{"0901234567", "84", PHONE_OK, "84901234567"},
	{"84901234567", "84", PHONE_OK, "84901234567"},
	{"+84901234567", "84", PHONE_OK, "84901234567"},
	{"0084901234567", "84", PHONE_OK, "84901234567"},
	{"+84 901-234.567", "84", PHONE_OK, "84901234567"},
	{" (090) 123 4567 ", "84", PHONE_OK, "84901234567"},
	{"02438251234", "84", PHONE_OK, "842438251234"},
	{"+1 202 555 0123", "84", PHONE_OK, "12025550123"},
	{"07911 123456", "44", PHONE_OK, "447911123456"},
	{"+84901234567", "44", PHONE_OK, "84901234567"},
	{"", "84", PHONE_EMPTY, NULL},
	{"   ", "84", PHONE_EMPTY, NULL},
	{"+", "84", PHONE_EMPTY, NULL},
	{"090123456x", "84", PHONE_BAD_CHARACTER, NULL},
	{"0601234567", "84", PHONE_NOBODYS, NULL},
	{"+84401234567", "84", PHONE_NOBODYS, NULL},
	{"09012345678", "84", PHONE_BAD_LENGTH, NULL},
	{"0243825123", "84", PHONE_BAD_LENGTH, NULL},
	{"01621234567", "84", PHONE_OK, "841621234567"},
	{"01611234567", "84", PHONE_NOBODYS, NULL},
	{"0162123456", "84", PHONE_BAD_LENGTH, NULL},
	{"0901234567,0901234568", "84", PHONE_BAD_CHARACTER, NULL},
	{"\xD9\xA0\xD9\xA9", "84", PHONE_BAD_CHARACTER, NULL},
	{"++84901234567", "84", PHONE_BAD_CHARACTER, NULL},
	{"84+901234567", "84", PHONE_BAD_CHARACTER, NULL},
	{"901234567", "84", PHONE_NO_PREFIX, NULL},
	{"12025550123", "84", PHONE_NO_PREFIX, NULL},
	{"090123456", "84", PHONE_BAD_LENGTH, NULL},
	{"090123456789", "84", PHONE_BAD_LENGTH, NULL},
	{"00901234567", "84", PHONE_OK, "901234567"},
	{"+0901234567", "84", PHONE_BAD_LENGTH, NULL},
	{"113", "84", PHONE_NO_PREFIX, NULL},
	{"+1234567890123456", "84", PHONE_BAD_LENGTH, NULL},
	{"00000000000000000000000000", "84", PHONE_BAD_LENGTH, NULL},
};

static void
test_phones(void **state)
{
	(void) state;
	for (size_t i = 0; i < sizeof(phones) / sizeof(phones[0]); i++)
	{
		char msisdn[MSISDN_SIZE];
		PhoneStatus status = phone_normalise(phones[i].phone, phones[i].country, msisdn);

		if (status != phones[i].status)
			fail_msg("\"%s\": status %d, not %d", phones[i].phone, status, phones[i].status);
		if (status == PHONE_OK)
			assert_string_equal(msisdn, phones[i].msisdn);
		else
			assert_true(phone_status_text(status)[0] != '\0');
	}
}

static void
test_kinds(void **state)
{
	/* The table of 2018, as gateways.md has it. */
	static const char *const old[][2] = {
		{"162", "32"}, {"163", "33"}, {"164", "34"}, {"165", "35"}, {"166", "36"}, {"167", "37"},
		{"168", "38"}, {"169", "39"}, {"120", "70"}, {"121", "79"}, {"122", "77"}, {"126", "76"},
		{"128", "78"}, {"123", "83"}, {"124", "84"}, {"125", "85"}, {"127", "81"}, {"129", "82"},
		{"186", "56"}, {"188", "58"}, {"199", "59"},
	};
	char msisdn[MSISDN_SIZE];
	char expected[MSISDN_SIZE];

	(void) state;
	assert_int_equal(phone_kind("84901234567"), PHONE_MOBILE);
	assert_int_equal(phone_kind("842438251234"), PHONE_LANDLINE);
	assert_int_equal(phone_kind("12025550123"), PHONE_FOREIGN);
	for (size_t i = 0; i < sizeof(old) / sizeof(old[0]); i++)
	{
		snprintf(msisdn, sizeof(msisdn), "84%s7654321", old[i][0]);
		assert_int_equal(phone_kind(msisdn), PHONE_OLD);
		phone_convert_old(msisdn);
		snprintf(expected, sizeof(expected), "84%s7654321", old[i][1]);
		assert_string_equal(msisdn, expected);
		assert_int_equal(phone_kind(msisdn), PHONE_MOBILE);
		assert_true(phone_old_form(msisdn, expected));
		phone_convert_old(expected);
		assert_string_equal(expected, msisdn);
	}
	assert_false(phone_old_form("84901234567", expected));
	assert_false(phone_old_form("842438251234", expected));
	assert_false(phone_old_form("33612345678", expected));
}

int
run_phone_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_phones),
		cmocka_unit_test(test_kinds),
	};

	return cmocka_run_group_tests_name("phone", tests, NULL, NULL);
}
