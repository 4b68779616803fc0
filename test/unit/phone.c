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

int
run_phone_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_phones),
	};

	return cmocka_run_group_tests_name("phone", tests, NULL, NULL);
}
