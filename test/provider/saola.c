/*
 * saola.c
 *		Saola SMS (sms.saola.example): an invented provider, for the test that a provider is
 *		one file and one line of src/provider/list.h, and for whoever writes a real one.
 *
 * Texts, one-time passwords that are made here, delivery, balance.  Its key goes in a
 * header.  "ref" makes a repeat harmless for a day.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "provider/support.h"
#include "provider/table.h"
#include "text/json.h"

enum
{
	SAOLA_KEY,
	SAOLA_SENDER,
	SAOLA_UNICODE,
};

static const OptionDef saola_options[] = {
	[SAOLA_KEY] = {"key", OPTION_USER, OPTION_TEXT, .max = 200},
	[SAOLA_SENDER] = {"sender", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 11},
	[SAOLA_UNICODE] = {"unicode", OPTION_SERVER | OPTION_MESSAGE, OPTION_CHOICE, "auto",
					   .choices = {"auto", "true", "false"}},
	{.name = NULL},
};

/* The field "result". */
static const CodeMeaning saola_results[] = {
	{"ok", VERDICT_ACCEPTED, NULL},
	{"duplicate", VERDICT_ACCEPTED, NULL},
	{"busy", VERDICT_TRANSIENT, NULL},
	{"slow_down", VERDICT_THROTTLED, NULL},
	{"bad_key", VERDICT_GATEWAY, "the key is wrong"},
	{"no_credit", VERDICT_GATEWAY, "the account is empty"},
	{NULL, VERDICT_PERMANENT, NULL},
};

static bool
saola_check(Settings settings, const Message *message, Complaint *complaint)
{
	(void) message;
	return settings[SAOLA_SENDER] != NULL || lacks(complaint, &saola_options[SAOLA_SENDER]);
}

static bool
saola_build_send(Settings settings, const Message *message, HttpRequest *request)
{
	struct json_object *body = json_object_new_object();

	json_put_text(body, "to", message->phones[0]);
	json_put_text(body, "from", settings[SAOLA_SENDER]);
	put_content(body, "text", message);
	json_put_text(body, "alphabet",
				  goes_as_unicode(settings[SAOLA_UNICODE], &message->shape) ? "ucs2" : "gsm7");
	json_put_text(body, "ref", message->request_id);
	return request_body(request, "/v1/messages", body);
}

static bool
saola_build(Settings settings, const Message *message, HttpRequest *request)
{
	request_header(request, "X-Api-Key", settings[SAOLA_KEY]);
	switch (message->call)
	{
		case CALL_STATUS:
			request->path = "/v1/messages";
			request_query(request, "id", message->reference);
			return true;
		case CALL_BALANCE:
			request->path = "/v1/account";
			return true;
		default:
			return saola_build_send(settings, message, request);
	}
}

static void
saola_read(Settings settings, const Message *message, const HttpAnswer *http, Answer *answer)
{
	struct json_object *body = json_read_object(http->body, http->len);
	char result[sizeof(answer->code)];

	(void) settings;
	(void) message;
	if (json_text(body, "result", result, sizeof(result)))
	{
		snprintf(answer->code, sizeof(answer->code), "%s", result);
		json_text(body, "reason", answer->message, sizeof(answer->message));
		json_text(body, "id", answer->smsid, sizeof(answer->smsid));
		answer->verdict = verdict_of(saola_results, result);
	}
	json_object_put(body);
}

static bool
saola_report(const char *json, size_t len, Report *report)
{
	struct json_object *body = json_read_object(json, len);
	bool told = json_text(body, "state", report->code, sizeof(report->code));

	json_text(body, "id", report->smsid, sizeof(report->smsid));
	json_text(body, "ref", report->request_id, sizeof(report->request_id));
	read_telco(body, report);
	if (strcmp(report->code, "delivered") == 0)
		report->delivery = DELIVERY_DELIVERED;
	else if (strcmp(report->code, "lost") == 0)
		report->delivery = DELIVERY_UNDELIVERED;
	json_object_put(body);
	return told;
}

static bool
saola_balance(const HttpAnswer *http, char *amount, size_t size)
{
	return read_balance(http, "balance", amount, size);
}

static bool
saola_repeat_safe(Settings settings, const Message *message)
{
	(void) settings;
	return message->call == CALL_TEXT && message->request_id != NULL;
}

const Provider saola_provider = {
	.name = "saola",
	.base_url = "https://sms.saola.example",
	.calls = CALL_BIT(CALL_TEXT) | CALL_BIT(CALL_OTP) | CALL_BIT(CALL_CHECK_OTP) | CALL_BIT(CALL_STATUS) |
			 CALL_BIT(CALL_BALANCE),
	.identified = CALL_BIT(CALL_TEXT),
	.options = saola_options,
	.check = saola_check,
	.build = saola_build,
	.read = saola_read,
	.repeat_safe = saola_repeat_safe,
	.repeat_window = 24 * 3600,
	.report = saola_report,
	.balance = saola_balance,
	.status_window = 24 * 3600,
	.otp_is_local = true,
	.unicode_option = &saola_options[SAOLA_UNICODE],
};
