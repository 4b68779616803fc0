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
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static const CodeMeaning esms_codes[] = {
	{"100", VERDICT_ACCEPTED},
	{"124", VERDICT_ACCEPTED}, /* an earlier attempt with this RequestId was accepted */
	{"199", VERDICT_ACCEPTED}, /* being processed */
	{"101", VERDICT_GATEWAY},  /* bad credentials */
	{"140", VERDICT_GATEWAY},  /* IP address not on the white-list */
	{"102", VERDICT_GATEWAY},  /* no price list */
	{"103", VERDICT_GATEWAY},  /* balance used up */
	{"160", VERDICT_THROTTLED},
	{NULL, VERDICT_PERMANENT},
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

/* Do the template's values have an order?  Those of an object have none, if they are many. */
static bool
is_ordered(const char *list_param)
{
	struct json_object *params = json_read_value(list_param);
	bool ordered = params == NULL || !json_object_is_type(params, json_type_object) ||
				   json_object_object_length(params) < 2;

	json_object_put(params);
	return ordered;
}

static bool
esms_check_omni(Settings settings, const Message *message, Complaint *complaint)
{
	const char *route = route_of(settings, message);

	if (settings[ESMS_OAID] == NULL)
		return not_set_up(complaint, &esms_options[ESMS_OAID],
						  "this eSMS gateway cannot send messages of kind \"omni\"");
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
		return lacks(complaint, &esms_options[ESMS_BRANDNAME]);
	if (!is_ordered(message->list_param))
		return complain(
			complaint, "Write list_param as an array, in the template's order.",
			"Zalo then SMS takes the template's values by their order, which an object does not keep");
	return true;
}

static bool
esms_check(Settings settings, const Message *message, Complaint *complaint)
{
	if (!check_date(complaint, &esms_options[ESMS_SEND_DATE], settings[ESMS_SEND_DATE], VIETNAM_OFFSET))
		return false;
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
	lacks(complaint, &esms_options[ESMS_BRANDNAME]);
	complaint->hint = "Messages of sms_type '8' go from a fixed number and need none.";
	return false;
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
put_send_date(struct json_object *body, Settings settings)
{
	long long ms;
	char date[32];

	if (settings[ESMS_SEND_DATE] == NULL || !date_read(settings[ESMS_SEND_DATE], VIETNAM_OFFSET, &ms))
		return;
	date_write(ms, VIETNAM_OFFSET, "%Y-%m-%d %H:%M:%S", date, sizeof(date));
	json_put_text(body, "SendDate", date);
}

static struct json_object *
esms_viber(Settings settings, const Message *message)
{
	struct json_object *body = json_object_new_object();

	put_credentials(body, settings);
	json_put_texts(body, "Phones", message->phones, message->nphones);
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
		json_put_texts(body, "Phones", message->phones, message->nphones);
	else
		json_put_text(body, "Phone", message->phones[0]);
	json_put_text(body, "Content", message->content);
	json_put_text(body, "SmsType", sms_type);
	if (strcmp(sms_type, SMS_TYPE_FIXED) != 0)
		json_put_text(body, "Brandname", settings[ESMS_BRANDNAME]);
	json_put_text(body, "IsUnicode", goes_as_unicode(settings[ESMS_UNICODE], &message->shape) ? "1" : "0");
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

/* One channel of a message that has several: Zalo … */
static struct json_object *
zalo_channel(Settings settings, const Message *message)
{
	struct json_object *channel = json_object_new_object();
	struct json_object *params = json_read_value(message->list_param);

	json_put_text(channel, "TempID", message->template_code);
	json_object_object_add(channel, "Params", zalo_values(params));
	json_put_text(channel, "OAID", settings[ESMS_OAID]);
	json_put_text(channel, "campaignid", settings[ESMS_CAMPAIGN_ID]);
	json_put_text(channel, "SendingMode", "1");
	json_object_put(params);
	return channel;
}

/* … or SMS. */
static struct json_object *
sms_channel(Settings settings, const Message *message)
{
	struct json_object *channel = json_object_new_object();
	const char *content = sms_content(settings, message);
	TextShape shape = {0};

	text_shape(content, strlen(content), CODING_BY_TEXT, &shape);
	json_put_text(channel, "Content", content);
	json_put_text(channel, "IsUnicode", goes_as_unicode(settings[ESMS_UNICODE], &shape) ? "1" : "0");
	json_put_text(channel, "SmsType", "2");
	json_put_text(channel, "Brandname", settings[ESMS_BRANDNAME]);
	return channel;
}

/* Zalo, and an SMS where that does not arrive; or the other way round. */
static struct json_object *
esms_multi_channel(Settings settings, const Message *message)
{
	struct json_object *body = json_object_new_object();
	struct json_object *channels = json_object_new_array();
	struct json_object *data = json_object_new_array();

	put_credentials(body, settings);
	json_put_text(body, "Phone", message->phones[0]);
	for (const char *p = route_of(settings, message); *p; p++)
	{
		bool zalo = *p == '1';
		struct json_object *channel;

		if (!zalo && *p != '3')
			continue;
		channel = zalo ? zalo_channel(settings, message) : sms_channel(settings, message);
		put_sandbox(channel, "Sandbox", settings);
		json_put_text(channel, "RequestId", message->request_id);
		put_callback(channel, settings, message);
		json_object_array_add(data, channel);
		json_object_array_add(channels, json_object_new_string(zalo ? "zalo" : "sms"));
	}
	json_object_object_add(body, "Channels", channels);
	json_object_object_add(body, "Data", data);
	return body;
}

static bool
esms_build_post(Settings settings, const Message *message, HttpRequest *request)
{
	if (message->call == CALL_OMNI && strchr(route_of(settings, message), '3') != NULL)
		return request_body(request, "/MainService.svc/json/MultiChannelMessage/",
							esms_multi_channel(settings, message));
	if (message->call == CALL_OMNI)
		return request_body(request, "/MainService.svc/json/SendZaloMessage_V5_post/",
							esms_zalo(settings, message));
	if (is_viber(settings))
		return request_body(request, "/MainService.svc/json/Send_Multiple_Sms_OTT/",
							esms_viber(settings, message));
	return request_body(request,
						message->call == CALL_BULK
							? "/MainService.svc/json/SendMultipleSMSBrandname_json/"
							: "/MainService.svc/json/SendMultipleMessage_V4_post_json/",
						esms_text(settings, message));
}

static bool
esms_build_balance(Settings settings, HttpRequest *request)
{
	struct json_object *body = json_object_new_object();

	put_credentials(body, settings);
	return request_body(request, "/MainService.svc/json/GetBalance_json", body);
}

/* The credentials are in the query string: this URL is a secret. */
static bool
esms_build_otp(Settings settings, const Message *message, HttpRequest *request)
{
	request->path = "/MainService.svc/json/SendMessageAutoGenCode_V4_get";
	snprintf(request->scratch[0], sizeof(request->scratch[0]), "%d", message->ttl / 60);
	snprintf(request->scratch[1], sizeof(request->scratch[1]), "%d", message->length);
	request_query(request, "Phone", message->phones[0]);
	request_query(request, "ApiKey", settings[ESMS_API_KEY]);
	request_query(request, "SecretKey", settings[ESMS_SECRET_KEY]);
	request_query(request, "TimeAlive", request->scratch[0]);
	request_query(request, "NumCharOfCode", request->scratch[1]);
	request_query(request, "Brandname", settings[ESMS_BRANDNAME]);
	request_query(request, "Type", "2");
	request_query(request, "message", message->content);
	request_query(request, "IsNumber", message->digits_only ? "1" : "0");
	return true;
}

static bool
esms_build_check(Settings settings, const Message *message, HttpRequest *request)
{
	request->path = "/MainService.svc/json/CheckCodeGen_V4_get";
	request_query(request, "ApiKey", settings[ESMS_API_KEY]);
	request_query(request, "SecretKey", settings[ESMS_SECRET_KEY]);
	request_query(request, "Phone", message->phones[0]);
	request_query(request, "Code", message->code);
	return true;
}

static bool
esms_build_status(Settings settings, const Message *message, HttpRequest *request)
{
	request->path = message->call == CALL_STATUS ? "/MainService.svc/json/GetSendStatus"
												 : "/MainService.svc/json/GetSmsReceiverStatus_get";
	request_query(request, "RefId", message->reference);
	request_query(request, "ApiKey", settings[ESMS_API_KEY]);
	request_query(request, "SecretKey", settings[ESMS_SECRET_KEY]);
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
		answer->verdict = verdict_of(esms_codes, code);
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
static Delivery
esms_delivery(struct json_object *body, const char *send_status)
{
	long succeeded = read_count(body, "SendSuccess", 0);
	long failed = read_count(body, "SendFailed", 0);
	long receivers = read_count(body, "TotalReceiver", 1);

	if (strcmp(send_status, "4") == 0)
		return DELIVERY_UNDELIVERED;
	if (strcmp(send_status, "5") != 0 || succeeded < 0 || failed < 0 || receivers < 0 ||
		succeeded + failed == 0 || succeeded + failed < receivers)
		return DELIVERY_PENDING;
	return succeeded > 0 ? DELIVERY_DELIVERED : DELIVERY_UNDELIVERED;
}

/* Reads the answer to CALL_STATUS_DETAIL, the operator of each receiver; false if the text is another one. */
static bool
read_receivers(struct json_object *body, Report *report)
{
	struct json_object *receivers = json_field(body, "ReceiverList");

	if (!json_object_is_type(receivers, json_type_array) || json_object_array_length(receivers) == 0)
		return false;
	json_text(json_object_array_get_idx(receivers, 0), "NetworkName", report->telco, sizeof(report->telco));
	return true;
}

static bool
esms_report(const char *json, size_t len, Report *report)
{
	struct json_object *body = json_read_object(json, len);
	bool told = read_receivers(body, report);

	if (!told)
	{
		json_text(body, "SMSID", report->smsid, sizeof(report->smsid));
		json_text(body, "RequestId", report->request_id, sizeof(report->request_id));
		json_text(body, "token", report->token, sizeof(report->token));
		json_text(body, "TotalPrice", report->price, sizeof(report->price));
		json_text(body, "error_info", report->message, sizeof(report->message));
		read_telco(body, report);
		told = json_text(body, "SendStatus", report->code, sizeof(report->code));
		report->delivery = told ? esms_delivery(body, report->code) : DELIVERY_PENDING;
	}
	json_object_put(body);
	return told;
}

static bool
esms_balance(const HttpAnswer *http, char *amount, size_t size)
{
	return read_balance(http, "Balance", amount, size);
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
