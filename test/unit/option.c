/*
 * option.c
 *		Values of options, as users write them.
 */
#include "provider/option.h"
#include "unit.h"

static const OptionDef text = {"text", OPTION_SERVER, OPTION_TEXT, .max = 5};
static const OptionDef whole = {"whole", OPTION_SERVER, OPTION_INT, .min = 1, .max = 100};
static const OptionDef number = {"number", OPTION_SERVER, OPTION_NUMBER, .min = 0, .max = 1e6};
static const OptionDef yes_no = {"yes_no", OPTION_SERVER, OPTION_BOOL, .initial = NULL};
static const OptionDef timing = {"timing", OPTION_SERVER, OPTION_DURATION, .min = 100, .max = 60000};
static const OptionDef choice = {"choice", OPTION_SERVER, OPTION_CHOICE, .choices = {"hold", "resend"}};
static const OptionDef automatic = {"auto", OPTION_SERVER, OPTION_CHOICE,
									.choices = {"auto", "true", "false"}};
static const OptionDef file = {"file", OPTION_SERVER, OPTION_FILE, .initial = NULL};
static const OptionDef list = {"list", OPTION_SERVER, OPTION_INT_LIST, .initial = NULL};
static const OptionDef route = {"route", OPTION_SERVER, OPTION_ROUTE, .initial = NULL};
static const OptionDef rate = {"rate", OPTION_SERVER, OPTION_RATE, .initial = NULL};

static bool
parse_on_off(const char *value, bool *flag)
{
	*flag = strcmp(value, "on") == 0;
	return *flag || strcmp(value, "off") == 0;
}

/* Reads a number; with the unit h, 3,600 of them, or 3,600,000 where milliseconds are wanted. */
static bool
parse_number(const char *value, bool milliseconds, int *time)
{
	char *end;

	*time = (int) strtol(value, &end, 10);
	if (end != value && strcmp(end, "h") == 0)
	{
		*time *= milliseconds ? 3600000 : 3600;
		return true;
	}
	return end != value && *end == '\0';
}

static const OptionParsers parsers = {.parse_bool = parse_on_off, .parse_time = parse_number};

static void
test_values(void **state)
{
	static const struct
	{
		const OptionDef *option;
		const char *value;
		const char *expected; /* NULL: refused */
	} cases[] = {
		{&text, "ab cd", "ab cd"},
		{&text, "", NULL},
		{&text, "abcdef", NULL},
		{&text, "a\nb", NULL},
		{&whole, "7", "7"},
		{&whole, "1e2", "100"},
		{&whole, "1.5", NULL},
		{&whole, "0", NULL},
		{&whole, "101", NULL},
		{&whole, "7 ", NULL},
		{&whole, "nan", NULL},
		{&number, "0.25", "0.25"},
		{&number, "inf", NULL},
		{&number, "1e400", NULL},
		{&number, "-1", NULL},
		{&yes_no, "on", "true"},
		{&yes_no, "maybe", NULL},
		{&timing, "500", "500"},
		{&timing, "99", NULL},
		{&timing, "soon", NULL},
		{&choice, "resend", "resend"},
		{&choice, "on", NULL},
		{&automatic, "off", "false"},
		{&automatic, "auto", "auto"},
		{&file, "/etc/ssl/ca.pem", "/etc/ssl/ca.pem"},
		{&file, "ca.pem", NULL},
		{&list, "0, 200", "0, 200"},
		{&list, "0,,1", NULL},
		{&list, "", NULL},
		{&route, "1,3", "1,3"},
		{&route, "1,1", NULL},
		{&route, "4", NULL},
		{&rate, "5/hour", "5 3600"},
		{&rate, "100/900", "100 900"},
		{&rate, "100/2h", "100 7200"},
		{&rate, "off", "0 0"},
		{&rate, "5", NULL},
		{&rate, "-5/hour", NULL},
		{&rate, "5/fortnight", NULL},
		{&rate, "5/0", NULL},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		OptionValue read = {.detail = ""};
		const char *value = option_read(cases[i].option, cases[i].value, &parsers, &read);

		if (cases[i].expected != NULL)
		{
			assert_non_null(value);
			assert_string_equal(value, cases[i].expected);
		}
		else
		{
			assert_null(value);
			assert_string_not_equal(read.detail, "");
		}
	}
}

int
run_option_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),
	};

	return cmocka_run_group_tests_name("option", tests, NULL, NULL);
}
