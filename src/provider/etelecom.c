/*
 * etelecom.c
 *		eTelecom Omni (omni.incom.vn): a template sent by ZNS, automatic call or
 *		SMS, in the order of a routing rule.
 *
 * Source: the provider's public documentation of SendMessage and GetStatusOmni.
 * There is no idempotency key: a repeat is a second message.
 */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "provider/support.h"
#include "provider/table.h"
#include "text/json.h"

enum
{
	ETELECOM_USERNAME,
	ETELECOM_PASSWORD,
	ETELECOM_ROUTERULE,
	ETELECOM_TEMPLATE_CODE,
	ETELECOM_OTP_PARAM,
};

static const OptionDef etelecom_options[] = {
	[ETELECOM_USERNAME] = {"username", OPTION_USER, OPTION_TEXT, .max = 200},
	[ETELECOM_PASSWORD] = {"password", OPTION_USER, OPTION_TEXT, .max = 200},
	[ETELECOM_ROUTERULE] = {"routerule", OPTION_SERVER | OPTION_MESSAGE, OPTION_ROUTE, .initial = "1,3"},
	[ETELECOM_TEMPLATE_CODE] = {"template_code", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 200},
	[ETELECOM_OTP_PARAM] = {"otp_param", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, "otp", .max = 100},
	{.name = NULL},
};

/* The field "status". */
static const CodeMeaning etelecom_statuses[] = {
	{"1", VERDICT_ACCEPTED, NULL},
	{"-3", VERDICT_GATEWAY, "the account has run out of messages"},
	{NULL, VERDICT_PERMANENT, NULL},
};

static const char *
template_of(Settings settings, const Message *message)
{
	return message->template_code != NULL ? message->template_code : settings[ETELECOM_TEMPLATE_CODE];
}

static const char *
route_of(Settings settings, const Message *message)
{
	return message->routerule != NULL ? message->routerule : settings[ETELECOM_ROUTERULE];
}

/* 2 is an automatic call. */
static bool
etelecom_rings(Settings settings, const Message *message)
{
	return strchr(route_of(settings, message), '2') != NULL;
}

static bool
etelecom_check(Settings settings, const Message *message, Complaint *complaint)
{
	if (template_of(settings, message) == NULL && message->call == CALL_OTP)
		return not_set_up(complaint, &etelecom_options[ETELECOM_TEMPLATE_CODE],
						  "this eTelecom gateway cannot send one-time passwords");
	if (template_of(settings, message) == NULL)
		return complain(complaint, "Name one, or set the server option \"template_code\".",
						"this message needs a template code");
	return true;
}

/* The template's variables, with the one-time password among them. */
static void
put_otp_param(struct json_object *body, Settings settings, const Message *message)
{
	struct json_object *params = json_read_value(message->list_param);

	if (params == NULL)
		params = json_object_new_object();
	json_object_object_add(params, settings[ETELECOM_OTP_PARAM], json_object_new_string(message->code));
	json_object_object_add(body, "list_param", params);
}

static void
put_login(struct json_object *body, Settings settings)
{
	json_put_text(body, "username", settings[ETELECOM_USERNAME]);
	json_put_text(body, "password", settings[ETELECOM_PASSWORD]);
}

static bool
etelecom_build_status(Settings settings, const Message *message, HttpRequest *request)
{
	struct json_object *body = json_object_new_object();

	put_login(body, settings);
	json_put_text(body, "idOmniMess", message->reference);
	return request_body(request, "/api/OmniReport/GetStatusOmni", body);
}

static bool
etelecom_build_send(Settings settings, const Message *message, HttpRequest *request)
{
	struct json_object *body = json_object_new_object();
	struct json_object *route = json_object_new_array();

	for (const char *p = route_of(settings, message); *p; p++)
	{
		if (*p >= '1' && *p <= '3')
			json_object_array_add(route, json_object_new_string_len(p, 1));
	}
	put_login(body, settings);
	json_put_text(body, "phonenumber", message->phones[0]);
	json_object_object_add(body, "routerule", route);
	json_put_text(body, "templatecode", template_of(settings, message));
	if (message->call == CALL_OTP)
		put_otp_param(body, settings, message);
	else
		json_put_raw(body, "list_param", message->list_param != NULL ? message->list_param : "{}");
	return request_body(request, "/api/OmniMessage/SendMessage", body);
}

static bool
etelecom_build(Settings settings, const Message *message, HttpRequest *request)
{
	return message->call == CALL_STATUS ? etelecom_build_status(settings, message, request)
										: etelecom_build_send(settings, message, request);
}

static void
etelecom_read(Settings settings, const Message *message, const HttpAnswer *http, Answer *answer)
{
	struct json_object *body = json_read_object(http->body, http->len);
	char status[sizeof(answer->code)];

	(void) settings;
	if (json_text(body, "status", status, sizeof(status)) && http->status < 300)
	{
		memcpy(answer->code, status, sizeof(status));
		json_text(body, "code", answer->message, sizeof(answer->message));
		json_text(body, "idOmniMess", answer->id_omni_mess, sizeof(answer->id_omni_mess));
		/* Of a status call, it is what became of the message: any that is no error will do. */
		if (message->call == CALL_STATUS && status[0] != '-')
			answer->verdict = VERDICT_ACCEPTED;
		else
			answer->verdict = verdict_of(etelecom_statuses, status);
		answer->why = words_of(etelecom_statuses, status);
	}
	json_object_put(body);
}

/*
 * The status call's field names are documented, the webhook's are not: it is
 * read in the spellings that real integrations receive.
 */
static bool
etelecom_report(const char *json, size_t len, Report *report)
{
	static const char *const ids[] = {"idOmniMess", "omniMessId", "messageId", "idMess"};
	static const char *const counts[] = {"mtcount", "quantity"};
	struct json_object *body = json_read_object(json, len);
	char number[32];
	bool told;

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]) && report->id_omni_mess[0] == '\0'; i++)
		json_text(body, ids[i], report->id_omni_mess, sizeof(report->id_omni_mess));
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]) && report->parts == 0; i++)
	{
		if (json_text(body, counts[i], number, sizeof(number)) && strlen(number) < 4)
			report->parts = atoi(number) > 0 ? atoi(number) : 0;
	}
	json_text(body, "errorCode", report->message, sizeof(report->message));
	json_text(body, "token", report->token, sizeof(report->token));
	read_telco(body, report);
	told = json_text(body, "status", report->code, sizeof(report->code));
	if (strcasecmp(report->code, "SUCCESS") == 0)
		report->delivery = DELIVERY_DELIVERED;
	else if (strcasecmp(report->code, "FAIL") == 0 || strcasecmp(report->code, "FAILED") == 0)
		report->delivery = DELIVERY_UNDELIVERED;
	json_object_put(body);
	return told;
}

static bool
etelecom_repeat_safe(Settings settings, const Message *message)
{
	(void) settings;
	(void) message;
	return false;
}

const Provider etelecom_provider = {
	.name = "etelecom",
	.base_url = "https://omni.incom.vn",
	.calls = CALL_BIT(CALL_OMNI) | CALL_BIT(CALL_OTP) | CALL_BIT(CALL_CHECK_OTP) | CALL_BIT(CALL_STATUS),
	.options = etelecom_options,
	.needs = {[CALL_OTP] = &etelecom_options[ETELECOM_TEMPLATE_CODE],
			  [CALL_CHECK_OTP] = &etelecom_options[ETELECOM_TEMPLATE_CODE]},
	.check = etelecom_check,
	.build = etelecom_build,
	.read = etelecom_read,
	.rings = etelecom_rings,
	.repeat_safe = etelecom_repeat_safe,
	.report = etelecom_report,
	.status_window = 7 * 24 * 3600,
	.otp_is_local = true,
	.otp_by_template = true,
};
