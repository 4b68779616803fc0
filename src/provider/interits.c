/*
 * interits.c
 *		Interits CPaaS (cpaas.interits.com): text messages to one or many
 *		receivers.
 *
 * Source: the provider's public documentation of send-message and its delivery
 * callback.  It names neither the values of "code" nor what a repeated requestId does;
 * hence the options success_codes and idempotent.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "provider/support.h"
#include "provider/table.h"
#include "text/date.h"
#include "text/json.h"
#include "text/text.h"

enum
{
	INTERITS_API_KEY,
	INTERITS_SENDER,
	INTERITS_TYPE,
	INTERITS_UNICODE,
	INTERITS_IDEMPOTENT,
	INTERITS_SUCCESS_CODES,
	INTERITS_SCHEDULED,
	INTERITS_EXT,
};

static const OptionDef interits_options[] = {
	[INTERITS_API_KEY] = {"api_key", OPTION_USER, OPTION_TEXT, .max = 1000},
	[INTERITS_SENDER] = {"sender", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 50},
	[INTERITS_TYPE] = {"type", OPTION_SERVER | OPTION_MESSAGE, OPTION_INT, .min = 0, .max = 1000000},
	[INTERITS_UNICODE] = {"unicode", OPTION_SERVER | OPTION_MESSAGE, OPTION_CHOICE, "auto",
						  .choices = {"auto", "true", "false", "strip"}},
	[INTERITS_IDEMPOTENT] = {"idempotent", OPTION_SERVER, OPTION_BOOL, .initial = NULL},
	[INTERITS_SUCCESS_CODES] = {"success_codes", OPTION_SERVER, OPTION_INT_LIST, .initial = "0,200,201,204"},
	[INTERITS_SCHEDULED] = {"scheduled", OPTION_MESSAGE, OPTION_DATE, .initial = NULL},
	[INTERITS_EXT] = {"ext", OPTION_MESSAGE, OPTION_JSON, .initial = NULL},
	{.name = NULL},
};

static bool
interits_check(Settings settings, const Message *message, Complaint *complaint)
{
	(void) message;
	if (settings[INTERITS_SENDER] == NULL)
		return lacks(complaint, &interits_options[INTERITS_SENDER]);
	return check_date(complaint, &interits_options[INTERITS_SCHEDULED], settings[INTERITS_SCHEDULED], 0);
}

/* Writes a time as the provider's example has it: UTC, milliseconds, Z. */
static void
put_scheduled(struct json_object *body, const char *scheduled)
{
	long long ms;
	char date[32];
	char text[48];

	if (scheduled == NULL || !date_read(scheduled, 0, &ms))
		return;
	date_write(ms, 0, "%Y-%m-%dT%H:%M:%S", date, sizeof(date));
	snprintf(text, sizeof(text), "%s.%03dZ", date, (int) (ms % 1000));
	json_put_text(body, "scheduled", text);
}

/* 0 is customer care, 1 advertising, 2 a one-time password. */
static int
type_of(Settings settings, const Message *message)
{
	if (settings[INTERITS_TYPE] != NULL)
		return atoi(settings[INTERITS_TYPE]);
	return message->call == CALL_OTP ? 2 : 0;
}

/* 0: as it is; 1: as Unicode; 2: the provider takes the diacritics off. */
static int
unicode_of(Settings settings, const Message *message)
{
	if (strcmp(settings[INTERITS_UNICODE], "strip") == 0)
		return 2;
	return goes_as_unicode(settings[INTERITS_UNICODE], &message->shape) ? 1 : 0;
}

static bool
interits_build(Settings settings, const Message *message, HttpRequest *request)
{
	struct json_object *body = json_object_new_object();

	request_header(request, "API-KEY", settings[INTERITS_API_KEY]);
	json_put_texts(body, "destinations", message->phones, message->nphones);
	json_put_text(body, "from", settings[INTERITS_SENDER]);
	put_content(body, "text", message);
	put_scheduled(body, settings[INTERITS_SCHEDULED]);
	json_put_text(body, "requestId", message->request_id);
	json_object_object_add(body, "useUnicode", json_object_new_int(unicode_of(settings, message)));
	json_object_object_add(body, "type", json_object_new_int(type_of(settings, message)));
	json_put_raw(body, "ext", settings[INTERITS_EXT]);
	return request_body(request, "/api/vendor/v1/sms/send-message", body);
}

/* Is a code on a list such as '0, 200'? */
static bool
on_list(const char *list, const char *code)
{
	char *end;
	long wanted = strtol(code, &end, 10);

	if (*end != '\0' || end == code)
		return false;
	while (*list)
	{
		if (strtol(list, &end, 10) == wanted)
			return true;
		list = end + strspn(end, ", ");
	}
	return false;
}

static void
interits_read(Settings settings, const Message *message, const HttpAnswer *http, Answer *answer)
{
	struct json_object *body = json_read_object(http->body, http->len);
	bool has_code;
	char code[sizeof(answer->code)];

	(void) message;
	if (body == NULL)
		return;
	has_code = json_text(body, "code", code, sizeof(code));
	if (has_code)
		memcpy(answer->code, code, sizeof(code));
	answer->coded = has_code;
	json_text(body, "message", answer->message, sizeof(answer->message));
	json_text(body, "referentId", answer->referent_id, sizeof(answer->referent_id));
	json_text(json_field(body, "data"), "token", answer->token, sizeof(answer->token));
	if (http->status < 300)
		answer->verdict = !has_code || on_list(settings[INTERITS_SUCCESS_CODES], code) ? VERDICT_ACCEPTED
						  : answer->referent_id[0] != '\0' || answer->token[0] != '\0' ? VERDICT_UNCERTAIN
																					   : VERDICT_PERMANENT;
	json_object_put(body);
}

/*
 * The values of status are not documented; 0 is success by the custom of HTTP
 * gateways.
 */
static bool
interits_report(const char *json, size_t len, Report *report)
{
	struct json_object *body = json_read_object(json, len);
	bool told = json_text(body, "status", report->code, sizeof(report->code));

	json_text(body, "referentId", report->referent_id, sizeof(report->referent_id));
	json_text(body, "requestId", report->request_id, sizeof(report->request_id));
	json_text(body, "token", report->token, sizeof(report->token));
	if (told)
		report->delivery = strcmp(report->code, "0") == 0 ? DELIVERY_DELIVERED : DELIVERY_UNDELIVERED;
	json_object_put(body);
	return told;
}

/* A second one-time password is another code: the first answer could be to either. */
static bool
interits_repeat_safe(Settings settings, const Message *message)
{
	return setting_is_true(settings[INTERITS_IDEMPOTENT]) && message->request_id != NULL &&
		   message->call != CALL_OTP;
}

const Provider interits_provider = {
	.name = "interits",
	.base_url = "https://cpaas.interits.com",
	.calls = CALL_BIT(CALL_TEXT) | CALL_BIT(CALL_BULK) | CALL_BIT(CALL_OTP) | CALL_BIT(CALL_CHECK_OTP),
	.identified = CALL_BIT(CALL_TEXT) | CALL_BIT(CALL_BULK),
	.max_phones = 1000,
	.options = interits_options,
	.check = interits_check,
	.build = interits_build,
	.read = interits_read,
	.repeat_safe = interits_repeat_safe,
	.report = interits_report,
	.otp_is_local = true,
	.unicode_option = &interits_options[INTERITS_UNICODE],
};
