/*
 * support.c
 *		What several providers need: complaints, Boolean settings, operators.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "provider/support.h"

/* Is a boolean option, checked before, on?  NULL: it is not given. */
bool
setting_is_true(const char *value)
{
	return value != NULL && strcmp(value, "true") == 0;
}

/* The operator that providers of Vietnam give a number to, else the text itself. */
const char *
telco_name(const char *id)
{
	static const char *const names[] = {
		"Viettel", "MobiFone", "VinaPhone", "Vietnamobile", "Gtel", "Itel", "Reddi",
	};

	if (id[0] >= '1' && id[0] <= '7' && id[1] == '\0')
		return names[id[0] - '1'];
	return id;
}

/* Fills a complaint; always returns false, for "return complain(…)". */
bool
complain(Complaint *complaint, const char *hint, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(complaint->message, sizeof(complaint->message), format, args);
	va_end(args);
	complaint->hint = hint;
	complaint->unsupported = false;
	return false;
}
