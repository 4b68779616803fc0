/*
 * table.c
 *		What every provider on the list keeps to, one that is added tomorrow too.
 */
#include "unit.h"

static bool
is_own_option(const Provider *provider, const OptionDef *option)
{
	for (const OptionDef *o = provider->options; o->name != NULL; o++)
	{
		if (o == option)
			return true;
	}
	return false;
}

static void
assert_whole(const Provider *provider)
{
	int noptions = 0;

	for (const OptionDef *o = provider->options; o->name != NULL; o++, noptions++)
	{
		if (o->where == 0 || (o->type == OPTION_CHOICE && o->choices[0] == NULL))
			fail_msg("%s: option %s", provider->name, o->name);
	}
	assert_true(noptions >= 1 && noptions <= PROVIDER_MAX_OPTIONS);
	assert_int_equal(strncmp(provider->base_url, "https://", 8), 0);
	assert_true(provider->check != NULL && provider->build != NULL && provider->read != NULL);
	assert_true(provider->repeat_safe != NULL && provider->report != NULL);
	assert_int_equal(provider->identified & ~provider->calls, 0);
	assert_true(!(provider->calls & CALL_BIT(CALL_BULK)) || provider->max_phones > 0);
	assert_true(!(provider->calls & CALL_BIT(CALL_STATUS)) || provider->status_window > 0);
	assert_true(!(provider->calls & CALL_BIT(CALL_BALANCE)) || provider->balance != NULL);
	assert_true((provider->calls & CALL_BIT(CALL_SENT_LIST)) == 0 || provider->sent_list != NULL);
	assert_true((provider->sent_list == NULL) == (provider->read_sent == NULL));
	for (int call = 0; call < CALL_COUNT; call++)
		assert_true(provider->needs[call] == NULL || is_own_option(provider, provider->needs[call]));
	assert_true(provider->unicode_option == NULL || is_own_option(provider, provider->unicode_option));
	assert_true(provider->callback_option == NULL || is_own_option(provider, provider->callback_option));
}

static void
test_whole(void **state)
{
	(void) state;
	for (int i = 0; providers[i] != NULL; i++)
	{
		assert_whole(providers[i]);
		assert_ptr_equal(provider_by_name(providers[i]->name), providers[i]);
	}
	assert_null(provider_by_name("nobody"));
}

/* What says nothing of a message is no report, nor a balance, nor an answer that one was taken. */
static void
test_nothing_said(void **state)
{
	static const char *const nothing[] = {"", "[]", "null", "{}", "{\"status\":{}}", "{\"status\":"};
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	Message message = {.call = CALL_TEXT};
	Report report;
	char amount[40];

	(void) state;
	for (size_t i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++)
	{
		for (int p = 0; providers[p] != NULL; p++)
		{
			const Provider *provider = providers[p];
			HttpAnswer http = {HTTP_ANSWERED, 200, .body = (char *) nothing[i], .len = strlen(nothing[i])};

			memset(&report, 0, sizeof(report));
			fill(provider, settings, NULL);
			if (provider->report(nothing[i], http.len, &report) ||
				(provider->balance != NULL && provider->balance(&http, amount, sizeof(amount))))
				fail_msg("%s reads \"%s\"", provider->name, nothing[i]);
			if (nothing[i][0] != '{' &&
				read_answer(provider, settings, &message, 500, nothing[i]).verdict != VERDICT_UNCERTAIN)
				fail_msg("%s answers \"%s\"", provider->name, nothing[i]);
		}
	}
}

static void
test_kinds(void **state)
{
	Call call;

	(void) state;
	for (int i = CALL_TEXT; i <= CALL_OMNI; i++)
	{
		assert_true(kind_from_name(kind_name((Call) i), &call));
		assert_int_equal(call, i);
	}
	assert_false(kind_from_name("bulk", &call));
	assert_false(kind_from_name("", &call));
}

int
run_table_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_nothing_said),
		cmocka_unit_test(test_kinds),
	};

	return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
