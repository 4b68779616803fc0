/*
 * json.c
 *		JSON as real servers write it.
 */
#include <json-c/json.h>

#include "text/json.h"
#include "unit.h"

static void
test_objects(void **state)
{
	static const char *const bad[] = {
		"", " ", "null", "1", "[]", "\"x\"", "{", "{\"a\":1}x", "{\"a\":}", "<html>", "Unauthorized",
	};
	char *deep = malloc(200001);

	(void) state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_null(json_read_object(bad[i], strlen(bad[i])));
	json_object_put(json_read_object("{}", 2));
	for (int i = 0; i < 100000; i++)
		memcpy(deep + 2 * i, "[{", 2);
	assert_null(json_read_object(deep, 200000));
	free(deep);
}

static void
assert_field(const char *json, const char *name, const char *expected)
{
	struct json_object *object = json_read_object(json, strlen(json));
	char text[32];

	assert_non_null(object);
	assert_int_equal(json_text(object, name, text, sizeof(text)), expected != NULL);
	assert_string_equal(text, expected ? expected : "");
	json_object_put(object);
}

static void
test_fields(void **state)
{
	(void) state;
	assert_field("\xEF\xBB\xBF{\"CodeResult\":\"100\"}\r\n", "CodeResult", "100");
	assert_field("{\"CodeResult\":100}", "CodeResult", "100");
	assert_field("{\"CodeResult\":100.0}", "CodeResult", "100");
	assert_field("{\"CodeResult\":1.5}", "CodeResult", "1.5");
	assert_field("{\"CodeResult\":1e300}", "CodeResult", "1e300");
	assert_field("{\"CodeResult\":true}", "CodeResult", "true");
	assert_field("{\" idOmniMess \":\" x \"}", "idOmniMess", "x");
	assert_field("{\"id_omni_mess\":\"x\"}", "idOmniMess", "x");
	assert_field("{\"coderesult\":\"100\"}", "CodeResult", "100");
	assert_field("{\"CodeResult\":null}", "CodeResult", NULL);
	assert_field("{\"CodeResult\":[1]}", "CodeResult", NULL);
	assert_field("{\"CodeResult\":{}}", "CodeResult", NULL);
	assert_field("{}", "CodeResult", NULL);
	assert_field("{\"a\":\"x\\u0000y\"}", "a", "x y");
	assert_field("{\"a\":\"0123456789012345678901234567890123456789\"}", "a",
				 "0123456789012345678901234567890");
}

int
run_json_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_objects),
		cmocka_unit_test(test_fields),
	};

	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
