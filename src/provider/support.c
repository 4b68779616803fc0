/*
 * support.c
 *		What several providers need: complaints, settings, requests, answers.
 */
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "provider/support.h"
#include "text/date.h"
#include "text/json.h"

/* Makes a complaint of a message, which the caller writes. */
static void
begin_complaint(Complaint *complaint, const OptionDef *missing, const char *hint)
{
	memset(complaint, 0, sizeof(*complaint));
	complaint->missing = missing;
	complaint->hint = hint;
}

/*
 * Complains in words of the provider's own.  "hint" is a constant, a sentence, or NULL.
 * Always returns false, for "return complain(...)"; so do lacks() and not_set_up().
 */
bool
complain(Complaint *complaint, const char *hint, const char *format, ...)
{
	va_list args;

	begin_complaint(complaint, NULL, hint);
	va_start(args, format);
	vsnprintf(complaint->message, sizeof(complaint->message), format, args);
	va_end(args);
	return false;
}

/*
 * Complains that a message cannot go without an option.  A hint that there is another way
 * may be added to the complaint.
 */
bool
lacks(Complaint *complaint, const OptionDef *option)
{
	begin_complaint(complaint, option, NULL);
	snprintf(complaint->message, sizeof(complaint->message), "this message needs the option \"%s\"",
			 option->name);
	return false;
}

/*
 * Complains that no message of this kind can pass the gateway without an option of its
 * server; "cannot" says so ("this gateway cannot ..."), the option's name is added to it.
 */
bool
not_set_up(Complaint *complaint, const OptionDef *option, const char *cannot)
{
	begin_complaint(complaint, option, NULL);
	snprintf(complaint->message, sizeof(complaint->message), "%s without the option \"%s\"", cannot,
			 option->name);
	complaint->unsupported = true;
	return false;
}

/*
 * Can the value of an option be read as a date?  One that is not given can; if another
 * cannot, complains and returns false.  "default_offset" is as in date_read().
 */
bool
check_date(Complaint *complaint, const OptionDef *option, const char *value, int default_offset)
{
	long long ms;

	if (value == NULL || date_read(value, default_offset, &ms))
		return true;
	return complain(complaint, "Write it as 2026-12-31T08:00:00+07:00.",
					"invalid value for option \"%s\": \"%s\"", option->name, value);
}

/* Is a boolean option, checked before, on?  NULL: it is not given. */
bool
setting_is_true(const char *value)
{
	return value != NULL && strcmp(value, "true") == 0;
}

/* Does a text go as Unicode, by an option that is auto, true or false? */
bool
goes_as_unicode(const char *unicode, const TextShape *shape)
{
	return strcmp(unicode, "auto") == 0 ? shape->ucs2 : setting_is_true(unicode);
}

/* Adds to the query of a request; "value" must live until the request is sent.  NULL: nothing is added. */
void
request_query(HttpRequest *request, const char *name, const char *value)
{
	if (value != NULL && request->nquery < HTTP_MAX_QUERY)
		request->query[request->nquery++] = (HttpPair){name, value};
}

/* Adds a header to a request, as request_query(). */
void
request_header(HttpRequest *request, const char *name, const char *value)
{
	if (value != NULL && request->nheaders < HTTP_MAX_HEADERS)
		request->header[request->nheaders++] = (HttpPair){name, value};
}

/* Adds a message's text; that of a one-time password made here has the code in the place of {OTP}. */
void
put_content(struct json_object *body, const char *name, const Message *message)
{
	char *with_code = NULL;

	if (message->call == CALL_OTP)
		with_code = text_replace(message->content, OTP_PLACE, message->code);
	json_put_text(body, name, with_code != NULL ? with_code : message->content);
	free(with_code);
}

/*
 * Makes a request one that posts "body", which is given back, to a path.  Returns false
 * when memory is out.
 */
bool
request_body(HttpRequest *request, const char *path, struct json_object *body)
{
	request->path = path;
	request->body = json_write(body);
	return request->body != NULL;
}

/* The entry of a code; the table's end, if it is not in it. */
static const CodeMeaning *
find_code(const CodeMeaning *meanings, const char *code)
{
	while (meanings->code != NULL && strcmp(meanings->code, code) != 0)
		meanings++;
	return meanings;
}

/* What a code means; one that is not in the table means what the table's end says. */
Verdict
verdict_of(const CodeMeaning *meanings, const char *code)
{
	return find_code(meanings, code)->verdict;
}

/* What a code means, in words of ours; NULL: the table has none. */
const char *
words_of(const CodeMeaning *meanings, const char *code)
{
	return find_code(meanings, code)->words;
}

/* Reads a field of an answer as an amount of money, into "size" bytes; false if it has none. */
bool
read_balance(const HttpAnswer *http, const char *field, char *amount, size_t size)
{
	struct json_object *body = json_read_object(http->body, http->len);
	bool told = json_text(body, field, amount, size);

	json_object_put(body);
	return told;
}

/* The operator that providers of Vietnam give a number to, else the text itself. */
static const char *
telco_name(const char *id)
{
	static const char *const names[] = {
		"Viettel", "MobiFone", "VinaPhone", "Vietnamobile", "Gtel", "Itel", "Reddi",
	};

	if (id[0] >= '1' && id[0] <= '7' && id[1] == '\0')
		return names[id[0] - '1'];
	return id;
}

/* Adds to a report the operator that the field "telcoid" names. */
void
read_telco(struct json_object *body, Report *report)
{
	char id[sizeof(report->telco)];

	if (json_text(body, "telcoid", id, sizeof(id)))
		snprintf(report->telco, sizeof(report->telco), "%s", telco_name(id));
}
