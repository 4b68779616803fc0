/*
 * option.c
 *		Reads the value of an option, as a user wrote it, into the form that
 *		providers and the engine read.  Pure, so that it can be fuzzed.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "provider/option.h"
#include "text/text.h"

/* Fills the complaint; always returns NULL. */
static const char *wrong(OptionValue *read, const char *format, ...) __attribute__((format(printf, 2, 3)));

static const char *
wrong(OptionValue *read, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(read->detail, sizeof(read->detail), format, args);
	va_end(args);
	return NULL;
}

static const char *
text_value(const OptionDef *option, const char *value, OptionValue *read)
{
	if (value[0] == '\0')
		return wrong(read, "It is empty.");
	if (option->max > 0 && utf8_characters(value) > option->max)
		return wrong(read, "It is longer than %.0f characters.", option->max);
	for (const char *p = value; *p; p++)
	{
		if ((unsigned char) *p < 0x20 || *p == 0x7F)
			return wrong(read, "It holds a control character.");
	}
	return value;
}

static const char *
number_value(const OptionDef *option, const char *value, OptionValue *read)
{
	bool whole = option->type == OPTION_INT;
	char *end;
	double number;

	errno = 0;
	number = strtod(value, &end);
	if (end == value || *end != '\0' || errno != 0 || isnan(number) || (whole && number != rint(number)))
		return wrong(read, whole ? "It is not a whole number." : "It is not a number.");
	if (number < option->min || number > option->max)
		return wrong(read, "It is not between %.0f and %.0f.", option->min, option->max);
	snprintf(read->text, sizeof(read->text), whole ? "%.0f" : "%.15g", number);
	return read->text;
}

static const char *
duration_value(const OptionDef *option, const char *value, const OptionParsers *parsers, OptionValue *read)
{
	int ms;

	if (!parsers->parse_time(value, true, &ms))
		return wrong(read, "It is not a time such as 500ms, 10s or 2min.");
	if (ms < option->min || ms > option->max)
		return wrong(read, "It is not between %.0f and %.0f ms, which is the unit of a bare number.",
					 option->min, option->max);
	snprintf(read->text, sizeof(read->text), "%d", ms);
	return read->text;
}

static const char *
choice_value(const OptionDef *option, const char *value, const OptionParsers *parsers, OptionValue *read)
{
	const char *const *choices = option->choices;
	bool flag;

	for (int i = 0; i < MAX_CHOICES && choices[i] != NULL; i++)
	{
		if (strcmp(value, choices[i]) == 0)
			return choices[i];
	}
	/* true and false may be written as for any Boolean */
	if (strcmp(choices[0], "auto") == 0 && parsers->parse_bool(value, &flag))
		return flag ? "true" : "false";
	return wrong(read, "It is none of %s, %s%s%s.", choices[0], choices[1], choices[2] ? ", " : "",
				 choices[2] ? choices[2] : "");
}

/* Is it a list such as '0, 200' or, for routes, '1,3': of 1, 2 and 3, each at most once? */
bool
option_is_list(const char *value, bool route)
{
	const char *p = value;
	char *end;
	bool seen[MAX_ROUTES + 1] = {false};

	for (;;)
	{
		long n = strtol(p, &end, 10);

		if (end == p)
			return false;
		if (route && (n < 1 || n > MAX_ROUTES || seen[n]))
			return false;
		if (route)
			seen[n] = true;
		p = end + strspn(end, " ");
		if (*p == '\0')
			return true;
		if (*p++ != ',')
			return false;
	}
}

/* Does a number begin with a country code of a list such as '84, 1', or is that 'all'? */
bool
option_has_country(const char *list, const char *msisdn)
{
	char *end;

	if (strcmp(list, "all") == 0)
		return true;
	for (const char *p = list; *p; p = end + strspn(end, ", "))
	{
		char code[24];

		snprintf(code, sizeof(code), "%ld", strtol(p, &end, 10));
		if (end == p)
			return false;
		if (strncmp(msisdn, code, strlen(code)) == 0)
			return true;
	}
	return false;
}

/*
 * '5/hour' or '100/15min' as "5 3600": messages and seconds.  'off' is "0 0".
 */
static const char *
rate_value(const char *value, const OptionParsers *parsers, OptionValue *read)
{
	static const struct
	{
		const char *name;
		int seconds;
	} units[] = {{"second", 1}, {"minute", 60}, {"hour", 3600}, {"day", 86400}};
	char *end;
	long n;
	int seconds = 0;

	if (strcmp(value, "off") == 0)
		return "0 0";
	errno = 0;
	n = strtol(value, &end, 10);
	if (end == value || errno != 0 || n < 0 || n > 1000000000 || *end != '/')
		return wrong(read, "It is not a number of messages in a time, such as 5/hour, 100/15min or off.");
	for (int i = 0; i < (int) (sizeof(units) / sizeof(units[0])); i++)
	{
		if (strcmp(end + 1, units[i].name) == 0)
			seconds = units[i].seconds;
	}
	if (seconds == 0 && !parsers->parse_time(end + 1, false, &seconds))
		return wrong(read, "Its time is none of second, minute, hour, day, and not one such as 15min.");
	if (seconds < 1 || seconds > 31 * 86400)
		return wrong(read, "Its time is not between a second and 31 days.");
	snprintf(read->text, sizeof(read->text), "%ld %d", n, seconds);
	return read->text;
}

/*
 * Checks a value, which is UTF-8, and returns it in the form in which it is used: the value
 * itself, a constant, or read->text.  Returns NULL if it is not acceptable, with the reason in
 * read->detail.  (OPTION_URL, and what is an address in OPTION_LINK, is url_parse.c's to check.)
 */
const char *
option_read(const OptionDef *option, const char *value, const OptionParsers *parsers, OptionValue *read)
{
	bool flag;

	switch (option->type)
	{
		case OPTION_TEXT:
		case OPTION_SERVER_NAME:
		case OPTION_DATE:
		case OPTION_LINK:
			return text_value(option, value, read);
		case OPTION_BOOL:
			if (!parsers->parse_bool(value, &flag))
				return wrong(read, "It is neither true nor false.");
			return flag ? "true" : "false";
		case OPTION_INT:
		case OPTION_NUMBER:
			return number_value(option, value, read);
		case OPTION_DURATION:
			return duration_value(option, value, parsers, read);
		case OPTION_CHOICE:
			return choice_value(option, value, parsers, read);
		case OPTION_FILE:
			return value[0] == '/' ? value : wrong(read, "It is not an absolute path.");
		case OPTION_INT_LIST:
			return option_is_list(value, false) ? value : wrong(read, "It is not a list of whole numbers.");
		case OPTION_COUNTRIES:
			return strcmp(value, "all") == 0 || option_is_list(value, false)
					   ? value
					   : wrong(read, "It is not a list of country codes, such as 84,1, and not \"all\".");
		case OPTION_ROUTE:
			return option_is_list(value, true)
					   ? value
					   : wrong(read, "It is not a list of 1, 2 and 3, each at most once.");
		case OPTION_RATE:
			return rate_value(value, parsers, read);
		case OPTION_URL:
		case OPTION_JSON:
			break;
	}
	return value;
}
