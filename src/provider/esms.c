/*
 * esms.c
 *		eSMS (rest.esms.vn): customer-care, fixed-number and advertising messages,
 *		Viber, Zalo ZNS with an SMS behind it, and one-time passwords that the
 *		provider makes and checks.
 *
 * Source: the provider's public documentation (developers.esms.vn) of the calls
 * below and of its delivery callback.  An answer has HTTP status
 * 200 whatever it says; the verdict is CodeResult.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "provider/support.h"
#include "provider/table.h"
#include "text/date.h"
#include "text/json.h"
#include "text/text.h"

#define VIETNAM_OFFSET (7 * 3600) /* no daylight saving */
#define MIN_ADVERTISED 30
#define MAX_ADVERTISED 5000
#define SMS_TYPE_FIXED "8"
#define SMS_TYPE_VIBER "23"

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
	ESMS_OAID,
	ESMS_SMS_CONTENT,
	ESMS_VIBER_IMAGE,
	ESMS_VIBER_LABEL,
	ESMS_VIBER_URL,
};

static const OptionDef esms_options[] = {
	[ESMS_API_KEY] = {"api_key", OPTION_USER, OPTION_TEXT, .max = 200},
	[ESMS_SECRET_KEY] = {"secret_key", OPTION_USER, OPTION_TEXT, .max = 200},
	[ESMS_BRANDNAME] = {"brandname", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 50},
	[ESMS_SMS_TYPE] = {"sms_type", OPTION_SERVER | OPTION_MESSAGE, OPTION_CHOICE, "2",
					   .choices = {"2", "8", "23"}},
	[ESMS_UNICODE] = {"unicode", OPTION_SERVER | OPTION_MESSAGE, OPTION_CHOICE, "auto",
					  .choices = {"auto", "true", "false"}},
	[ESMS_SANDBOX] = {"sandbox", OPTION_SERVER | OPTION_MESSAGE, OPTION_BOOL, .initial = NULL},
	[ESMS_CAMPAIGN_ID] = {"campaign_id", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 254},
	[ESMS_CALLBACK_URL] = {"callback_url", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 1000},
	[ESMS_SEND_DATE] = {"send_date", OPTION_MESSAGE, OPTION_DATE, .initial = NULL},
	[ESMS_OAID] = {"oaid", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 50},
	[ESMS_SMS_CONTENT] = {"sms_content", OPTION_MESSAGE, OPTION_TEXT, .max = 4000},
	[ESMS_VIBER_IMAGE] = {"viber_image", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 1000},
	[ESMS_VIBER_LABEL] = {"viber_label", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 100},
	[ESMS_VIBER_URL] = {"viber_url", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 1000},
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

/* The text of the SMS behind a Zalo message, or NULL. */
static const char *
sms_content(Settings settings, const Message *message)
{
	return message->content != NULL ? message->content : settings[ESMS_SMS_CONTENT];
}

/* The channels of an omni message: ZNS, then SMS if there is a text for it. */
static const char *
route_of(Settings settings, const Message *message)
{
	if (message->routerule != NULL)
		return message->routerule;
	return sms_content(settings, message) != NULL ? "1,3" : "1";
}

static bool
is_viber(Settings settings)
{
	return strcmp(settings[ESMS_SMS_TYPE], SMS_TYPE_VIBER) == 0;
}

static bool
esms_check_omni(Settings settings, const Message *message, Complaint *complaint)
{
	const char *route = route_of(settings, message);
	struct json_object *params;
	bool ordered;

	if (settings[ESMS_OAID] == NULL)
	{
		complain(complaint, "For Zalo: ALTER SERVER ... OPTIONS (ADD oaid '...').",
				 "this eSMS gateway cannot send messages of kind \"omni\" without the option \"oaid\"");
		complaint->unsupported = true;
		return false;
	}
	if (message->template_code == NULL)
		return complain(complaint, NULL, "this message needs a template code");
	if (strchr(route, '2') != NULL)
		return complain(complaint, "Its channels are 1 (ZNS) and 3 (SMS).", "eSMS makes no automatic calls");
	if (strchr(route, '1') == NULL)
		return complain(complaint, "Send a text with sms_send().", "a template is sent over Zalo first");
	if (strchr(route, '3') == NULL)
		return true;
	if (sms_content(settings, message) == NULL)
		return complain(complaint,
						"Give it as the message's option \"sms_content\", or in the column content.",
						"the SMS behind the Zalo message needs a text");
	if (settings[ESMS_BRANDNAME] == NULL)
		return complain(complaint, "ALTER SERVER ... OPTIONS (ADD brandname '...').",
						"this message needs the option \"brandname\"");
	params = json_read_value(message->list_param);
	ordered = params == NULL || !json_object_is_type(params, json_type_object) ||
			  json_object_object_length(params) < 2;
	json_object_put(params);
	if (!ordered)
		return complain(
			complaint, "Write list_param as an array, in the template's order.",
			"Zalo then SMS takes the template's values by their order, which an object does not keep");
	return true;
}

static bool
esms_check(Settings settings, const Message *message, Complaint *complaint)
{
	long long ms;

	if (settings[ESMS_SEND_DATE] != NULL && !date_read(settings[ESMS_SEND_DATE], VIETNAM_OFFSET, &ms))
		return complain(complaint, "Write it as 2026-12-31T08:00:00+07:00.",
						"invalid value for option \"send_date\": \"%s\"", settings[ESMS_SEND_DATE]);

	switch (message->call)
	{
		case CALL_OTP:
			if (message->ttl < 120 || message->ttl > 900 || message->ttl % 60 != 0)
				return complain(complaint, "eSMS takes whole minutes from 2 to 15.",
								"a one-time password of %d seconds cannot be sent", message->ttl);
			break;
		case CALL_BULK:
			if (!is_viber(settings) &&
				(message->nphones < MIN_ADVERTISED || message->nphones > MAX_ADVERTISED))
				return complain(complaint, "eSMS takes 30 to 5,000.", "%d receivers of an advertisement",
								message->nphones);
			break;
		case CALL_TEXT:
			if (strcmp(settings[ESMS_SMS_TYPE], SMS_TYPE_FIXED) == 0)
				return true;
			break;
		case CALL_OMNI:
			return esms_check_omni(settings, message, complaint);
		default:
			return true;
	}
	if (settings[ESMS_BRANDNAME] != NULL)
		return true;
	return complain(complaint, "ALTER SERVER ... OPTIONS (ADD brandname '...'), or use sms_type '8'.",
					"this message needs the option \"brandname\"");
}

/* Does the text go as UCS-2? */
static bool
esms_unicode(Settings settings, const TextShape *shape)
{
	if (strcmp(settings[ESMS_UNICODE], "auto") == 0)
		return shape->ucs2;
	return setting_is_true(settings[ESMS_UNICODE]);
}

static void
put_credentials(struct json_object *body, Settings settings)
{
	json_put_text(body, "ApiKey", settings[ESMS_API_KEY]);
	json_put_text(body, "SecretKey", settings[ESMS_SECRET_KEY]);
}

static void
put_callback(struct json_object *body, Settings settings, const Message *message)
{
	const char *url = settings[ESMS_CALLBACK_URL];
	char *own;

	if (url == NULL)
		return;
	own = text_replace(url, TOKEN_PLACE, message->token != NULL ? message->token : "");
	json_put_text(body, "CallbackUrl", own);
	free(own);
}

static void
put_sandbox(struct json_object *body, const char *name, Settings settings)
{
	if (settings[ESMS_SANDBOX] != NULL)
		json_put_text(body, name, setting_is_true(settings[ESMS_SANDBOX]) ? "1" : "0");
}

static void
put_phones(struct json_object *body, const Message *message)
{
	struct json_object *phones = json_object_new_array_ext(message->nphones);

	for (int i = 0; i < message->nphones; i++)
		json_object_array_add(phones, json_object_new_string(message->phones[i]));
	json_object_object_add(body, "Phones", phones);
}

static void
put_send_date(struct json_object *body, Settings settings)
{
	long long ms;
	time_t vietnam;
	struct tm tm;
	char date[32];

	if (settings[ESMS_SEND_DATE] == NULL || !date_read(settings[ESMS_SEND_DATE], VIETNAM_OFFSET, &ms))
		return;
	vietnam = (time_t) (ms / 1000) + VIETNAM_OFFSET;
	gmtime_r(&vietnam, &tm);
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
	json_put_text(body, "SendDate", date);
}

static struct json_object *
esms_viber(Settings settings, const Message *message)
{
	struct json_object *body = json_object_new_object();

	put_credentials(body, settings);
	put_phones(body, message);
	json_put_text(body, "Content", message->content);
	json_put_text(body, "SmsType", SMS_TYPE_VIBER);
	json_put_text(body, "Brandname", settings[ESMS_BRANDNAME]);
	json_put_text(body, "OttImgUrl", settings[ESMS_VIBER_IMAGE]);
	json_put_text(body, "OttLabel", settings[ESMS_VIBER_LABEL]);
	json_put_text(body, "OttUrl", settings[ESMS_VIBER_URL]);
	put_sandbox(body, "IsSandBox", settings);
	json_put_text(body, "RequestId", message->request_id);
	put_callback(body, settings, message);
	return body;
}

/* A text to one receiver, or an advertisement to many. */
static struct json_object *
esms_text(Settings settings, const Message *message)
{
	struct json_object *body = json_object_new_object();
	const char *sms_type = message->call == CALL_BULK ? "1" : settings[ESMS_SMS_TYPE];

	put_credentials(body, settings);
	if (message->call == CALL_BULK)
		put_phones(body, message);
	else
		json_put_text(body, "Phone", message->phones[0]);
	json_put_text(body, "Content", message->content);
	json_put_text(body, "SmsType", sms_type);
	if (strcmp(sms_type, SMS_TYPE_FIXED) != 0)
		json_put_text(body, "Brandname", settings[ESMS_BRANDNAME]);
	json_put_text(body, "IsUnicode", esms_unicode(settings, &message->shape) ? "1" : "0");
	put_sandbox(body, "Sandbox", settings);
	json_put_text(body, "campaignid", settings[ESMS_CAMPAIGN_ID]);
	json_put_text(body, "RequestId", message->request_id);
	put_callback(body, settings, message);
	put_send_date(body, settings);
	return body;
}

/* The template's variables as [{"key": …, "value": …}]. */
static struct json_object *
zalo_pairs(struct json_object *params)
{
	struct json_object *pairs = json_object_new_array();

	if (!json_object_is_type(params, json_type_object))
		return pairs;
	json_object_object_foreach (params, key, value)
	{
		struct json_object *pair = json_object_new_object();

		json_put_text(pair, "key", key);
		json_put_text(pair, "value", json_object_get_string(value));
		json_object_array_add(pairs, pair);
	}
	return pairs;
}

/* The template's variables as ["...", "..."]. */
static struct json_object *
zalo_values(struct json_object *params)
{
	struct json_object *values = json_object_new_array();

	if (json_object_is_type(params, json_type_array))
	{
		for (size_t i = 0; i < json_object_array_length(params); i++)
			json_object_array_add(
				values, json_object_new_string(json_object_get_string(json_object_array_get_idx(params, i))));
	}
	else if (json_object_is_type(params, json_type_object))
	{
		json_object_object_foreach (params, key, value)
		{
			(void) key;
			json_object_array_add(values, json_object_new_string(json_object_get_string(value)));
		}
	}
	return values;
}

/* Zalo ZNS alone. */
static struct json_object *
esms_zalo(Settings settings, const Message *message)
{
	struct json_object *body = json_object_new_object();
	struct json_object *params = json_read_value(message->list_param);

	put_credentials(body, settings);
	json_put_text(body, "OAID", settings[ESMS_OAID]);
	json_put_text(body, "Phone", message->phones[0]);
	json_put_text(body, "TempID", message->template_code);
	json_object_object_add(body, "TempData", zalo_pairs(params));
	json_put_text(body, "SendingMode", "1");
	put_sandbox(body, "Sandbox", settings);
	json_put_text(body, "campaignid", settings[ESMS_CAMPAIGN_ID]);
	json_put_text(body, "RequestId", message->request_id);
	put_callback(body, settings, message);
	put_send_date(body, settings);
	json_object_put(params);
	return body;
}

/* Zalo, and an SMS where that does not arrive; or the other way round. */
static struct json_object *
esms_multi_channel(Settings settings, const Message *message)
{
	struct json_object *body = json_object_new_object();
	struct json_object *channels = json_object_new_array();
	struct json_object *data = json_object_new_array();
	struct json_object *params = json_read_value(message->list_param);
	const char *content = sms_content(settings, message);
	TextShape shape = {0};

	text_shape(content, strlen(content), CODING_BY_TEXT, &shape);
	put_credentials(body, settings);
	json_put_text(body, "Phone", message->phones[0]);
	for (const char *p = route_of(settings, message); *p; p++)
	{
		struct json_object *channel;

		if (*p != '1' && *p != '3')
			continue;
		channel = json_object_new_object();
		if (*p == '1')
		{
			json_put_text(channel, "TempID", message->template_code);
			json_object_object_add(channel, "Params", zalo_values(params));
			json_put_text(channel, "OAID", settings[ESMS_OAID]);
			json_put_text(channel, "campaignid", settings[ESMS_CAMPAIGN_ID]);
			json_put_text(channel, "SendingMode", "1");
		}
		else
		{
			json_put_text(channel, "Content", content);
			json_put_text(channel, "IsUnicode", esms_unicode(settings, &shape) ? "1" : "0");
			json_put_text(channel, "SmsType", "2");
			json_put_text(channel, "Brandname", settings[ESMS_BRANDNAME]);
		}
		put_sandbox(channel, "Sandbox", settings);
		json_put_text(channel, "RequestId", message->request_id);
		put_callback(channel, settings, message);
		json_object_array_add(data, channel);
		json_object_array_add(channels, json_object_new_string(*p == '1' ? "zalo" : "sms"));
	}
	json_object_object_add(body, "Channels", channels);
	json_object_object_add(body, "Data", data);
	json_object_put(params);
	return body;
}

static bool
esms_build_post(Settings settings, const Message *message, HttpRequest *request)
{
	struct json_object *body;

	if (message->call == CALL_OMNI && strchr(route_of(settings, message), '3') != NULL)
	{
		request->path = "/MainService.svc/json/MultiChannelMessage/";
		body = esms_multi_channel(settings, message);
	}
	else if (message->call == CALL_OMNI)
	{
		request->path = "/MainService.svc/json/SendZaloMessage_V5_post/";
		body = esms_zalo(settings, message);
	}
	else if (is_viber(settings))
	{
		request->path = "/MainService.svc/json/Send_Multiple_Sms_OTT/";
		body = esms_viber(settings, message);
	}
	else
	{
		request->path = message->call == CALL_BULK
							? "/MainService.svc/json/SendMultipleSMSBrandname_json/"
							: "/MainService.svc/json/SendMultipleMessage_V4_post_json/";
		body = esms_text(settings, message);
	}
	request->body = json_write(body);
	return request->body != NULL;
}

static bool
esms_build_balance(Settings settings, HttpRequest *request)
{
	struct json_object *body = json_object_new_object();

	request->path = "/MainService.svc/json/GetBalance_json";
	put_credentials(body, settings);
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
esms_build_status(Settings settings, const Message *message, HttpRequest *request)
{
	request->path = message->call == CALL_STATUS ? "/MainService.svc/json/GetSendStatus"
												 : "/MainService.svc/json/GetSmsReceiverStatus_get";
	add_query(request, "RefId", message->reference);
	add_query(request, "ApiKey", settings[ESMS_API_KEY]);
	add_query(request, "SecretKey", settings[ESMS_SECRET_KEY]);
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
		case CALL_STATUS:
		case CALL_STATUS_DETAIL:
			return esms_build_status(settings, message, request);
		case CALL_BALANCE:
			return esms_build_balance(settings, request);
		default:
			return esms_build_post(settings, message, request);
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

/* A number of receivers; -1 if it is none that could be. */
static long
read_count(struct json_object *body, const char *name, long if_absent)
{
	char number[24];
	long count;

	if (!json_text(body, name, number, sizeof(number)))
		return if_absent;
	count = strtol(number, NULL, 10);
	return count >= 0 && count <= 1000000000 ? count : -1;
}

/*
 * SendStatus: 4 refused, 5 with the operator, others on their way.  With 5 it is
 * final once every receiver counts as SendSuccess or SendFailed.
 */
static bool
esms_report(const char *json, size_t len, Report *report)
{
	struct json_object *body = json_read_object(json, len);
	struct json_object *receivers = json_field(body, "ReceiverList");
	char telco[sizeof(report->telco)];
	long succeeded;
	long failed;
	long receivers_total;

	if (json_object_is_type(receivers, json_type_array) && json_object_array_length(receivers) > 0)
	{
		json_text(json_object_array_get_idx(receivers, 0), "NetworkName", report->telco,
				  sizeof(report->telco));
		json_object_put(body);
		return true;
	}
	json_text(body, "SMSID", report->smsid, sizeof(report->smsid));
	json_text(body, "RequestId", report->request_id, sizeof(report->request_id));
	json_text(body, "token", report->token, sizeof(report->token));
	json_text(body, "TotalPrice", report->price, sizeof(report->price));
	json_text(body, "error_info", report->message, sizeof(report->message));
	if (json_text(body, "telcoid", telco, sizeof(telco)))
		snprintf(report->telco, sizeof(report->telco), "%s", telco_name(telco));
	if (!json_text(body, "SendStatus", report->code, sizeof(report->code)))
	{
		json_object_put(body);
		return false;
	}
	succeeded = read_count(body, "SendSuccess", 0);
	failed = read_count(body, "SendFailed", 0);
	receivers_total = read_count(body, "TotalReceiver", 1);
	if (strcmp(report->code, "4") == 0)
		report->delivery = DELIVERY_UNDELIVERED;
	else if (strcmp(report->code, "5") == 0 && succeeded >= 0 && failed >= 0 && receivers_total >= 0 &&
			 succeeded + failed > 0 && succeeded + failed >= receivers_total)
		report->delivery = succeeded > 0 ? DELIVERY_DELIVERED : DELIVERY_UNDELIVERED;
	json_object_put(body);
	return true;
}

static bool
esms_balance(const HttpAnswer *http, char *amount, size_t size)
{
	struct json_object *body = json_read_object(http->body, http->len);
	bool told = json_text(body, "Balance", amount, size);

	json_object_put(body);
	return told;
}

/*
 * RequestId is documented to make a repeat harmless for 24 hours for texts; the
 * other calls carry it, but nothing says that it does the same there.
 */
static bool
esms_repeat_safe(Settings settings, const Message *message)
{
	return message->call == CALL_TEXT && message->request_id != NULL && !is_viber(settings);
}

const Provider esms_provider = {
	.name = "esms",
	.base_url = "https://rest.esms.vn",
	.calls = CALL_BIT(CALL_TEXT) | CALL_BIT(CALL_OTP) | CALL_BIT(CALL_CHECK_OTP) | CALL_BIT(CALL_OMNI) |
			 CALL_BIT(CALL_BULK) | CALL_BIT(CALL_STATUS) | CALL_BIT(CALL_STATUS_DETAIL) |
			 CALL_BIT(CALL_BALANCE),
	.identified = CALL_BIT(CALL_TEXT) | CALL_BIT(CALL_OMNI) | CALL_BIT(CALL_BULK),
	.max_phones = MAX_ADVERTISED,
	.options = esms_options,
	.needs = {[CALL_OMNI] = &esms_options[ESMS_OAID]},
	.by_name_only = CALL_BIT(CALL_BULK), /* it is advertising */
	.check = esms_check,
	.build = esms_build,
	.read = esms_read,
	.repeat_safe = esms_repeat_safe,
	.repeat_window = 24 * 3600,
	.report = esms_report,
	.balance = esms_balance,
	.status_window = 7 * 24 * 3600,
	.ordered_params = true,
	.unicode_option = &esms_options[ESMS_UNICODE],
	.callback_option = &esms_options[ESMS_CALLBACK_URL],
};
