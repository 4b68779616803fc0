/*
 * prepare.c
 *		Checks all about a message that can be known before it is sent, and completes it.
 */
#include "postgres.h"

#include "base/encoding.h"
#include "gateway/options.h"
#include "gateway/prepare.h"
#include "mb/pg_wchar.h"
#include "provider/option.h"
#include "provider/support.h"
#include "provider/table.h"
#include "text/text.h"
#include "utils/builtins.h"

#define DEFAULT_TTL    300   /* seconds */
#define MAX_TTL        86400 /* seconds */
#define DEFAULT_LENGTH 6
#define MAX_LIST_PARAM 65536 /* bytes */

/* A JSON value as the text that an option has; NULL if it cannot be one. */
static char *
json_option_text(const JsonbValue *value, const OptionDef *option)
{
	switch (value->type)
	{
		case jbvString:
			return option->type == OPTION_JSON ? NULL
											   : pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric)));
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		case jbvBinary:
			if (option->type != OPTION_JSON || !JsonContainerIsObject(value->val.binary.data))
				return NULL;
			return JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);
		default:
			return NULL;
	}
}

/*
 * Lays the options of one message over those of its gateway.  "common" gets
 * those that belong to no provider.
 */
static bool
overlay_options(const Gateway *gateway, Jsonb *options, Prepared *prepared, const char *common[COMMON_COUNT],
				Refusal *refusal)
{
	const Provider *provider = gateway->provider;
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue key;
	JsonbValue value;

	if (!JB_ROOT_IS_OBJECT(options))
		return refused(refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL, "options must be a JSON object");

	memcpy(prepared->own_settings, gateway->settings, sizeof(gateway->settings));
	prepared->settings = prepared->own_settings;
	it = JsonbIteratorInit(&options->root);
	JsonbIteratorNext(&it, &key, true);
	while ((token = JsonbIteratorNext(&it, &key, true)) == WJB_KEY)
	{
		char *name = pnstrdup(key.val.string.val, key.val.string.len);
		const OptionDef *own = find_option(provider->options, name, OPTION_MESSAGE);
		const OptionDef *option = own ? own : find_option(common_options, name, OPTION_MESSAGE);
		const char *detail = "A value of this type is not taken.";
		char *text;
		const char *checked = NULL;

		JsonbIteratorNext(&it, &value, true);
		if (option == NULL)
			return refused(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
						   psprintf("Options of a message on this gateway are: %s.",
									option_names(provider, OPTION_MESSAGE)),
						   "invalid option \"%s\"", name);
		if (value.type == jbvNull)
			continue;
		text = json_option_text(&value, option);
		if (text != NULL)
			checked = option_value(option, to_utf8_composed(text, name), &detail);
		if (checked == NULL)
		{
			refused(refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL, "invalid value for option \"%s\"%s%s%s",
					name, text ? ": \"" : "", text ? text : "", text ? "\"" : "");
			strlcpy(refusal->detail, detail, sizeof(refusal->detail));
			return false;
		}
		if (own != NULL)
			prepared->own_settings[own - provider->options] = checked;
		else
			common[option - common_options] = checked;
	}
	return true;
}

static bool
prepare_phone(const Gateway *gateway, const char *phone, char *msisdn, Refusal *refusal)
{
	PhoneStatus status = phone != NULL ? phone_normalise(phone, gateway->country_code, msisdn) : PHONE_EMPTY;

	if (status == PHONE_OK)
		return true;
	refused(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
			"Write it as 0901234567, 84901234567 or +84 901 234 567.", "invalid phone number: \"%s\"",
			phone ? phone : "");
	strlcpy(refusal->detail, phone_status_text(status), sizeof(refusal->detail));
	return false;
}

static bool
prepare_phones(const Gateway *gateway, const Draft *draft, Prepared *prepared, Refusal *refusal)
{
	const char **list;

	if (draft->call != CALL_BULK)
	{
		prepared->phone_list[0] = prepared->phone;
		prepared->message.phones = prepared->phone_list;
		prepared->message.nphones = 1;
		return prepare_phone(gateway, draft->phone, prepared->phone, refusal);
	}
	if (draft->nphones == 0 || draft->nphones > gateway->provider->max_phones)
		return refused(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					   psprintf("This gateway takes 1 to %d.", gateway->provider->max_phones),
					   "%d receivers in one request", draft->nphones);
	list = palloc(sizeof(char *) * draft->nphones);
	for (int i = 0; i < draft->nphones; i++)
	{
		char *msisdn = palloc(MSISDN_SIZE);

		if (!prepare_phone(gateway, draft->phones[i], msisdn, refusal))
			return false;
		list[i] = msisdn;
	}
	prepared->message.phones = list;
	prepared->message.nphones = draft->nphones;
	return true;
}

/* The alphabet that the option "unicode" asks for. */
static TextCoding
coding_of(const Provider *provider, Settings settings)
{
	const char *unicode = gateway_setting(provider, settings, provider->unicode_option);

	if (unicode == NULL || strcmp(unicode, "auto") == 0)
		return CODING_BY_TEXT;
	return setting_is_true(unicode) ? CODING_UCS2 : CODING_GSM7;
}

/* Measures a text as it will be sent: with a code of its length in the place of {OTP}. */
static bool
measure(const Provider *provider, Settings settings, Message *message)
{
	TextCoding coding = coding_of(provider, settings);
	char code[16];
	char *with_code;
	bool valid;

	if (message->call != CALL_OTP || message->length < 1 || message->length >= (int) sizeof(code))
		return text_shape(message->content, strlen(message->content), coding, &message->shape);
	memset(code, '0', message->length);
	code[message->length] = '\0';
	with_code = text_replace(message->content, OTP_PLACE, code);
	valid = with_code != NULL && text_shape(with_code, strlen(with_code), coding, &message->shape);
	free(with_code);
	return valid;
}

/* Checks the text of kinds that have one, and measures it. */
static bool
prepare_content(const Gateway *gateway, Settings settings, bool unaccent, Message *message, Refusal *refusal)
{
	if (message->content == NULL || message->content[strspn(message->content, " \t\r\n")] == '\0')
		return refused(refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL, "the text is empty");
	if (unaccent)
	{
		char *plain = pstrdup(message->content);

		text_unaccent(plain);
		message->content = plain;
	}
	if (!measure(gateway->provider, settings, message))
		return refused(refusal, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, NULL, "the text is not valid UTF-8");
	if (message->shape.parts > gateway->max_parts)
		return refused(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					   "Shorten it, or raise the server option \"max_parts\".",
					   "the text is too long: %d characters take %d messages, at most %d are allowed",
					   message->shape.characters, message->shape.parts, gateway->max_parts);
	return true;
}

static bool
prepare_omni(Message *message, const Draft *draft, bool ordered, Refusal *refusal)
{
	const char *list = draft->list_param;
	char first = list != NULL ? list[strspn(list, " \t\r\n")] : '{';

	if (first != '{' && !(first == '[' && ordered))
		return refused(refusal, ERRCODE_INVALID_PARAMETER_VALUE, "Write it as {\"name\": \"value\"}.",
					   "list_param must be a JSON object");
	if (list != NULL && strlen(list) > MAX_LIST_PARAM)
		return refused(refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL, "list_param is longer than %d bytes",
					   MAX_LIST_PARAM);
	if (draft->routerule != NULL && !option_is_list(draft->routerule, true))
		return refused(refusal, ERRCODE_INVALID_PARAMETER_VALUE,
					   "1 is ZNS, 2 an automatic call, 3 SMS; each at most once.", "invalid routerule: {%s}",
					   draft->routerule);
	if (draft->template_code != NULL &&
		(draft->template_code[0] == '\0' || strlen(draft->template_code) > 200))
		return refused(refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
					   "a template code has 1 to 200 characters");
	message->list_param = to_utf8_composed(list, "list_param");
	message->template_code = to_utf8_composed(draft->template_code, "template_code");
	message->routerule = draft->routerule;
	return true;
}

/* What to do about a provider's complaint: how to set the option that is missing, and what else helps; NULL if nothing. */
static const char *
hint_of(const Complaint *complaint, const char *gateway)
{
	if (complaint->missing == NULL)
		return complaint->hint;
	return psprintf("Set it with ALTER SERVER %s OPTIONS (ADD %s 'value').%s%s", quote_identifier(gateway),
					quote_identifier(complaint->missing->name), complaint->hint != NULL ? " " : "",
					complaint->hint != NULL ? complaint->hint : "");
}

/*
 * Checks everything about a message that can be known before it is sent, and
 * fills "prepared", whose pointers go to the draft's memory, the gateway's and
 * the current context's.  Returns false with the error filled if it can never be sent.
 */
bool
gateway_prepare(Gateway *gateway, const Draft *draft, Prepared *prepared, Refusal *refusal)
{
	const Provider *provider = gateway->provider;
	Message *message = &prepared->message;
	const char *common[COMMON_COUNT] = {NULL};
	Complaint complaint = {.hint = NULL};
	bool by_template;
	bool unaccent;

	memset(prepared, 0, sizeof(*prepared));
	prepared->settings = gateway->settings;
	message->call = draft->call;
	if (!(provider->calls & CALL_BIT(draft->call)))
		return refused(refusal, ERRCODE_FEATURE_NOT_SUPPORTED, NULL,
					   "gateway \"%s\" (%s) cannot send messages of kind \"%s\"", gateway->name,
					   provider->name, kind_name(draft->call));
	if (draft->options != NULL && !overlay_options(gateway, draft->options, prepared, common, refusal))
		return false;
	if (!prepare_phones(gateway, draft, prepared, refusal))
		return false;

	if (draft->request_id != NULL &&
		(draft->request_id[0] == '\0' || pg_mbstrlen(draft->request_id) > REQUEST_ID_MAX))
		return refused(refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL, "a request_id has 1 to %d characters",
					   REQUEST_ID_MAX);
	message->request_id = to_utf8(draft->request_id, "request_id");
	message->code = to_utf8(draft->code, "code");
	message->ttl = common[COMMON_TTL] ? atoi(common[COMMON_TTL]) / 1000
				   : draft->ttl       ? draft->ttl
									  : DEFAULT_TTL;
	message->length = common[COMMON_LENGTH] ? atoi(common[COMMON_LENGTH])
					  : draft->length       ? draft->length
											: DEFAULT_LENGTH;
	message->digits_only =
		common[COMMON_DIGITS_ONLY] ? setting_is_true(common[COMMON_DIGITS_ONLY]) : draft->digits_only;

	by_template = draft->call == CALL_OMNI || (draft->call == CALL_OTP && provider->otp_by_template);
	unaccent = common[COMMON_UNACCENT] ? setting_is_true(common[COMMON_UNACCENT]) : gateway->unaccent;
	if (by_template && !prepare_omni(message, draft, provider->ordered_params, refusal))
		return false;
	message->content = draft->call == CALL_CHECK_OTP ? NULL : to_utf8_composed(draft->content, "content");
	if ((message->content != NULL || (!by_template && draft->call != CALL_CHECK_OTP)) &&
		!prepare_content(gateway, prepared->settings, unaccent, message, refusal))
		return false;
	if (draft->call == CALL_OTP && !by_template && strstr(message->content, OTP_PLACE) == NULL)
		return refused(refusal, ERRCODE_INVALID_PARAMETER_VALUE, "The code is put in the place of {OTP}.",
					   "the text of a one-time password must hold {OTP}");
	if (draft->call == CALL_OTP && (message->length < common_options[COMMON_LENGTH].min ||
									message->length > common_options[COMMON_LENGTH].max))
		return refused(refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
					   "a one-time password has %.0f to %.0f characters", common_options[COMMON_LENGTH].min,
					   common_options[COMMON_LENGTH].max);
	if (draft->call == CALL_OTP && (message->ttl < 1 || message->ttl > MAX_TTL))
		return refused(refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
					   "a one-time password is good for 1 to %d seconds", MAX_TTL);
	if (!provider->check(prepared->settings, message, &complaint))
		return refused(
			refusal, complaint.unsupported ? ERRCODE_FEATURE_NOT_SUPPORTED : ERRCODE_INVALID_PARAMETER_VALUE,
			hint_of(&complaint, gateway->name), "%s", complaint.message);
	return true;
}
