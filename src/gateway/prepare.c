/*
 * prepare.c
 *		Checks all about a message that can be known before it is sent, and completes it.
 */
#include "postgres.h"

#include "base/encoding.h"
#include "gateway/hint.h"
#include "gateway/options.h"
#include "gateway/prepare.h"
#include "mb/pg_wchar.h"
#include "provider/option.h"
#include "provider/support.h"
#include "provider/table.h"
#include "text/text.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/json.h"

#define DEFAULT_TTL    300   /* seconds */
#define MAX_TTL        86400 /* seconds */
#define DEFAULT_LENGTH 6
#define WHITE_SPACE    " \t\r\n"

/* A message on its way from draft to prepared. */
typedef struct Preparation
{
	const Gateway *gateway;
	const Draft *draft;
	Prepared *prepared;
	const char *common[COMMON_COUNT]; /* options of this message that all providers have, or NULL */
	unsigned own;                     /* OPTION_BITs of the provider's options that the message has */
	Refusal *refusal;
} Preparation;

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

/* Takes one option of a message. */
static bool
take_option(Preparation *p, const char *name, const JsonbValue *value)
{
	const Provider *provider = p->gateway->provider;
	const OptionDef *own = options_find(provider->options, name, OPTION_MESSAGE);
	const OptionDef *option = own ? own : options_find(options_common, name, OPTION_MESSAGE);
	const char *detail = "A value of this type is not taken.";
	const char *checked = NULL;
	char *text;

	if (option == NULL)
		return refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
							psprintf("Options of a message on gateway \"%s\" are: %s.", p->gateway->name,
									 options_names(provider, OPTION_MESSAGE)),
							"invalid option \"%s\"", name);
	if (value->type == jbvNull)
		return true;
	text = json_option_text(value, option);
	if (text != NULL)
		checked = options_value(option, to_utf8_composed(text, name), &detail);
	if (checked == NULL)
	{
		refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
					 "invalid value for option \"%s\"%s%s%s", name, text ? ": \"" : "", text ? text : "",
					 text ? "\"" : "");
		return refusal_detail(p->refusal, detail);
	}
	if (own != NULL)
	{
		p->own |= OPTION_BIT(own - provider->options);
		p->prepared->own_settings[own - provider->options] = checked;
	}
	else
		p->common[option - options_common] = checked;
	return true;
}

/* Lays the options of the message over those of its gateway. */
static bool
prepare_options(Preparation *p)
{
	Jsonb *options = p->draft->options;
	Prepared *prepared = p->prepared;
	JsonbIterator *it;
	JsonbValue key;
	JsonbValue value;

	prepared->settings = p->gateway->settings;
	if (options == NULL)
		return true;
	if (!JB_ROOT_IS_OBJECT(options))
		return refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
							"options must be a JSON object");

	memcpy(prepared->own_settings, p->gateway->settings, sizeof(prepared->own_settings));
	prepared->settings = prepared->own_settings;
	it = JsonbIteratorInit(&options->root);
	JsonbIteratorNext(&it, &key, true);
	while (JsonbIteratorNext(&it, &key, true) == WJB_KEY)
	{
		JsonbIteratorNext(&it, &value, true);
		if (!take_option(p, pnstrdup(key.val.string.val, key.val.string.len), &value))
			return false;
	}
	return true;
}

static bool
refuse_phone(Preparation *p, const char *phone, const char *hint, const char *detail)
{
	refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE, hint, "invalid phone number");
	return refusal_details(p->refusal, psprintf("The number is \"%s\". %s", phone, detail), detail);
}

/* Does the message go as a call, too? */
static bool
rings(const Preparation *p)
{
	const Provider *provider = p->gateway->provider;

	return provider->rings != NULL && provider->rings(p->prepared->settings, &p->prepared->message);
}

/*
 * Writes a phone number as an MSISDN of today, into MSISDN_SIZE bytes.  One that has changed in 2018 is in old_phone, too.
 */
static bool
prepare_phone(Preparation *p, const char *phone, char *msisdn)
{
	const Gateway *gateway = p->gateway;
	PhoneStatus status;

	if (phone == NULL)
		return refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
							"a phone number must not be null");
	status = phone_normalise(phone, gateway->country_code, msisdn);
	if (status != PHONE_OK)
		return refuse_phone(p, phone, "Write it as 0901234567, 84901234567 or +84 901 234 567.",
							phone_status_text(status));
	if (!option_has_country(gateway->countries, msisdn))
		return refuse_phone(
			p, phone, "Countries are added with the server option \"countries\".",
			psprintf("Gateway \"%s\" sends to numbers of +%s.", gateway->name, gateway->countries));
	switch (phone_kind(msisdn))
	{
		case PHONE_LANDLINE:
			if (!rings(p))
				return refuse_phone(p, phone, NULL, "It is a landline, which takes calls and no texts.");
			break;
		case PHONE_OLD:
			if (!gateway->convert_old)
				return refuse_phone(p, phone,
									"The server option \"old_numbers\" can be set to convert such numbers.",
									"Numbers of 11 digits ended in 2018.");
			strlcpy(p->prepared->old_phone, msisdn, MSISDN_SIZE);
			phone_convert_old(msisdn);
			break;
		case PHONE_MOBILE:
		case PHONE_FOREIGN:
			break;
	}
	return true;
}

static bool
prepare_receiver(Preparation *p)
{
	Prepared *prepared = p->prepared;

	prepared->phone_list[0] = prepared->phone;
	prepared->message.phones = prepared->phone_list;
	prepared->message.nphones = 1;
	return prepare_phone(p, p->draft->phone, prepared->phone);
}

/* Writes the many receivers of CALL_BULK, each once. */
static bool
prepare_receivers(Preparation *p)
{
	HASHCTL control = {.keysize = MSISDN_SIZE, .entrysize = MSISDN_SIZE, .hcxt = CurrentMemoryContext};
	const Draft *draft = p->draft;
	int most = p->gateway->provider->max_phones;
	const char **list;
	HTAB *seen;
	int n = 0;

	if (draft->nphones == 0 || draft->nphones > most)
		return refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
							psprintf("Gateway \"%s\" takes 1 to %d.", p->gateway->name, most),
							"%d receivers in one request", draft->nphones);
	list = palloc(sizeof(char *) * draft->nphones);
	seen = hash_create("sms_gateway receivers", draft->nphones, &control,
					   HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	for (int i = 0; i < draft->nphones; i++)
	{
		char msisdn[MSISDN_SIZE];
		bool found;
		char *entry;

		if (!prepare_phone(p, draft->phones[i], msisdn))
			return false;
		entry = hash_search(seen, msisdn, HASH_ENTER, &found);
		if (!found)
			list[n++] = entry;
	}
	p->prepared->message.phones = list;
	p->prepared->message.nphones = n;
	return true;
}

static bool
prepare_request_id(Preparation *p)
{
	const char *id = p->draft->request_id;

	if (id != NULL && (id[0] == '\0' || pg_mbstrlen(id) > REQUEST_ID_MAX))
		return refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
							"a request_id has 1 to %d characters", REQUEST_ID_MAX);
	p->prepared->message.request_id = to_utf8(id, "request_id");
	return true;
}

/* The alphabet that the option "unicode" asks for. */
static TextCoding
coding_of(const Provider *provider, Settings settings)
{
	const char *unicode = gateway_setting(provider, settings, provider->unicode_option);

	if (unicode == NULL || strcmp(unicode, "auto") == 0)
		return CODING_BY_ASCII;
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

/* Does the message fill a template, whose words the provider has? */
static bool
is_by_template(const Preparation *p)
{
	return p->draft->call == CALL_OMNI ||
		   (p->draft->call == CALL_OTP && p->gateway->provider->otp_by_template);
}

/* One of a template's values, or a name of one, as a JSON text; false if it is none that providers take. */
static bool
append_value(StringInfo to, const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			escape_json(to, pnstrdup(value->val.string.val, value->val.string.len));
			return true;
		case jbvNumeric:
			escape_json(
				to, DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value->val.numeric))));
			return true;
		case jbvBool:
			escape_json(to, value->val.boolean ? "true" : "false");
			return true;
		default:
			return false;
	}
}

/*
 * A template's values as JSON, each of them a text, as providers take them; palloc'd.  NULL if one is null, an object
 * or an array.
 */
static char *
template_values(Jsonb *list)
{
	JsonbIterator *it = JsonbIteratorInit(&list->root);
	JsonbIteratorToken token;
	JsonbValue value;
	StringInfoData text;

	initStringInfo(&text);
	JsonbIteratorNext(&it, &value, true);
	appendStringInfoChar(&text, JB_ROOT_IS_OBJECT(list) ? '{' : '[');
	while ((token = JsonbIteratorNext(&it, &value, true)) == WJB_KEY || token == WJB_VALUE ||
		   token == WJB_ELEM)
	{
		if (token != WJB_VALUE && text.len > 1)
			appendStringInfoString(&text, ", ");
		if (!append_value(&text, &value))
			return NULL;
		if (token == WJB_KEY)
			appendStringInfoString(&text, ": ");
	}
	appendStringInfoChar(&text, JB_ROOT_IS_OBJECT(list) ? '}' : ']');
	return text.data;
}

/* Checks a template's values. */
static bool
prepare_values(Preparation *p)
{
	Jsonb *list = p->draft->list_param;
	char *values;

	if (list == NULL)
		return true;
	if (!JB_ROOT_IS_OBJECT(list) &&
		!(JB_ROOT_IS_ARRAY(list) && !JB_ROOT_IS_SCALAR(list) && p->gateway->provider->ordered_params))
		return refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE, "Write it as {\"name\": \"value\"}.",
							"list_param must be a JSON object");
	values = template_values(list);
	if (values == NULL)
		return refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
							"Each of the template's values is a text, a number, true or false.",
							"list_param has a value that is null, an object or an array");
	p->prepared->message.list_param = to_utf8_composed(values, "list_param");
	return true;
}

/* Checks what is said of a template. */
static bool
prepare_template(Preparation *p)
{
	const Draft *draft = p->draft;
	Message *message = &p->prepared->message;

	if (!is_by_template(p))
		return true;
	if (!prepare_values(p))
		return false;
	if (draft->routerule != NULL && !option_is_list(draft->routerule, true))
		return refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
							"1 is ZNS, 2 an automatic call, 3 SMS; each at most once.",
							"invalid routerule: {%s}", draft->routerule);
	if (draft->template_code != NULL &&
		(draft->template_code[0] == '\0' || strlen(draft->template_code) > 200))
		return refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
							"a template code has 1 to 200 characters");
	message->template_code = to_utf8_composed(draft->template_code, "template_code");
	message->routerule = draft->routerule;
	return true;
}

/* The text of a message in UTF-8, NFC; NULL: it has none. */
static char *
text_of_message(const Preparation *p)
{
	const Provider *provider = p->gateway->provider;
	const char *option = gateway_setting(provider, p->prepared->settings, provider->content_option);

	if (p->draft->content != NULL || option == NULL)
		return to_utf8_composed(p->draft->content, "content");
	return pstrdup(option);
}

/* Checks the text, if the message has one or needs one, and measures it. */
static bool
prepare_content(Preparation *p)
{
	const Gateway *gateway = p->gateway;
	const char *unaccent = p->common[COMMON_UNACCENT];
	Message *message = &p->prepared->message;
	char *content;
	int control;

	if (message->call == CALL_CHECK_OTP)
		return true;
	content = text_of_message(p);
	if (content == NULL && is_by_template(p))
		return true;
	if (content == NULL || content[strspn(content, WHITE_SPACE)] == '\0')
		return refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE, "It is given as content.",
							"the text is empty");
	content = pstrdup(content);
	control = text_tidy_lines(content);
	if (control != 0)
		return refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
							"A newline is the only control character that a text may hold.",
							"the text holds the control character U+%04X", control);
	if (unaccent != NULL ? setting_is_true(unaccent) : gateway->unaccent)
		text_unaccent(content);
	message->content = content;
	if (!measure(gateway->provider, p->prepared->settings, message))
		return refusal_fill(p->refusal, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE, NULL,
							"the text is not valid UTF-8");
	if (message->shape.parts > gateway->max_parts)
		return refusal_fill(
			p->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
			psprintf("Shorten it, or raise the option \"max_parts\" of server \"%s\".", gateway->name),
			"the text is too long: %d characters take %d messages, at most %d are allowed",
			message->shape.characters, message->shape.parts, gateway->max_parts);
	return true;
}

/* Says how a one-time password is made: by the message's options, else by the draft. */
static void
set_otp(Preparation *p)
{
	const char *ttl = p->common[COMMON_TTL];
	const char *length = p->common[COMMON_LENGTH];
	const char *digits_only = p->common[COMMON_DIGITS_ONLY];
	const Draft *draft = p->draft;
	Message *message = &p->prepared->message;

	message->code = to_utf8(draft->code, "code");
	message->ttl = ttl != NULL ? atoi(ttl) / 1000 : draft->ttl != 0 ? draft->ttl : DEFAULT_TTL;
	message->length = length != NULL ? atoi(length) : draft->length != 0 ? draft->length : DEFAULT_LENGTH;
	message->digits_only = digits_only != NULL ? setting_is_true(digits_only) : draft->digits_only;
}

/* Checks what only messages with a new one-time password have. */
static bool
check_otp(const Preparation *p)
{
	const OptionDef *length = &options_common[COMMON_LENGTH];
	const Message *message = &p->prepared->message;

	if (message->call != CALL_OTP)
		return true;
	if (!is_by_template(p) && strstr(message->content, OTP_PLACE) == NULL)
		return refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE,
							"The code is put in the place of {OTP}.",
							"the text of a one-time password must hold {OTP}");
	if (message->length < length->min || message->length > length->max)
		return refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
							"a one-time password has %.0f to %.0f characters", length->min, length->max);
	if (message->ttl < 1 || message->ttl > MAX_TTL)
		return refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL,
							"a one-time password is good for 1 to %d seconds", MAX_TTL);
	return true;
}

static bool
check_kind(const Preparation *p)
{
	const Gateway *gateway = p->gateway;

	if (gateway->provider->calls & CALL_BIT(p->draft->call))
		return true;
	return refusal_fill(p->refusal, ERRCODE_FEATURE_NOT_SUPPORTED, NULL,
						"gateway \"%s\" (%s) cannot send messages of kind \"%s\"", gateway->name,
						gateway->provider->name, kind_name(p->draft->call));
}

/* What to do about a complaint: how to set the option that is missing, and what else helps; NULL: nothing. */
static const char *
complaint_hint(const Complaint *complaint, const char *server)
{
	const char *set;

	if (complaint->missing == NULL)
		return complaint->hint;
	set = hint_alter_server(server, complaint->missing, false);
	return complaint->hint != NULL ? psprintf("%s %s", set, complaint->hint) : set;
}

/* Asks the provider whether it has anything against the message. */
static bool
check_by_provider(const Preparation *p)
{
	Complaint complaint = {.message = ""};

	if (p->gateway->provider->check(p->prepared->settings, &p->prepared->message, &complaint))
		return true;
	return refusal_fill(
		p->refusal, complaint.unsupported ? ERRCODE_FEATURE_NOT_SUPPORTED : ERRCODE_INVALID_PARAMETER_VALUE,
		complaint_hint(&complaint, p->gateway->name), "%s", complaint.message);
}

static bool
refuse_option(const Preparation *p, const OptionDef *option, const char *request)
{
	return refusal_fill(p->refusal, ERRCODE_INVALID_PARAMETER_VALUE, "Leave it out.",
						"option \"%s\" has no place in %s", option->name, request);
}

/* What the user has asked for and the request cannot carry is refused, not dropped. */
static bool
check_options(const Preparation *p)
{
	static const int of_otp[] = {COMMON_TTL, COMMON_LENGTH, COMMON_DIGITS_ONLY};
	const Provider *provider = p->gateway->provider;
	const char *request = NULL;
	unsigned carried;

	for (int i = 0; p->draft->call != CALL_OTP && i < (int) lengthof(of_otp); i++)
	{
		if (p->common[of_otp[i]] != NULL)
			return refuse_option(p, &options_common[of_otp[i]], "a message that is no one-time password");
	}
	if (p->draft->content != NULL && provider->content_option != NULL &&
		(p->own & OPTION_BIT(provider->content_option - provider->options)))
		return refuse_option(p, provider->content_option, "a message with a text in content");
	if (provider->carries == NULL)
		return true;
	carried = provider->carries(p->prepared->settings, &p->prepared->message, &request);
	for (int i = 0; provider->options[i].name != NULL; i++)
	{
		if (p->own & ~carried & OPTION_BIT(i))
			return refuse_option(p, &provider->options[i], request);
	}
	return true;
}

/*
 * Checks everything about a message that can be known before it is sent, and
 * fills "prepared", whose pointers go to the draft's memory, the gateway's and
 * the current context's.  Returns false with the refusal filled if it can never be sent.
 * Raises 22021 if a text cannot be converted into UTF-8.
 */
bool
gateway_prepare(const Gateway *gateway, const Draft *draft, Prepared *prepared, Refusal *refusal)
{
	Preparation p = {.gateway = gateway, .draft = draft, .prepared = prepared, .refusal = refusal};

	memset(prepared, 0, sizeof(*prepared));
	prepared->message.call = draft->call;
	if (!check_kind(&p) || !prepare_options(&p) || !prepare_template(&p))
		return false;
	if (!(draft->call == CALL_BULK ? prepare_receivers(&p) : prepare_receiver(&p)))
		return false;
	if (!prepare_request_id(&p))
		return false;
	set_otp(&p);
	return prepare_content(&p) && check_otp(&p) && check_options(&p) && check_by_provider(&p);
}
