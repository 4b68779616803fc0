/*
 * url.c
 *		Which URLs requests may go to, and what is written into one.
 */
#include "net/url.h"
#include "unit.h"

static void
test_refused_urls(void **state)
{
	(void) state;
	assert_null(url_refusal(&(UrlParts){.scheme = "https", .host = "x.example"}));
	assert_null(url_refusal(&(UrlParts){.scheme = "http", .host = "x.example"}));
	assert_string_equal(url_refusal(&(UrlParts){.scheme = "ftp", .has_user = true}),
						"It starts neither with https:// nor with http://.");
	assert_string_equal(
		url_refusal(&(UrlParts){.scheme = "https", .has_user = true}),
		"It holds a user name; credentials belong into the user mapping (for a proxy: proxy_user and "
		"proxy_password).");
}

static void
test_refused_texts(void **state)
{
	(void) state;
	assert_null(url_text_refusal("https://x.example/api/v1"));
	assert_string_equal(url_text_refusal("https://x.example/a?"), "It holds a query.");
	assert_string_equal(url_text_refusal("http://127.0.0.1:6612/admin/restart#"), "It holds a fragment.");
	assert_string_equal(url_text_refusal("https://x.example/a b"),
						"It holds a blank or a control character.");
	assert_string_equal(url_text_refusal("https://x.example/\r\nHost:"),
						"It holds a blank or a control character.");
	assert_string_equal(url_text_refusal("https://x.example\\@y.example"), "It holds a backslash.");
	assert_non_null(url_text_refusal("https://@x.example"));
}

static void
test_plain_remote(void **state)
{
	static const char *const here[] = {"localhost", "127.0.0.1", "127.255.0.9", "[::1]"};
	static const char *const remote[] = {
		"127.evil.example", "localhost.example", "128.0.0.1", "127.0.0.1.example", "[::2]", ""};

	(void) state;
	for (size_t i = 0; i < sizeof(here) / sizeof(here[0]); i++)
	{
		UrlParts parts = {.scheme = "http"};

		strcpy(parts.host, here[i]);
		assert_false(url_is_plain_remote(&parts));
	}
	for (size_t i = 0; i < sizeof(remote) / sizeof(remote[0]); i++)
	{
		UrlParts parts = {.scheme = "http"};

		strcpy(parts.host, remote[i]);
		assert_true(url_is_plain_remote(&parts));
		strcpy(parts.scheme, "https");
		assert_false(url_is_plain_remote(&parts));
	}
}

static void
test_escape(void **state)
{
	char *escaped = url_escape("aZ09-._~ +&=?#%/\"\xC3\xA9\n");

	(void) state;
	assert_string_equal(escaped, "aZ09-._~%20%2B%26%3D%3F%23%25%2F%22%C3%A9%0A");
	free(escaped);
	escaped = url_escape("");
	assert_string_equal(escaped, "");
	free(escaped);
}

static void
test_make(void **state)
{
	HttpRequest request = {.path = "/send", .query = {{"Phone", "84 9"}, {"Key", "a&b"}}, .nquery = 2};
	char *url = url_make("https://x.example/api//", &request);

	(void) state;
	assert_string_equal(url, "https://x.example/api/send?Phone=84%209&Key=a%26b");
	free(url);
	request.nquery = 0;
	url = url_make("https://x.example", &request);
	assert_string_equal(url, "https://x.example/send");
	free(url);
}

int
run_url_tests(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused_urls), cmocka_unit_test(test_refused_texts),
		cmocka_unit_test(test_plain_remote), cmocka_unit_test(test_escape),
		cmocka_unit_test(test_make),
	};

	return cmocka_run_group_tests_name("url", tests, NULL, NULL);
}
