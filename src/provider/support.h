/*
 * support.h
 *		What several providers need: complaints, settings, requests, answers.
 *
 * Of json-c only a struct is named here: files of the server include this too, and cannot
 * include json-c.
 */
#ifndef SMS_SUPPORT_H
#define SMS_SUPPORT_H

#include "provider/provider.h"

struct json_object;

/* What a code in a provider's answers means; a table of them ends with a code of NULL. */
typedef struct CodeMeaning
{
	const char *code;
	Verdict verdict;
	const char *words; /* of ours, for those who may not see the provider's; or NULL */
} CodeMeaning;

extern bool complain(Complaint *complaint, const char *hint, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
extern bool lacks(Complaint *complaint, const OptionDef *option);
extern bool not_set_up(Complaint *complaint, const OptionDef *option, const char *message);
extern bool check_date(Complaint *complaint, const OptionDef *option, const char *value, int default_offset);

extern bool setting_is_true(const char *value);
extern bool goes_as_unicode(const char *unicode, const TextShape *shape);

extern void request_query(HttpRequest *request, const char *name, const char *value);
extern void request_header(HttpRequest *request, const char *name, const char *value);
extern void put_content(struct json_object *body, const char *name, const Message *message);
extern bool request_body(HttpRequest *request, const char *path, struct json_object *body);

extern const char *words_of(const CodeMeaning *meanings, const char *code);
extern Verdict verdict_of(const CodeMeaning *meanings, const char *code);
extern bool read_balance(const HttpAnswer *http, const char *field, char *amount, size_t size);
extern void read_telco(struct json_object *body, Report *report);

#endif /* SMS_SUPPORT_H */
