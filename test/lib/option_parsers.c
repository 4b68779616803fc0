/*
 * option_parsers.c
 *		Stand-ins for PostgreSQL's parsers of Booleans and times (options.h), for tests
 *		that link without a server.
 */
#include <stdlib.h>
#include <string.h>

#include "provider/option.h"

bool
option_parse_bool(const char *value, bool *flag)
{
	*flag = strcmp(value, "on") == 0;
	return *flag || strcmp(value, "off") == 0;
}

bool
option_parse_time(const char *value, bool milliseconds, int *time)
{
	char *end;

	(void) milliseconds;
	*time = (int) strtol(value, &end, 10);
	return end != value && *end == '\0';
}
