/*
 * etelecom.c
 *		eTelecom Omni (omni.incom.vn): a template sent by ZNS, automatic call or
 *		SMS, in the order of a routing rule.
 *
 * Source: the provider's public documentation of SendMessage.  There is no
 * idempotency key: a repeat is a second message.
 */
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "provider.h"

enum
{
	ETELECOM_USERNAME,
	ETELECOM_PASSWORD,
	ETELECOM_ROUTERULE,
	ETELECOM_TEMPLATE_CODE,
};

static const OptionDef etelecom_options[] = {
	[ETELECOM_USERNAME] = {"username", OPTION_USER, OPTION_TEXT, .max = 200},
	[ETELECOM_PASSWORD] = {"password", OPTION_USER, OPTION_TEXT, .max = 200},
	[ETELECOM_ROUTERULE] = {"routerule", OPTION_SERVER | OPTION_MESSAGE, OPTION_ROUTE, .initial = "1,3"},
	[ETELECOM_TEMPLATE_CODE] = {"template_code", OPTION_SERVER | OPTION_MESSAGE, OPTION_TEXT, .max = 200},
	{.name = NULL},
};

/* What the field "status" means; a value that is not here is permanent. */
static const struct
{
	const char *status;
	Verdict verdict;
} etelecom_statuses[] = {
	{"1", VERDICT_ACCEPTED}, {"-3", VERDICT_GATEWAY}, /* run out of messages */
};

static const char *
template_of(Settings settings, const Message *message)
{
	return message->template_code != NULL ? message->template_code : settings[ETELECOM_TEMPLATE_CODE];
}

static bool
etelecom_check(Settings settings, const Message *message, Complaint *complaint)
{
	if (template_of(settings, message) == NULL)
		return complain(complaint, "Name one, or set the server option \"template_code\".",
						"this message needs a template code");
	return true;
}

static bool
etelecom_build(Settings settings, const Message *message, HttpRequest *request)
{
	struct json_object *body = json_object_new_object();
	struct json_object *route = json_object_new_array();
	const char *routerule = message->routerule != NULL ? message->routerule : settings[ETELECOM_ROUTERULE];

	for (const char *p = routerule; *p; p++)
	{
		if (*p >= '1' && *p <= '3')
			json_object_array_add(route, json_object_new_string_len(p, 1));
	}
	request->path = "/api/OmniMessage/SendMessage";
	json_put_text(body, "username", settings[ETELECOM_USERNAME]);
	json_put_text(body, "password", settings[ETELECOM_PASSWORD]);
	json_put_text(body, "phonenumber", message->phones[0]);
	json_object_object_add(body, "routerule", route);
	json_put_text(body, "templatecode", template_of(settings, message));
	json_put_raw(body, "list_param", message->list_param != NULL ? message->list_param : "{}");
	request->body = json_write(body);
	return request->body != NULL;
}

static void
etelecom_read(Settings settings, const Message *message, const HttpAnswer *http, Answer *answer)
{
	struct json_object *body = json_read_object(http->body, http->len);
	char status[sizeof(answer->code)];

	(void) settings;
	(void) message;
	if (json_text(body, "status", status, sizeof(status)) && http->status < 300)
	{
		memcpy(answer->code, status, sizeof(status));
		json_text(body, "code", answer->message, sizeof(answer->message));
		json_text(body, "idOmniMess", answer->id_omni_mess, sizeof(answer->id_omni_mess));
		answer->verdict = VERDICT_PERMANENT;
		for (size_t i = 0; i < sizeof(etelecom_statuses) / sizeof(etelecom_statuses[0]); i++)
		{
			if (strcmp(etelecom_statuses[i].status, status) == 0)
				answer->verdict = etelecom_statuses[i].verdict;
		}
	}
	json_object_put(body);
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
	.calls = CALL_BIT(CALL_OMNI),
	.options = etelecom_options,
	.check = etelecom_check,
	.build = etelecom_build,
	.read = etelecom_read,
	.repeat_safe = etelecom_repeat_safe,
};
