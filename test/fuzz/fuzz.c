/*
 * fuzz.c
 *		libFuzzer targets for all that reads what others wrote: answers and reports of
 *		each provider, messages, texts, phone numbers, JSON, dates, options, libcurl's words.  Built once for each target,
 *		with -DTARGET=answers and so on; "make fuzz" runs them.
 *
 * Beside what the sanitizers find, each target checks what callers rely on.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "provider/answer.h"
#include "provider/option.h"
#include "provider/table.h"
#include "text/date.h"
#include "text/details.h"
#include "text/json.h"
#include "text/phone.h"
#include "text/scrub.h"
#include "text/text.h"

#define MUST(condition)                                                                                      \
	do                                                                                                       \
	{                                                                                                        \
		if (!(condition))                                                                                    \
		{                                                                                                    \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                  \
			abort();                                                                                         \
		}                                                                                                    \
	} while (0)

/* Is it valid UTF-8 without control characters, as what goes into rows has to be? */
static void
must_be_clean(const char *text, size_t size)
{
	size_t len = strnlen(text, size);

	MUST(len < size);
	for (size_t at = 0; at < len;)
	{
		unsigned c;
		int n = utf8_decode(text + at, len - at, &c);

		MUST(n > 0 && c >= 0x20 && c != 0x7F);
		at += (size_t) n;
	}
}

#define MUST_BE_CLEAN(array) must_be_clean(array, sizeof(array))

static char *
copy_text(const uint8_t *data, size_t len)
{
	char *text = malloc(len + 1);

	memcpy(text, data, len);
	text[len] = '\0';
	return text;
}

static const Provider *
some_provider(uint8_t which)
{
	int n = 0;

	while (providers[n] != NULL)
		n++;
	return providers[which % n];
}

/* The first three bytes choose provider, call and HTTP status; the rest is the body. */
static void
answers(const uint8_t *data, size_t len)
{
	static const int statuses[] = {200, 201, 302, 400, 401, 429, 500, 503};
	const char *settings[PROVIDER_MAX_OPTIONS] = {0};
	const Provider *provider;
	char *body;
	HttpAnswer http = {.progress = HTTP_ANSWERED, .retry_after = -1};
	Message message = {0};
	Answer answer;
	char amount[40];

	if (len < 3)
		return;
	provider = some_provider(data[0]);
	message.call = (Call) (data[1] % CALL_COUNT);
	for (int i = 0; provider->options[i].name != NULL; i++)
		settings[i] = provider->options[i].initial;
	body = copy_text(data + 3, len - 3);
	http.status = statuses[data[2] % 8];
	http.body = body;
	http.len = len - 3;
	answer_read(provider, settings, &message, NULL, &http, &answer);
	MUST(answer.verdict <= VERDICT_UNCERTAIN);
	MUST_BE_CLEAN(answer.code);
	MUST_BE_CLEAN(answer.message);
	MUST_BE_CLEAN(answer.smsid);
	MUST_BE_CLEAN(answer.id_omni_mess);
	MUST_BE_CLEAN(answer.referent_id);
	MUST_BE_CLEAN(answer.token);
	if (provider->balance != NULL && provider->balance(&http, amount, sizeof(amount)))
		MUST_BE_CLEAN(amount);
	if (provider->read_sent != NULL)
	{
		static SentEntry entries[SENT_PAGE_SIZE];
		int n = provider->read_sent(&http, entries);

		MUST(n <= SENT_PAGE_SIZE);
		for (int i = 0; i < n; i++)
		{
			MUST_BE_CLEAN(entries[i].request_id);
			MUST_BE_CLEAN(entries[i].report.smsid);
			MUST_BE_CLEAN(entries[i].report.code);
		}
	}
	free(body);
}

/* The next piece of the data, up to a zero byte; NULL if it is empty. */
static char *
take_text(const uint8_t **data, size_t *len)
{
	size_t n = strnlen((const char *) *data, *len);
	char *text = n > 0 ? copy_text(*data, n) : NULL;

	*data += n;
	*len -= n;
	if (*len > 0)
	{
		(*data)++;
		(*len)--;
	}
	return text;
}

static void
reports(const uint8_t *data, size_t len)
{
	Report report = {0};
	char *json;

	if (len < 1)
		return;
	json = copy_text(data + 1, len - 1);
	some_provider(data[0])->report(json, len - 1, &report);
	MUST(report.delivery <= DELIVERY_UNDELIVERED && report.parts >= 0);
	MUST_BE_CLEAN(report.code);
	MUST_BE_CLEAN(report.message);
	MUST_BE_CLEAN(report.smsid);
	MUST_BE_CLEAN(report.id_omni_mess);
	MUST_BE_CLEAN(report.referent_id);
	MUST_BE_CLEAN(report.request_id);
	MUST_BE_CLEAN(report.token);
	MUST_BE_CLEAN(report.price);
	MUST_BE_CLEAN(report.telco);
	free(details_of_report(report.telco, report.code, report.message));
	free(json);
}

static void
texts(const uint8_t *data, size_t len)
{
	char *text = copy_text(data, len);
	char small[16];
	TextShape by_text;
	TextShape ucs2;
	TextShape plain;
	char *with_code;

	utf8_copy(small, sizeof(small), text, len);
	MUST_BE_CLEAN(small);
	if (text_shape(text, strlen(text), CODING_BY_TEXT, &by_text))
	{
		MUST(text_shape(text, strlen(text), CODING_UCS2, &ucs2));
		MUST(by_text.parts <= ucs2.parts);
		MUST((by_text.parts == 0) == (text[0] == '\0'));
		with_code = text_replace(text, OTP_PLACE, "123456");
		MUST(with_code != NULL && strstr(with_code, OTP_PLACE) == NULL);
		free(with_code);
		MUST(text_unaccent(text));
		MUST(text_shape(text, strlen(text), CODING_BY_TEXT, &plain));
		MUST(plain.characters <= 3 * by_text.characters); /* an ellipsis is three */
	}
	else
		MUST(!text_unaccent(text));
	free(text);
}

static void
phones(const uint8_t *data, size_t len)
{
	char *text = copy_text(data, len);
	char msisdn[MSISDN_SIZE];
	char again[MSISDN_SIZE];

	if (phone_normalise(text, "84", msisdn) == PHONE_OK)
	{
		MUST(strspn(msisdn, "0123456789") == strlen(msisdn) && strlen(msisdn) >= 8);
		if (strncmp(msisdn, "84", 2) == 0)
		{
			MUST(phone_normalise(msisdn, "84", again) == PHONE_OK);
			MUST(strcmp(msisdn, again) == 0);
		}
	}
	free(text);
}

static void
json(const uint8_t *data, size_t len)
{
	char *text = copy_text(data, len);
	struct json_object *object = json_read_object(text, len);
	char value[64];
	char *written;

	if (object != NULL)
	{
		json_text(object, "a", value, sizeof(value));
		MUST_BE_CLEAN(value);
		written = details_with_failure(text, "g1", "code", "message", "g2");
		if (written != NULL)
		{
			struct json_object *again = json_read_object(written, strlen(written));

			MUST(again != NULL || strlen(text) < len || strlen(written) > 0);
			json_object_put(again);
		}
		free(written);
	}
	json_object_put(object);
	free(text);
}

static void
dates(const uint8_t *data, size_t len)
{
	char *text = copy_text(data, len);
	long long ms;

	if (date_read(text, 7 * 3600, &ms))
		MUST(ms > -86400000LL && ms < 253500000000000LL);
	free(text);
}

/* Other parsers than the server's, but as strict. */
static bool
parse_on_off(const char *value, bool *flag)
{
	*flag = strcmp(value, "on") == 0;
	return *flag || strcmp(value, "off") == 0;
}

static bool
parse_number(const char *value, bool milliseconds, int *time)
{
	char *end;

	(void) milliseconds;
	*time = (int) strtol(value, &end, 10);
	return end != value && *end == '\0';
}

/*
 * What a message that passed the checks becomes.  The first two bytes choose provider and call; pieces up to zero bytes are
 * the message's parts, then option by option what is set.
 */
static void
requests(const uint8_t *data, size_t len)
{
	char *settings[PROVIDER_MAX_OPTIONS] = {0};
	char *piece[6];
	const Provider *provider;
	static const OptionParsers parsers = {.parse_bool = parse_on_off, .parse_time = parse_number};
	const char *phone = "84901234567";
	Message message = {.phones = &phone, .nphones = 1, .ttl = 120, .length = 6, .request_id = "sgw-1"};
	SentPage page = {.list = "2", .from = 1700000000000LL, .to = 1700000600000LL, .number = 1};
	Complaint complaint = {0};
	HttpRequest request = {0};
	struct json_object *values;

	if (len < 2)
		return;
	provider = some_provider(data[0]);
	message.call = (Call) (data[1] % CALL_COUNT);
	message.sent = &page;
	data += 2;
	len -= 2;
	for (int i = 0; i < 6; i++)
		piece[i] = take_text(&data, &len);
	values = json_object_new_object();
	message.content = piece[0] != NULL ? piece[0] : "";
	message.template_code = piece[1];
	if (piece[2] != NULL)
		json_put_text(values, piece[2], piece[2]);
	message.list_param = json_object_to_json_string(values);
	message.routerule = piece[3] != NULL && option_is_list(piece[3], true) ? piece[3] : NULL;
	message.code = piece[4] != NULL ? piece[4] : "123456";
	message.reference = piece[5] != NULL ? piece[5] : "1";
	for (int i = 0; provider->options[i].name != NULL; i++)
	{
		const OptionDef *option = &provider->options[i];
		char *given = take_text(&data, &len);
		OptionValue read;
		const char *value = given != NULL ? option_read(option, given, &parsers, &read) : NULL;

		if (value == NULL)
			value = (option->where & OPTION_USER) != 0 ? "secret" : option->initial;
		settings[i] = value != NULL ? strdup(value) : NULL;
		free(given);
	}
	if ((provider->calls & CALL_BIT(message.call)) != 0 &&
		text_shape(message.content, strlen(message.content), CODING_BY_TEXT, &message.shape) &&
		(provider->check == NULL || provider->check((const char *const *) settings, &message, &complaint)) &&
		provider->build((const char *const *) settings, &message, &request))
		MUST(request.path != NULL && request.nquery <= HTTP_MAX_QUERY);
	free(request.body);
	json_object_put(values);
	for (int i = 0; i < 6; i++)
		free(piece[i]);
	for (int i = 0; i < PROVIDER_MAX_OPTIONS; i++)
		free(settings[i]);
}

/* The first two bytes choose provider (3: options of other types) and option; the rest is the value. */
static void
options(const uint8_t *data, size_t len)
{
	static const OptionDef others[] = {
		{"rate", OPTION_SERVER, OPTION_RATE, NULL, 0, 0, {NULL}, false},
		{"time", OPTION_SERVER, OPTION_DURATION, NULL, 100, 600000, {NULL}, false},
		{"number", OPTION_SERVER, OPTION_NUMBER, NULL, 0, 1e15, {NULL}, false},
		{NULL, 0, OPTION_TEXT, NULL, 0, 0, {NULL}, false},
	};
	static const OptionParsers parsers = {.parse_bool = parse_on_off, .parse_time = parse_number};
	const OptionDef *option;
	OptionValue first;
	OptionValue second;
	const char *value;
	const char *again;
	int messages;
	int seconds;
	char *text;
	int n = 0;

	if (len < 2)
		return;
	option = data[0] % 4 == 3 ? others : some_provider(data[0] % 4)->options;
	while (option[n].name != NULL)
		n++;
	option += data[1] % n;
	text = copy_text(data + 2, len - 2);
	memset(&first, 0xAA, sizeof(first));
	value = option_read(option, text, &parsers, &first);
	if (value == NULL)
		MUST_BE_CLEAN(first.detail);
	else if (option->type == OPTION_RATE)
		MUST(sscanf(value, "%d %d", &messages, &seconds) == 2 && messages >= 0 &&
			 (seconds > 0 || messages == 0));
	else if (option->type != OPTION_BOOL &&
			 (option->type != OPTION_CHOICE || strcmp(option->choices[0], "auto") != 0))
	{
		/* What was read reads as itself. */
		again = option_read(option, value, &parsers, &second);
		MUST(again != NULL && strcmp(again, value) == 0);
	}
	if (value != NULL && option->type == OPTION_INT)
		MUST(strtol(value, NULL, 10) >= option->min && strtol(value, NULL, 10) <= option->max);
	free(text);
}

/* No line shows a secret, wherever it stands. */
static void
scrub(const uint8_t *data, size_t len)
{
	static const char *const secrets[] = {"SeCrEt", "0901234567", NULL};
	char out[512];
	char *line;

	if (len < 1)
		return;
	line = copy_text(data + 1, len - 1);
	scrub_line(data[0] % 2 ? SCRUB_INFO : SCRUB_HEADER, line, len - 1, secrets, out, sizeof(out));
	MUST_BE_CLEAN(out);
	for (int i = 0; secrets[i] != NULL; i++)
		MUST(strstr(out, secrets[i]) == NULL);
	free(line);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	TARGET(data, len);
	return 0;
}
