/*
 * support.c
 *		What several providers need.
 */
#include <json-c/json.h>

#include "provider/support.h"
#include "text/json.h"
#include "unit.h"

static const OptionDef colour = {"colour", OPTION_MESSAGE, OPTION_TEXT, .max = 10};

static void
test_complaints(void **state)
{
	Complaint complaint = {.hint = "left behind"};

	(void) state;
	assert_false(lacks(&complaint, &colour));
	assert_string_equal(complaint.message, "this message needs the option \"colour\"");
	assert_ptr_equal(complaint.missing, &colour);
	assert_null(complaint.hint);
	assert_false(complaint.unsupported);
	assert_false(not_set_up(&complaint, &colour, "this gateway cannot paint"));
	assert_string_equal(complaint.message, "this gateway cannot paint without the option \"colour\"");
	assert_true(complaint.unsupported);
	assert_false(complain(&complaint, "Take another.", "%d colours", 3));
	assert_string_equal(complaint.message, "3 colours");
	assert_string_equal(complaint.hint, "Take another.");
	assert_null(complaint.missing);
	assert_false(complaint.unsupported);
	assert_true(check_date(&complaint, &colour, NULL, 0));
	assert_true(check_date(&complaint, &colour, "2026-12-31T08:00", 0));
	assert_false(check_date(&complaint, &colour, "red", 0));
	assert_string_equal(complaint.message, "invalid value for option \"colour\": \"red\"");
}

/* Neither more than there is room for, nor what is not given. */
static void
test_request(void **state)
{
	HttpRequest request = {0};

	(void) state;
	for (int i = 0; i <= HTTP_MAX_QUERY; i++)
	{
		request_query(&request, "a", "b");
		request_query(&request, "a", NULL);
		request_header(&request, "A", "b");
		request_header(&request, "A", NULL);
	}
	assert_int_equal(request.nquery, HTTP_MAX_QUERY);
	assert_int_equal(request.nheaders, HTTP_MAX_HEADERS);
	assert_true(request_body(&request, "/x", json_object_new_object()));
	assert_string_equal(request.path, "/x");
	assert_string_equal(request.body, "{}");
	free(request.body);
}

static void
test_telco(void **state)
{
	static const char *const cases[][2] = {
		{"{\"telcoid\": 1}", "Viettel"}, {"{\"telcoid\": \"7\"}", "Reddi"}, {"{\"telcoid\": \"8\"}", "8"},
		{"{\"telcoid\": \"12\"}", "12"}, {"{\"telcoid\": \"\"}", ""},       {"{}", "before"},
	};

	(void) state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
	{
		struct json_object *body = json_read_object(cases[i][0], strlen(cases[i][0]));
		Report report = {.telco = "before"};

		read_telco(body, &report);
		assert_string_equal(report.telco, cases[i][1]);
		json_object_put(body);
	}
}

int
run_support_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_complaints),
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_telco),
	};

	return cmocka_run_group_tests_name("support", tests, NULL, NULL);
}
