/*
 * esms_build.c
 *		The requests of eSMS; esms.c says from which documentation.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "provider/esms.h"
#include "text/date.h"
#include "text/json.h"
#include "text/text.h"

/* The text of the SMS behind a Zalo message, or NULL. */
const char *
esms_sms_content(Settings settings, const Message *message)
{
	return message->content != NULL ? message->content : settings[ESMS_SMS_CONTENT];
}

/* The channels of an omni message: ZNS, then SMS if there is a text for it. */
const char *
esms_route_of(Settings settings, const Message *message)
{
	if (message->routerule != NULL)
		return message->routerule;
	return esms_sms_content(settings, message) != NULL ? "1,3" : "1";
}

/* Do texts go over Viber, by the option "sms_type"? */
bool
esms_is_viber(Settings settings)
{
	return strcmp(settings[ESMS_SMS_TYPE], SMS_TYPE_VIBER) == 0;
}

/* Are one-time passwords made here, and go as texts? */
bool
esms_otp_is_local(Settings settings)
{
	return strcmp(settings[ESMS_OTP_MAKER], OTP_LOCAL) == 0;
}

/* As which request a message goes. */
EsmsRequest
esms_request_of(Settings settings, const Message *message)
{
	switch (message->call)
	{
		case CALL_OTP:
			if (!esms_otp_is_local(settings))
				return ESMS_OTP;
			return strcmp(settings[ESMS_SMS_TYPE], SMS_TYPE_FIXED) == 0 ? ESMS_FIXED : ESMS_TEXT;
		case CALL_OMNI:
			return strchr(esms_route_of(settings, message), '3') != NULL ? ESMS_ZALO_THEN_SMS : ESMS_ZALO;
		case CALL_TEXT:
		case CALL_BULK:
			if (esms_is_viber(settings))
				return ESMS_VIBER;
			if (message->call == CALL_BULK)
				return ESMS_ADVERTISEMENT;
			return strcmp(settings[ESMS_SMS_TYPE], SMS_TYPE_FIXED) == 0 ? ESMS_FIXED : ESMS_TEXT;
		default:
			return ESMS_QUESTION;
	}
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
	put_send_date(body, settings);
	return body;
}

/* Of messages from a fixed number the documentation spells it in two ways. */
static void
put_unicode(struct json_object *body, const char *unicode, const char *sms_type)
{
	json_put_text(body, "IsUnicode", unicode);
	if (strcmp(sms_type, SMS_TYPE_FIXED) == 0)
		json_put_text(body, "Unicode", unicode);
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
	put_content(body, "Content", message);
	json_put_text(body, "SmsType", sms_type);
	if (strcmp(sms_type, SMS_TYPE_FIXED) != 0)
		json_put_text(body, "Brandname", settings[ESMS_BRANDNAME]);
	put_unicode(body, goes_as_unicode(settings[ESMS_UNICODE], &message->shape) ? "1" : "0", sms_type);
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
	const char *content = esms_sms_content(settings, message);
	TextShape shape = {0};

	text_shape(content, strlen(content), CODING_BY_ASCII, &shape);
	json_put_text(channel, "Content", content);
	json_put_text(channel, "IsUnicode", goes_as_unicode(settings[ESMS_UNICODE], &shape) ? "1" : "0");
	json_put_text(channel, "SmsType", "2");
	json_put_text(channel, "Brandname", settings[ESMS_BRANDNAME]);
	return channel;
}

/*
 * The RequestId of the SMS behind a Zalo message, from that of the message: the count of refusals behind its dot is a letter,
 * and "a" is 0.  At most REQUEST_ID_MAX characters, like that.
 */
static void
sms_request_id(const char *request_id, char *own)
{
	const char *dot = strrchr(request_id, '.');
	bool counted = dot != NULL && dot[1] >= '0' && dot[1] <= '9' && dot[2] == '\0';
	int length = counted ? (int) (dot - request_id) : (int) strlen(request_id);

	snprintf(own, REQUEST_ID_MAX + 1, "%.*s.%c", length < REQUEST_ID_MAX - 2 ? length : REQUEST_ID_MAX - 2,
			 request_id, counted ? 'a' + dot[1] - '0' : 'a');
}

/*
 * Zalo, then SMS: eSMS wants all of its channels, in its order.  The Zalo leg has the message's RequestId, and the SMS one of
 * its own: eSMS takes each once in 24 hours.
 */
int
esms_legs(Settings settings, const Message *message, Leg *legs)
{
	if (esms_request_of(settings, message) != ESMS_ZALO_THEN_SMS || message->request_id == NULL)
		return 0;
	legs[0].channel = ESMS_CHANNEL_ZALO;
	snprintf(legs[0].request_id, sizeof(legs[0].request_id), "%s", message->request_id);
	legs[1].channel = ESMS_CHANNEL_SMS;
	sms_request_id(message->request_id, legs[1].request_id);
	return 2;
}

/* Zalo, and an SMS where that does not arrive. */
static struct json_object *
esms_multi_channel(Settings settings, const Message *message)
{
	struct json_object *body = json_object_new_object();
	struct json_object *channels = json_object_new_array();
	struct json_object *data = json_object_new_array();
	Leg legs[MAX_ROUTES];
	int nlegs = esms_legs(settings, message, legs);

	put_credentials(body, settings);
	json_put_text(body, "Phone", message->phones[0]);
	for (int i = 0; i < 2; i++)
	{
		struct json_object *channel =
			i == 0 ? zalo_channel(settings, message) : sms_channel(settings, message);

		put_sandbox(channel, "Sandbox", settings);
		if (nlegs > 0)
			json_put_text(channel, "RequestId", legs[i].request_id);
		put_callback(channel, settings, message);
		json_object_array_add(data, channel);
		json_object_array_add(channels,
							  json_object_new_string(i == 0 ? ESMS_CHANNEL_ZALO : ESMS_CHANNEL_SMS));
	}
	json_object_object_add(body, "Channels", channels);
	json_object_object_add(body, "Data", data);
	return body;
}

static bool
esms_build_post(Settings settings, const Message *message, HttpRequest *request)
{
	switch (esms_request_of(settings, message))
	{
		case ESMS_ZALO_THEN_SMS:
			return request_body(request, "/MainService.svc/json/MultiChannelMessage/",
								esms_multi_channel(settings, message));
		case ESMS_ZALO:
			return request_body(request, "/MainService.svc/json/SendZaloMessage_V5_post/",
								esms_zalo(settings, message));
		case ESMS_VIBER:
			return request_body(request, "/MainService.svc/json/Send_Multiple_Sms_OTT/",
								esms_viber(settings, message));
		case ESMS_ADVERTISEMENT:
			return request_body(request, "/MainService.svc/json/SendMultipleSMSBrandname_json/",
								esms_text(settings, message));
		default:
			return request_body(request, "/MainService.svc/json/SendMultipleMessage_V4_post_json/",
								esms_text(settings, message));
	}
}

static bool
esms_build_balance(Settings settings, HttpRequest *request)
{
	struct json_object *body = json_object_new_object();

	put_credentials(body, settings);
	return request_body(request, "/MainService.svc/json/GetBalance_json", body);
}

/* A page of what the account has sent; times are Vietnam's. */
static bool
esms_build_sent(Settings settings, const SentPage *page, HttpRequest *request)
{
	struct json_object *body = json_object_new_object();
	char time[32];

	put_credentials(body, settings);
	json_put_text(body, "SmsType", page->list);
	date_write(page->from, VIETNAM_OFFSET, "%Y-%m-%d %H:%M:%S", time, sizeof(time));
	json_put_text(body, "From", time);
	date_write(page->to, VIETNAM_OFFSET, "%Y-%m-%d %H:%M:%S", time, sizeof(time));
	json_put_text(body, "To", time);
	json_object_object_add(body, "Page", json_object_new_int(page->number));
	json_object_object_add(body, "PageSize", json_object_new_int(SENT_PAGE_SIZE));
	return request_body(request, "/MainService.svc/json/GetSmsSentData_V2", body);
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

/* Here the credentials are in the path. */
static bool
esms_build_brandnames(Settings settings, HttpRequest *request)
{
	request->path = "/MainService.svc/json/GetListBrandname";
	request->segment[request->nsegments++] = settings[ESMS_API_KEY];
	request->segment[request->nsegments++] = settings[ESMS_SECRET_KEY];
	return true;
}

static bool
esms_build_templates(Settings settings, const Message *message, HttpRequest *request)
{
	struct json_object *body = json_object_new_object();

	put_credentials(body, settings);
	json_put_text(body, "SmsType", "2");
	json_put_text(body, "Brandname",
				  message->reference != NULL ? message->reference : settings[ESMS_BRANDNAME]);
	return request_body(request, "/MainService.svc/json/GetTemplate/", body);
}

static bool
esms_build_price(Settings settings, const Message *message, HttpRequest *request)
{
	bool fixed = strcmp(settings[ESMS_SMS_TYPE], SMS_TYPE_FIXED) == 0;

	request->path = "/MainService.svc/json/SummaryMultipleMessage_V4_get";
	request_query(request, "Phone", message->phones[0]);
	request_query(request, "Content", message->content);
	request_query(request, "ApiKey", settings[ESMS_API_KEY]);
	request_query(request, "SecretKey", settings[ESMS_SECRET_KEY]);
	request_query(request, "SmsType", fixed ? SMS_TYPE_FIXED : "2");
	request_query(request, "BrandName", fixed ? NULL : settings[ESMS_BRANDNAME]);
	request_query(request, "IsUnicode", goes_as_unicode(settings[ESMS_UNICODE], &message->shape) ? "1" : "0");
	return true;
}

/* Fills the request for a message, as Provider says. */
bool
esms_build(Settings settings, const Message *message, HttpRequest *request)
{
	switch (message->call)
	{
		case CALL_OTP:
			return esms_otp_is_local(settings) ? esms_build_post(settings, message, request)
											   : esms_build_otp(settings, message, request);
		case CALL_CHECK_OTP:
			return esms_build_check(settings, message, request);
		case CALL_STATUS:
		case CALL_STATUS_DETAIL:
			return esms_build_status(settings, message, request);
		case CALL_BALANCE:
			return esms_build_balance(settings, request);
		case CALL_BRANDNAMES:
			return esms_build_brandnames(settings, request);
		case CALL_TEMPLATES:
			return esms_build_templates(settings, message, request);
		case CALL_PRICE:
			return esms_build_price(settings, message, request);
		case CALL_SENT_LIST:
			return esms_build_sent(settings, message->sent, request);
		default:
			return esms_build_post(settings, message, request);
	}
}
