/*
 * esms.c
 *		eSMS (rest.esms.vn): customer-care, fixed-number and advertising messages,
 *		Viber, Zalo ZNS with an SMS behind it, and one-time passwords that the
 *		provider makes and checks, or that are made here and go as texts.
 *
 * Its requests are in esms_build.c.
 *
 * Source: the provider's public documentation (developers.esms.vn) of the calls
 * below and of its delivery callback.  An answer has HTTP status
 * 200 whatever it says; the verdict is CodeResult.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "provider/esms.h"
#include "provider/table.h"
#include "text/date.h"
#include "text/json.h"
#include "text/text.h"

#define MIN_ADVERTISED 30
#define MAX_ADVERTISED 5000

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
	[ESMS_CALLBACK_URL] = {"callback_url", OPTION_SERVER | OPTION_MESSAGE, OPTION_LINK, .max = 1000},
	[ESMS_SEND_DATE] = {"send_date", OPTION_MESSAGE, OPTION_DATE, .initial = NULL},
	[ESMS_OAID] = {"oaid", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 50},
	[ESMS_SMS_CONTENT] = {"sms_content", OPTION_MESSAGE, OPTION_TEXT, .max = 4000},
	[ESMS_VIBER_IMAGE] = {"viber_image", OPTION_SERVER | OPTION_MESSAGE, OPTION_LINK, .max = 1000},
	[ESMS_VIBER_LABEL] = {"viber_label", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 100},
	[ESMS_VIBER_URL] = {"viber_url", OPTION_SERVER | OPTION_MESSAGE, OPTION_LINK, .max = 1000},
	[ESMS_CHECK_TEMPLATES] = {"check_templates", OPTION_SERVER, OPTION_CHOICE, "off",
							  .choices = {"off", "warn", "refuse"}},
	[ESMS_OTP_MAKER] = {"otp", OPTION_SERVER, OPTION_CHOICE, "provider", .choices = {"provider", OTP_LOCAL}},
	{.name = NULL},
};

static const CodeMeaning esms_codes[] = {
	{"100", VERDICT_ACCEPTED, NULL},
	{"124", VERDICT_UNCERTAIN, NULL}, /* the RequestId has been used: see read_duplicate() */
	{"199", VERDICT_ACCEPTED, NULL},  /* being processed */
	{"101", VERDICT_GATEWAY, "api_key or secret_key is wrong"},
	{"143", VERDICT_GATEWAY, "the account is locked, or not activated yet"},
	{"140", VERDICT_GATEWAY, "this server's address is not on the account's white-list"},
	{"102", VERDICT_GATEWAY, "the account has no price list"},
	{"103", VERDICT_GATEWAY, "the balance is used up"},
	{"160", VERDICT_THROTTLED, NULL},
	{NULL, VERDICT_PERMANENT, NULL},
};

/* Of the check of a one-time password: of what is not listed, nothing is known about the code. */
static const CodeMeaning check_codes[] = {
	{"100", VERDICT_ACCEPTED, NULL},  {"117", VERDICT_PERMANENT, NULL},
	{"171", VERDICT_PERMANENT, NULL}, /* used, expired or wrong */
	{"101", VERDICT_GATEWAY, NULL},   {"140", VERDICT_GATEWAY, NULL},
	{"143", VERDICT_GATEWAY, NULL},   {"160", VERDICT_THROTTLED, NULL},
	{NULL, VERDICT_UNCERTAIN, NULL},
};

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
	const char *route = esms_route_of(settings, message);

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
	if (strchr(route, '3') < strchr(route, '1'))
		return complain(complaint, "Write routerule as {1,3}.",
						"eSMS sends over Zalo first, and then as SMS");
	if (esms_sms_content(settings, message) == NULL)
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

/* The options, and what a request is called, by EsmsRequest. */
static const struct
{
	const char *name;
	unsigned options;
} esms_requests[] = {
	[ESMS_TEXT] = {"a text", OPTION_BIT(ESMS_BRANDNAME) | OPTION_BIT(ESMS_SMS_TYPE) |
								 OPTION_BIT(ESMS_UNICODE) | OPTION_BIT(ESMS_SANDBOX) |
								 OPTION_BIT(ESMS_CAMPAIGN_ID) | OPTION_BIT(ESMS_CALLBACK_URL) |
								 OPTION_BIT(ESMS_SEND_DATE)},
	[ESMS_FIXED] = {"a text from a fixed number",
					OPTION_BIT(ESMS_SMS_TYPE) | OPTION_BIT(ESMS_UNICODE) | OPTION_BIT(ESMS_SANDBOX) |
						OPTION_BIT(ESMS_CAMPAIGN_ID) | OPTION_BIT(ESMS_CALLBACK_URL) |
						OPTION_BIT(ESMS_SEND_DATE)},
	[ESMS_VIBER] = {"a Viber message", OPTION_BIT(ESMS_BRANDNAME) | OPTION_BIT(ESMS_SMS_TYPE) |
										   OPTION_BIT(ESMS_SANDBOX) | OPTION_BIT(ESMS_CALLBACK_URL) |
										   OPTION_BIT(ESMS_SEND_DATE) | OPTION_BIT(ESMS_VIBER_IMAGE) |
										   OPTION_BIT(ESMS_VIBER_LABEL) | OPTION_BIT(ESMS_VIBER_URL)},
	[ESMS_ADVERTISEMENT] = {"an advertisement", OPTION_BIT(ESMS_BRANDNAME) | OPTION_BIT(ESMS_UNICODE) |
													OPTION_BIT(ESMS_SANDBOX) | OPTION_BIT(ESMS_CAMPAIGN_ID) |
													OPTION_BIT(ESMS_CALLBACK_URL) |
													OPTION_BIT(ESMS_SEND_DATE)},
	[ESMS_OTP] = {"a one-time password that eSMS makes", OPTION_BIT(ESMS_BRANDNAME)},
	[ESMS_ZALO] = {"a Zalo message", OPTION_BIT(ESMS_OAID) | OPTION_BIT(ESMS_SANDBOX) |
										 OPTION_BIT(ESMS_CAMPAIGN_ID) | OPTION_BIT(ESMS_CALLBACK_URL) |
										 OPTION_BIT(ESMS_SEND_DATE)},
	[ESMS_ZALO_THEN_SMS] = {"a Zalo message with an SMS behind it",
							OPTION_BIT(ESMS_OAID) | OPTION_BIT(ESMS_BRANDNAME) | OPTION_BIT(ESMS_UNICODE) |
								OPTION_BIT(ESMS_SANDBOX) | OPTION_BIT(ESMS_CAMPAIGN_ID) |
								OPTION_BIT(ESMS_CALLBACK_URL) | OPTION_BIT(ESMS_SMS_CONTENT)},
	[ESMS_QUESTION] = {"a question", 0},
};

static unsigned
esms_carries(Settings settings, const Message *message, const char **request)
{
	EsmsRequest kind = esms_request_of(settings, message);

	*request = esms_requests[kind].name;
	return esms_requests[kind].options;
}

/* A one-time password: what eSMS makes has rules of its own, what is made here is a text. */
static bool
esms_check_otp(Settings settings, const Message *message, Complaint *complaint)
{
	if (esms_otp_is_local(settings))
		return !esms_is_viber(settings) ||
			   complain(complaint, "Give the message the option \"sms_type\" with 2 or 8.",
						"a one-time password that is made here goes as a text, not over Viber");
	if (message->ttl < 120 || message->ttl > 600 || message->ttl % 60 != 0)
		return complain(complaint, "eSMS takes whole minutes from 2 to 10 (up to 15 until March 2025).",
						"a one-time password of %d seconds cannot be sent", message->ttl);
	if (setting_is_true(settings[ESMS_SANDBOX]))
		return complain(complaint,
						"It would be charged, and arrive, in spite of the option \"sandbox\". The server "
						"option otp 'local' makes them here.",
						"one-time passwords that eSMS makes have no sandbox");
	return true;
}

static bool
esms_check(Settings settings, const Message *message, Complaint *complaint)
{
	bool makes_code = message->call == CALL_OTP && !esms_otp_is_local(settings);

	if (!check_date(complaint, &esms_options[ESMS_SEND_DATE], settings[ESMS_SEND_DATE], VIETNAM_OFFSET))
		return false;
	switch (message->call)
	{
		case CALL_OTP:
			if (!esms_check_otp(settings, message, complaint))
				return false;
			break;
		case CALL_BULK:
			if (!esms_is_viber(settings) &&
				(message->nphones < MIN_ADVERTISED || message->nphones > MAX_ADVERTISED))
				return complain(complaint, "eSMS takes 30 to 5,000.", "%d receivers of an advertisement",
								message->nphones);
			break;
		case CALL_TEXT:
			break;
		case CALL_OMNI:
			return esms_check_omni(settings, message, complaint);
		default:
			return true;
	}
	if (settings[ESMS_BRANDNAME] != NULL || esms_request_of(settings, message) == ESMS_FIXED)
		return true;
	lacks(complaint, &esms_options[ESMS_BRANDNAME]);
	complaint->hint = makes_code
						  ? "One-time passwords that are made here, by the server option otp 'local', need "
							"none with sms_type '8'."
						  : "Messages of sms_type '8' go from a fixed number and need none.";
	return false;
}

/*
 * 124: a request with this RequestId came before.  Where that was one of this very message, that one was accepted, unless
 * SendStatus says that it was refused; else it was somebody else's, and nothing is known.
 */
static void
read_duplicate(struct json_object *body, bool ours, Answer *answer)
{
	char send_status[8];

	json_text(body, "SendStatus", send_status, sizeof(send_status));
	if (!ours)
		answer->id_taken = true;
	else
		answer->verdict = strcmp(send_status, "4") == 0 ? VERDICT_PERMANENT : VERDICT_ACCEPTED;
}

static void
esms_read(Settings settings, const Message *message, const HttpAnswer *http, Answer *answer)
{
	struct json_object *body = json_read_object(http->body, http->len);
	char code[sizeof(answer->code)];

	(void) settings;
	if (json_text(body, "CodeResult", code, sizeof(code)) ||
		json_text(body, "CodeResponse", code, sizeof(code)))
	{
		memcpy(answer->code, code, sizeof(code));
		answer->coded = true;
		json_text(body, "ErrorMessage", answer->message, sizeof(answer->message));
		json_text(body, "SMSID", answer->smsid, sizeof(answer->smsid));
		answer->verdict = verdict_of(esms_codes, code);
		answer->why = words_of(esms_codes, code);
		if (message->call == CALL_CHECK_OTP)
			answer->verdict = verdict_of(check_codes, code);
		else if (strcmp(code, "124") == 0)
			read_duplicate(body, message->unsure || http->repeated, answer);
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

/* Which leg of Zalo, then SMS, a callback is about, by its TypeId; empty if that does not say. */
static void
read_channel(struct json_object *body, Report *report)
{
	char type[8];

	if (!json_text(body, "TypeId", type, sizeof(type)))
		return;
	if (strcmp(type, "2") == 0)
		snprintf(report->channel, sizeof(report->channel), ESMS_CHANNEL_SMS);
	else if (strlen(type) == 2 && type[0] == '2' && type[1] >= '4' && type[1] <= '7')
		snprintf(report->channel, sizeof(report->channel), ESMS_CHANNEL_ZALO);
}

/* What a hexadecimal digit stands for; -1: it is none. */
static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/*
 * Takes the wrapping off "error_info", in place: newer callbacks have it as JSON, percent-encoded a second time, at times in
 * quotes, at times with "____" and a date behind it.
 */
static void
unwrap_error_info(char *text)
{
	char *to = text;

	for (const char *from = text; *from != '\0'; from++)
	{
		if (from[0] == '%' && hex_value(from[1]) >= 0 && hex_value(from[2]) >= 0)
		{
			*to++ = (char) (hex_value(from[1]) * 16 + hex_value(from[2]));
			from += 2;
		}
		else
			*to++ = *from;
	}
	*to = '\0';
	to = strstr(text, "____");
	if (to != NULL)
		*to = '\0';
	to = text + strlen(text);
	if (to - text >= 2 && text[0] == '"' && to[-1] == '"')
	{
		to[-1] = '\0';
		memmove(text, text + 1, strlen(text));
	}
}

/* The provider's words for a failure over Zalo. */
static void
read_error_info(struct json_object *body, Report *report)
{
	char text[4 * sizeof(report->message)];

	if (!json_text(body, "error_info", text, sizeof(text)))
		return;
	unwrap_error_info(text);
	utf8_copy(report->message, sizeof(report->message), text, strlen(text));
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
		read_error_info(body, report);
		json_text(body, "switchsmsid", report->next_smsid, sizeof(report->next_smsid));
		read_channel(body, report);
		read_telco(body, report);
		told = json_text(body, "SendStatus", report->code, sizeof(report->code));
		report->delivery = told ? esms_delivery(body, report->code) : DELIVERY_PENDING;
	}
	json_object_put(body);
	return told;
}

/*
 * In which list a message would be: those of Zalo are not documented, and one-time passwords carry no RequestId.  Of Zalo, then
 * SMS, the SMS is looked for.
 */
static const char *
esms_sent_list(Settings settings, const Message *message)
{
	if (message->request_id == NULL)
		return NULL;
	switch (esms_request_of(settings, message))
	{
		case ESMS_TEXT:
		case ESMS_FIXED:
		case ESMS_VIBER:
			return settings[ESMS_SMS_TYPE];
		case ESMS_ZALO_THEN_SMS:
			return "2";
		default:
			return NULL;
	}
}

/* Only SendResult 1 is an end that the documentation tells; 4 says that it was refused.  All else is asked about. */
static void
read_sent_entry(struct json_object *item, SentEntry *entry)
{
	Report *report = &entry->report;
	char result[8];

	memset(entry, 0, sizeof(*entry));
	json_text(item, "ReferenceId", entry->request_id, sizeof(entry->request_id));
	json_text(item, "Phone", entry->phone, sizeof(entry->phone));
	json_text(item, "SmsId", report->smsid, sizeof(report->smsid));
	json_text(item, "SellPrice", report->price, sizeof(report->price));
	json_text(item, "SendStatus", report->code, sizeof(report->code));
	json_text(item, "SendResult", result, sizeof(result));
	entry->refused = strcmp(report->code, "4") == 0;
	report->delivery = entry->refused             ? DELIVERY_UNDELIVERED
					   : strcmp(result, "1") == 0 ? DELIVERY_DELIVERED
												  : DELIVERY_PENDING;
}

static int
esms_read_sent(const HttpAnswer *http, SentEntry *entries)
{
	struct json_object *body = json_read_object(http->body, http->len);
	struct json_object *items = json_field(body, "SentData");
	int n = -1;

	if (json_object_is_type(items, json_type_array))
	{
		n = (int) json_object_array_length(items);
		n = n < SENT_PAGE_SIZE ? n : SENT_PAGE_SIZE;
		for (int i = 0; i < n; i++)
			read_sent_entry(json_object_array_get_idx(items, (size_t) i), &entries[i]);
	}
	json_object_put(body);
	return n;
}

static bool
esms_balance(const HttpAnswer *http, char *amount, size_t size)
{
	return read_balance(http, "Balance", amount, size) || read_balance(http, "TotalPrice", amount, size);
}

/* The fields of the lists that eSMS has, and what they are called here. */
static const struct
{
	const char *list;
	const char *needed; /* what has none is left out */
	const char *fields[3][2];
} lists[] = {
	[CALL_BRANDNAMES] = {"ListBrandName", "Brandname", {{"Brandname", "brandname"}, {"Type", "type"}}},
	[CALL_TEMPLATES] = {"BrandnameTemplates",
						"TempContent",
						{{"TempContent", "content"}, {"NetworkID", "network"}, {"TempId", "template_id"}}},
};

static char *
esms_list(Call call, const HttpAnswer *http)
{
	struct json_object *body = json_read_object(http->body, http->len);
	struct json_object *from = json_field(body, lists[call].list);
	struct json_object *to = json_object_new_array();
	bool told = json_object_is_type(from, json_type_array);

	for (size_t i = 0; told && i < json_object_array_length(from); i++)
	{
		struct json_object *entry = json_object_array_get_idx(from, i);
		struct json_object *copy;

		if (!json_object_is_type(json_field(entry, lists[call].needed), json_type_string))
			continue;
		copy = json_object_new_object();
		for (int k = 0; k < 3 && lists[call].fields[k][0] != NULL; k++)
		{
			struct json_object *field = json_field(entry, lists[call].fields[k][0]);

			json_put_text(copy, lists[call].fields[k][1],
						  field != NULL ? json_object_get_string(field) : NULL);
		}
		json_object_array_add(to, copy);
	}
	json_object_put(body);
	if (told)
		return json_write(to);
	json_object_put(to);
	return NULL;
}

/* Texts under a brandname: customer care, one-time passwords, and the SMS behind a Zalo message. */
static const char *
esms_templated(Settings settings, const Message *message, const char **brandname)
{
	*brandname = settings[ESMS_BRANDNAME];
	switch (esms_request_of(settings, message))
	{
		case ESMS_TEXT:
		case ESMS_OTP:
			return message->content;
		case ESMS_ZALO_THEN_SMS:
			return esms_sms_content(settings, message);
		default:
			return NULL;
	}
}

/* RequestId makes a repeat harmless for 24 hours; a second one-time password is another code. */
static bool
esms_repeat_safe(Settings settings, const Message *message)
{
	(void) settings;
	return message->request_id != NULL &&
		   (message->call == CALL_TEXT || message->call == CALL_OMNI || message->call == CALL_BULK);
}

const Provider esms_provider = {
	.name = "esms",
	.base_url = "https://rest.esms.vn",
	.calls = CALL_BIT(CALL_TEXT) | CALL_BIT(CALL_OTP) | CALL_BIT(CALL_CHECK_OTP) | CALL_BIT(CALL_OMNI) |
			 CALL_BIT(CALL_BULK) | CALL_BIT(CALL_STATUS) | CALL_BIT(CALL_STATUS_DETAIL) |
			 CALL_BIT(CALL_BALANCE) | CALL_BIT(CALL_BRANDNAMES) | CALL_BIT(CALL_TEMPLATES) |
			 CALL_BIT(CALL_PRICE) | CALL_BIT(CALL_SENT_LIST),
	.identified = CALL_BIT(CALL_TEXT) | CALL_BIT(CALL_OTP) | CALL_BIT(CALL_OMNI) | CALL_BIT(CALL_BULK),
	.max_phones = MAX_ADVERTISED,
	.options = esms_options,
	.needs = {[CALL_OMNI] = &esms_options[ESMS_OAID]},
	.by_name_only = CALL_BIT(CALL_BULK), /* it is advertising */
	.check = esms_check,
	.carries = esms_carries,
	.build = esms_build,
	.read = esms_read,
	.repeat_safe = esms_repeat_safe,
	.legs = esms_legs,
	.sent_list = esms_sent_list,
	.read_sent = esms_read_sent,
	.repeat_window = 24 * 3600,
	.report = esms_report,
	.balance = esms_balance,
	.list = esms_list,
	.templated = esms_templated,
	.status_window = 7 * 24 * 3600,
	.otp_option = &esms_options[ESMS_OTP_MAKER],
	.ordered_params = true,
	.unicode_option = &esms_options[ESMS_UNICODE],
	.callback_option = &esms_options[ESMS_CALLBACK_URL],
	.brandname_option = &esms_options[ESMS_BRANDNAME],
	.templates_option = &esms_options[ESMS_CHECK_TEMPLATES],
	.content_option = &esms_options[ESMS_SMS_CONTENT],
};
