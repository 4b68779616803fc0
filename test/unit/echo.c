/*
 * echo.c
 *		What is left of an answer when what it repeats of the request is hidden.
 */
#include <stdlib.h>
#include <time.h>

#include "text/echo.h"
#include "unit.h"

#define SECRET "sEc/\"reT+\xC3\xA0\x3D"

/* All that one request held. */
static EchoNeedles
some_needles(void)
{
	static const char *const phones[] = {"84901234567"};
	EchoNeedles needles = {.phones = phones, .nphones = 1};

	echo_add(&needles, ECHO_SECRET, "k3y-0123456789");
	echo_add(&needles, ECHO_SECRET, SECRET);
	echo_add(&needles, ECHO_SECRET, "abc");
	echo_add(&needles, ECHO_SECRET, NULL);
	echo_add(&needles, ECHO_SECRET, "message");
	echo_add(&needles, ECHO_TEXT, "Xin ch\xC3\xA0o \xF0\x9F\x98\x80 b\xE1\xBA\xA1n");
	echo_add(&needles, ECHO_TEXT, "OK100");
	echo_add(&needles, ECHO_CODE, "1234");
	echo_add(&needles, ECHO_CODE, "567890");
	return needles;
}

static void
test_hide(void **state)
{
	static const struct
	{
		const char *answer;
		const char *expected; /* NULL: the same */
	} cases[] = {
		{"{\"CodeResult\":\"100\",\"SMSID\":\"0123-4567-89ab\"}", NULL},
		{"{\"m\":\"bad key K3Y-0123456789!\"}", "{\"m\":\"bad key ***!\"}"},
		{"{\"k3y-0123456789\":1}", "{\"***\":1}"},
		{"{\"message\":\"message\"}", "{\"message\":\"***\"}"}, /* a word as a password costs no field */
		{"sEc/\"reT+\xC3\xA0=", "***"},
		{"{\"m\":\"sEc\\/\\\"reT+\\u00e0\\u003d\"}", "{\"m\":\"***\"}"},
		{"{\"m\":\"sEc\\/\\\"reT+\\u00E0=\",\"SMSID\":\"x\"}", "{\"m\":\"***\",\"SMSID\":\"x\"}"},
		{"{\"m\":\"{\\\"p\\\":\\\"sEc\\\\/\\\\\\\"reT+\\\\u00e0=\\\"}\"}",
		 "{\"m\":\"{\\\"p\\\":\\\"***\\\"}\"}"},
		{"?p=sEc%2F%22reT%2B%C3%A0%3D&x", "?p=***&x"},
		{"?p=sEc%2f%22reT%2b%c3%a0%3d&x", "?p=***&x"},
		{"?p=sEc%252F%2522reT%252B%25C3%25A0%253D&x", "?p=***&x"},
		{"{\"m\":\"Xin+ch%C3%A0o+%F0%9F%98%80+b%E1%BA%A1n\"}", "{\"m\":\"***\"}"},
		{"{\"m\":\"Xin ch\\u00e0o \\ud83d\\ude00 b\\u1EA1n\"}", "{\"m\":\"***\"}"},
		/* cut off: at the answer's end, and at a word's */
		{"{\"m\":\"bad key K3Y-0", "{\"m\":\"bad key ***"},
		{"{\"m\":\"bad key K3Y-012345\",\"n\":1}", "{\"m\":\"bad key ***\",\"n\":1}"},
		{"{\"m\":\"text Xin ch\\u00e0o \\ud83d\\ude00 b ...\"}", "{\"m\":\"text *** ...\"}"},
		/* phones, in prose and as a whole; an id that is made of one stays one */
		{"{\"m\":\"no 0901234567, +84901234567 or 0084901234567\",\"p\":84901234567}",
		 "{\"m\":\"no ***, +*** or ***\",\"p\":\"**\"}"},
		{"{\"referentId\":\"84901234567-171\",\"id\":984901234567}", NULL},
		/* codes, which occur by chance */
		{"{\"SMSID\":\"ab-1234-ff\",\"code\":91234,\"m\":\"at 12:12345\"}", NULL},
		{"{\"m\":\"code 1234\",\"n\":\"OTP1234 is it\",\"o\":\"1234\",\"p\":1234}",
		 "{\"m\":\"code ***\",\"n\":\"OTP*** is it\",\"o\":\"***\",\"p\":\"**\"}"},
		{"{\"SMSID\":\"x-567890\",\"n\":\"1567890\"}", "{\"SMSID\":\"x-***\",\"n\":\"1567890\"}"},
		{"{\"m\":\"of abc\",\"n\":\"OK100\",\"o\":\"OK1000\"}",
		 "{\"m\":\"of abc\",\"n\":\"***\",\"o\":\"OK1000\"}"},
		/* what goes beyond the end of a value leaves JSON what it is */
		{"{\"a\":\"k3y-0123456789\\\\\"}", "{\"a\":\"***\\\\\"}"},
		{"", NULL},
		{"{\"", NULL},
		{"{\"m\":\"\\u00\\", NULL},
		{"%", NULL},
	};
	EchoNeedles needles = some_needles();

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		char *answer = strdup(cases[i].answer);
		size_t len = echo_hide(answer, strlen(answer), &needles);

		assert_string_equal(answer, cases[i].expected != NULL ? cases[i].expected : cases[i].answer);
		assert_int_equal(len, strlen(answer));
		free(answer);
	}
}

/* An answer and a text that were made for each other take no longer than others. */
static void
test_hide_is_linear(void **state)
{
	size_t len = 1 << 20;
	char *answer = malloc(len + 1);
	char text[4001];
	EchoNeedles needles = {0};
	clock_t start = clock();

	(void) state;
	memset(answer, 'a', len);
	answer[len] = '\0';
	memset(text, 'a', sizeof(text) - 2);
	text[sizeof(text) - 2] = 'b';
	text[sizeof(text) - 1] = '\0';
	echo_add(&needles, ECHO_TEXT, text);
	len = echo_hide(answer, len, &needles);
	assert_true(clock() - start < CLOCKS_PER_SEC);
	assert_int_equal(len, (1 << 20) - (sizeof(text) - 2) + 3); /* what is cut at the end */
	free(answer);
}

/* Receivers of a bulk message, in any order. */
static void
test_hide_many_phones(void **state)
{
	static const char *const phones[] = {"84901234569", "84901234567", "84901234568"};
	EchoNeedles needles = {.phones = phones, .nphones = 3};
	char answer[] = "refused: 0901234567, 84901234568, 84901234569; 84901234570";

	(void) state;
	echo_hide(answer, strlen(answer), &needles);
	assert_string_equal(answer, "refused: ***, ***, ***; 84901234570");
}

int
run_echo_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hide),
		cmocka_unit_test(test_hide_is_linear),
		cmocka_unit_test(test_hide_many_phones),
	};

	return cmocka_run_group_tests_name("echo", tests, NULL, NULL);
}
