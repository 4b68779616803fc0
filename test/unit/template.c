/*
 * template.c
 *		Texts against templates as providers register them.
 */
#include <stdlib.h>

#include "text/template.h"
#include "unit.h"

static void
test_template(void **state)
{
	static const struct
	{
		const char *template;
		const char *text;
		const char *expected; /* NULL: it fits */
		const char *found;
		size_t at;
	} cases[] = {
		{"{P1,20} la ma xac minh {P2,10}", "123456 la ma xac minh MYSHOP", NULL, NULL, 0},
		{"{P1,20} la ma xac minh", "123456 la ma xac nhan", "minh", "nhan", 17},
		{"{P1,6} la ma", "1234567 la ma", " la ma", "7 la ma", 6},
		{"Ma {P1,6}", "Ma 1234567", "", "7", 9},
		{"Ma {P1,6}", "Ma 123456", NULL, NULL, 0},
		{"Ma {P1,6}", "Ma ", NULL, NULL, 0},
		{"Ma {P1,6}.", "Ma 1.2.3.", NULL, NULL, 0},
		{"Ma {P1,6}.", "Ma 12", ".", "", 5},
		{"Xin ch\xC3\xA0o {P1,3}!", "Xin ch\xC3\xA0o \xC3\xA0\xC3\xA0\xC3\xA0!", NULL, NULL, 0},
		{"Xin ch\xC3\xA0o", "Xin ch\xC3\xA1o", "\xC3\xA0o", "\xC3\xA1o", 6},
		{"Xin chao", "xin chao", "Xin chao", "xin chao", 0},
		{"a  b", "a b", " b", "b", 2},
		{"a{P1,2}a{P2,2}a", "aaaaaaa", NULL, NULL, 0},
		{"a{P1,2}a{P2,2}a", "aaaaaaaa", "", "a", 7},
		{"{P1, 5}x{P2,5}", "abx\ncd", NULL, NULL, 0},
		{"{P1,}x{Q1,2}{P,1}", "{P1,}x{Q1,2}{P,1}", NULL, NULL, 0},
		{"", "", NULL, NULL, 0},
		{"", "x", "", "x", 0},
		{"{P1,0}", "x", "", "x", 0},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		TemplateMiss miss;
		bool fits;

		assert_true(template_fits(cases[i].template, cases[i].text, &fits, &miss));
		assert_int_equal(fits, cases[i].expected == NULL);
		if (fits)
			continue;
		assert_string_equal(miss.expected, cases[i].expected);
		assert_string_equal(miss.found, cases[i].found);
		assert_int_equal(miss.at, cases[i].at);
	}
}

/* Where a matcher that goes back would never end. */
static void
test_long_template(void **state)
{
	size_t n = 65536;
	char *text = malloc(n + 1);
	char *template = malloc(250 * 12);
	TemplateMiss miss;
	size_t len = 0;
	bool fits;

	(void) state;
	memset(text, 'a', n);
	text[n] = '\0';
	for (int i = 0; i < 200; i++)
		len += sprintf(template + len, "{P%d,4000}a", i % 10);
	memcpy(template + len, "b", 2);
	assert_true(template_fits(template, text, &fits, &miss));
	assert_false(fits);
	assert_string_equal(miss.expected, "b");
	free(template);
	free(text);
}

int
run_template_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_template),
		cmocka_unit_test(test_long_template),
	};

	return cmocka_run_group_tests_name("template", tests, NULL, NULL);
}
