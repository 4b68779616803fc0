/*
 * esms.c
 *		eSMS (rest.esms.vn): customer-care and fixed-number messages, and one-time
 *		passwords that the provider makes and checks.
 *
 * Source: the provider's public documentation of SendMultipleMessage_V4,
 * SendMessageAutoGenCode_V4 and CheckCodeGen_V4.  An answer has HTTP status 200
 * whatever it says; the verdict is CodeResult.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "json.h"
#include "provider.h"

#define VIETNAM_OFFSET (7 * 3600) /* no daylight saving */
#define OTP_PLACE      "{OTP}"

enum
{
	ESMS_API_KEY,
	ESMS_SECRET_KEY,
	ESMS_BRANDNAME,
	ESMS_SMS_TYPE,
	ESMS_UNICODE,
	ESMS_SANDBOX,
	ESMS_CAMPAIGN_ID,
	ESMS_CALLBACK_URL,
	ESMS_SEND_DATE,
};

static const OptionDef esms_options[] = {
	[ESMS_API_KEY] = {"api_key", OPTION_USER, OPTION_TEXT, .max = 200},
	[ESMS_SECRET_KEY] = {"secret_key", OPTION_USER, OPTION_TEXT, .max = 200},
	[ESMS_BRANDNAME] = {"brandname", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 50},
	[ESMS_SMS_TYPE] = {"sms_type", OPTION_SERVER | OPTION_MESSAGE, OPTION_CHOICE, "2", .choices = {"2", "8"}},
	[ESMS_UNICODE] = {"unicode", OPTION_SERVER | OPTION_MESSAGE, OPTION_CHOICE, "auto",
					  .choices = {"auto", "true", "false"}},
	[ESMS_SANDBOX] = {"sandbox", OPTION_SERVER | OPTION_MESSAGE, OPTION_BOOL, .initial = NULL},
	[ESMS_CAMPAIGN_ID] = {"campaign_id", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 254},
	[ESMS_CALLBACK_URL] = {"callback_url", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 1000},
	[ESMS_SEND_DATE] = {"send_date", OPTION_MESSAGE, OPTION_DATE, .initial = NULL},
	{.name = NULL},
};

/* What a code means; a code that is not here is permanent. */
static const struct
{
	const char *code;
	Verdict verdict;
} esms_codes[] = {
	{"100", VERDICT_ACCEPTED},
	{"124", VERDICT_ACCEPTED}, /* an earlier attempt with this RequestId was accepted */
	{"199", VERDICT_ACCEPTED}, /* being processed */
	{"101", VERDICT_GATEWAY},  /* bad credentials */
	{"140", VERDICT_GATEWAY},  /* IP address not on the white-list */
	{"102", VERDICT_GATEWAY},  /* no price list */
	{"103", VERDICT_GATEWAY},  /* balance used up */
	{"160", VERDICT_THROTTLED},
};

static bool
esms_check(Settings settings, const Message *message, Complaint *complaint)
{
	long long ms;

	if (settings[ESMS_SEND_DATE] != NULL && !parse_iso_date(settings[ESMS_SEND_DATE], VIETNAM_OFFSET, &ms))
		return complain(complaint, "Write it as 2026-12-31T08:00:00+07:00.",
						"invalid value for option \"send_date\": \"%s\"", settings[ESMS_SEND_DATE]);

	switch (message->call)
	{
		case CALL_OTP:
			if (strstr(message->content, OTP_PLACE) == NULL)
				return complain(complaint, "The provider puts the code in the place of {OTP}.",
								"the text of a one-time password must hold {OTP}");
			if (message->ttl < 120 || message->ttl > 900 || message->ttl % 60 != 0)
				return complain(complaint, "eSMS takes whole minutes from 2 to 15.",
								"a one-time password of %d seconds cannot be sent", message->ttl);
			if (settings[ESMS_BRANDNAME] == NULL)
				break;
			return true;
		case CALL_TEXT:
			if (strcmp(settings[ESMS_SMS_TYPE], "8") == 0 || settings[ESMS_BRANDNAME] != NULL)
				return true;
			break;
		default:
			return true;
	}
	return complain(complaint, "ALTER SERVER … OPTIONS (ADD brandname '…'), or use sms_type '8'.",
					"this message needs the option \"brandname\"");
}

/* Does the text go as UCS-2? */
static bool
esms_unicode(Settings settings, const Message *message)
{
	if (strcmp(settings[ESMS_UNICODE], "auto") == 0)
		return message->shape.ucs2;
	return setting_is_true(settings[ESMS_UNICODE]);
}

static bool
esms_build_text(Settings settings, const Message *message, HttpRequest *request)
{
	struct json_object *body = json_object_new_object();
	const char *sms_type = settings[ESMS_SMS_TYPE];
	long long ms;

	request->path = "/MainService.svc/json/SendMultipleMessage_V4_post_json/";
	json_put_text(body, "ApiKey", settings[ESMS_API_KEY]);
	json_put_text(body, "SecretKey", settings[ESMS_SECRET_KEY]);
	json_put_text(body, "Phone", message->phones[0]);
	json_put_text(body, "Content", message->content);
	json_put_text(body, "SmsType", sms_type);
	if (strcmp(sms_type, "8") != 0)
		json_put_text(body, "Brandname", settings[ESMS_BRANDNAME]);
	json_put_text(body, "IsUnicode", esms_unicode(settings, message) ? "1" : "0");
	if (settings[ESMS_SANDBOX] != NULL)
		json_put_text(body, "Sandbox", setting_is_true(settings[ESMS_SANDBOX]) ? "1" : "0");
	json_put_text(body, "campaignid", settings[ESMS_CAMPAIGN_ID]);
	json_put_text(body, "RequestId", message->request_id);
	json_put_text(body, "CallbackUrl", settings[ESMS_CALLBACK_URL]);
	if (settings[ESMS_SEND_DATE] != NULL && parse_iso_date(settings[ESMS_SEND_DATE], VIETNAM_OFFSET, &ms))
	{
		time_t vietnam = (time_t) (ms / 1000) + VIETNAM_OFFSET;
		struct tm tm;
		char date[32];

		gmtime_r(&vietnam, &tm);
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
		json_put_text(body, "SendDate", date);
	}
	request->body = json_write(body);
	return request->body != NULL;
}

static void
add_query(HttpRequest *request, const char *name, const char *value)
{
	request->query[request->nquery++] = (HttpPair){name, value};
}

/* The credentials are in the query string: this URL is a secret. */
static bool
esms_build_otp(Settings settings, const Message *message, HttpRequest *request)
{
	request->path = "/MainService.svc/json/SendMessageAutoGenCode_V4_get";
	snprintf(request->scratch[0], sizeof(request->scratch[0]), "%d", message->ttl / 60);
	snprintf(request->scratch[1], sizeof(request->scratch[1]), "%d", message->length);
	add_query(request, "Phone", message->phones[0]);
	add_query(request, "ApiKey", settings[ESMS_API_KEY]);
	add_query(request, "SecretKey", settings[ESMS_SECRET_KEY]);
	add_query(request, "TimeAlive", request->scratch[0]);
	add_query(request, "NumCharOfCode", request->scratch[1]);
	add_query(request, "Brandname", settings[ESMS_BRANDNAME]);
	add_query(request, "Type", "2");
	add_query(request, "message", message->content);
	add_query(request, "IsNumber", message->digits_only ? "1" : "0");
	return true;
}

static bool
esms_build_check(Settings settings, const Message *message, HttpRequest *request)
{
	request->path = "/MainService.svc/json/CheckCodeGen_V4_get";
	add_query(request, "ApiKey", settings[ESMS_API_KEY]);
	add_query(request, "SecretKey", settings[ESMS_SECRET_KEY]);
	add_query(request, "Phone", message->phones[0]);
	add_query(request, "Code", message->code);
	return true;
}

static bool
esms_build(Settings settings, const Message *message, HttpRequest *request)
{
	switch (message->call)
	{
		case CALL_OTP:
			return esms_build_otp(settings, message, request);
		case CALL_CHECK_OTP:
			return esms_build_check(settings, message, request);
		default:
			return esms_build_text(settings, message, request);
	}
}

static void
esms_read(Settings settings, const Message *message, const HttpAnswer *http, Answer *answer)
{
	struct json_object *body = json_read_object(http->body, http->len);
	char code[sizeof(answer->code)];

	(void) settings;
	(void) message;
	if (json_text(body, "CodeResult", code, sizeof(code)) ||
		json_text(body, "CodeResponse", code, sizeof(code)))
	{
		memcpy(answer->code, code, sizeof(code));
		json_text(body, "ErrorMessage", answer->message, sizeof(answer->message));
		json_text(body, "SMSID", answer->smsid, sizeof(answer->smsid));
		answer->verdict = VERDICT_PERMANENT;
		for (size_t i = 0; i < sizeof(esms_codes) / sizeof(esms_codes[0]); i++)
		{
			if (strcmp(esms_codes[i].code, code) == 0)
				answer->verdict = esms_codes[i].verdict;
		}
	}
	else if (json_field(body, "error") != NULL && http->status < 300)
	{
		/* Documented as code 99: the provider broke over the request. */
		snprintf(answer->code, sizeof(answer->code), "99");
		json_text(body, "error", answer->message, sizeof(answer->message));
	}
	json_object_put(body);
}

/* RequestId makes a repeat harmless for 24 hours; an OTP has none. */
static bool
esms_repeat_safe(Settings settings, const Message *message)
{
	(void) settings;
	return message->call == CALL_TEXT && message->request_id != NULL;
}

const Provider esms_provider = {
	.name = "esms",
	.base_url = "https://rest.esms.vn",
	.calls = CALL_BIT(CALL_TEXT) | CALL_BIT(CALL_OTP) | CALL_BIT(CALL_CHECK_OTP),
	.options = esms_options,
	.check = esms_check,
	.build = esms_build,
	.read = esms_read,
	.repeat_safe = esms_repeat_safe,
	.repeat_window = 24 * 3600,
};
