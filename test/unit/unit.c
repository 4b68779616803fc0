/*
 * unit.c
 *		What the unit tests share.
 */
#include <stdlib.h>

#include "provider/answer.h"
#include "unit.h"

const char *const one_phone[1] = {"84901234567"};

/* Reads an HTTP answer as a provider does. */
Answer
read_answer(const Provider *provider, Settings settings, const Message *message, int status, const char *body)
{
	HttpAnswer http = {.progress = HTTP_ANSWERED,
					   .status = status,
					   .body = strdup(body),
					   .len = strlen(body),
					   .retry_after = -1};
	Answer answer;

	answer_read(provider, settings, message, NULL, &http, &answer);
	free(http.body);
	return answer;
}

/* Reads a report, which has to tell a delivery, the provider's word for it and the message's id. */
Report
assert_report(const Provider *provider, const char *json, Delivery delivery, const char *code, const char *id)
{
	Report report;

	memset(&report, 0, sizeof(report));
	assert_true(provider->report(json, strlen(json), &report));
	if (report.delivery != delivery)
		fail_msg("%s: delivery %d, not %d", json, report.delivery, delivery);
	assert_string_equal(report.code, code);
	assert_string_equal(report.smsid[0]          ? report.smsid
						: report.id_omni_mess[0] ? report.id_omni_mess
												 : report.referent_id,
						id);
	return report;
}

/* A message's request has to have this path and this body. */
void
assert_body(const Provider *provider, Settings settings, const Message *message, const char *path,
			const char *expected)
{
	HttpRequest request = {0};

	assert_true(provider->build(settings, message, &request));
	assert_string_equal(request.path, path);
	assert_string_equal(request.body, expected);
	free(request.body);
}

/* The place of an option in a provider's table. */
static int
option_at(const Provider *provider, const char *name)
{
	for (int i = 0; provider->options[i].name != NULL; i++)
	{
		if (strcmp(provider->options[i].name, name) == 0)
			return i;
	}
	fail_msg("%s has no option %s", provider->name, name);
	return -1;
}

/* Settings with the table's defaults and the given names and values, ended by NULL. */
void
fill_settings(const Provider *provider, const char **settings, const char *const *given)
{
	for (int i = 0; provider->options[i].name != NULL; i++)
		settings[i] = provider->options[i].initial;
	for (; *given != NULL; given += 2)
		settings[option_at(provider, given[0])] = given[1];
}
