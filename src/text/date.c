/*
 * date.c
 *		Reads dates and times of ISO 8601, and writes them as others want them.
 */
#include <ctype.h>
#include <time.h>

#include "text/date.h"

/* Reads exactly n digits; -1 if there are fewer. */
static int
digits(const char **at, int n)
{
	int value = 0;

	for (int i = 0; i < n; i++, (*at)++)
	{
		if (!isdigit((unsigned char) **at))
			return -1;
		value = value * 10 + (**at - '0');
	}
	return value;
}

/* Reads Z, +07, +0700 or +07:00 into seconds east of UTC. */
static bool
parse_offset(const char **at, int *seconds)
{
	int sign = **at == '-' ? -1 : 1;
	int hours;
	int minutes = 0;

	if (**at == 'Z' || **at == 'z')
	{
		(*at)++;
		*seconds = 0;
		return true;
	}
	if (**at != '+' && **at != '-')
		return false;
	(*at)++;
	hours = digits(at, 2);
	if (**at == ':')
		(*at)++;
	if (isdigit((unsigned char) **at))
		minutes = digits(at, 2);
	if (hours < 0 || hours > 15 || minutes < 0 || minutes > 59)
		return false;
	*seconds = sign * (hours * 3600 + minutes * 60);
	return true;
}

/*
 * Reads an ISO 8601 date and time, as PostgreSQL writes a timestamptz into
 * JSON, into milliseconds since 1970 UTC.  A time without an offset is taken to
 * be default_offset seconds east of UTC.  Returns false if it is anything else.
 */
bool
date_read(const char *text, int default_offset, long long *epoch_ms)
{
	struct tm tm = {0};
	struct tm check;
	time_t utc;
	int offset = default_offset;
	int ms = 0;
	int scale = 100;
	const char *at = text;

	tm.tm_year = digits(&at, 4) - 1900;
	if (tm.tm_year < 70 || *at++ != '-' || (tm.tm_mon = digits(&at, 2) - 1) < 0 || *at++ != '-' ||
		(tm.tm_mday = digits(&at, 2)) < 1 || (*at != 'T' && *at != ' '))
		return false;
	at++;
	if ((tm.tm_hour = digits(&at, 2)) < 0 || *at++ != ':' || (tm.tm_min = digits(&at, 2)) < 0)
		return false;
	if (*at == ':')
	{
		at++;
		if ((tm.tm_sec = digits(&at, 2)) < 0)
			return false;
	}
	if (*at == '.')
	{
		for (at++; isdigit((unsigned char) *at); at++, scale /= 10)
			ms += (*at - '0') * scale;
	}
	if (*at != '\0' && !parse_offset(&at, &offset))
		return false;
	check = tm;
	utc = timegm(&check);
	if (*at != '\0' || check.tm_mday != tm.tm_mday || check.tm_mon != tm.tm_mon ||
		check.tm_hour != tm.tm_hour || check.tm_min != tm.tm_min || check.tm_sec != tm.tm_sec)
		return false;
	*epoch_ms = ((long long) utc - offset) * 1000 + ms;
	return true;
}

/*
 * Writes a time, in milliseconds since 1970 UTC, as the clock "offset" seconds east of UTC
 * shows it, in a format of strftime().
 */
void
date_write(long long epoch_ms, int offset, const char *format, char *text, size_t size)
{
	time_t shown = (time_t) (epoch_ms / 1000) + offset;
	struct tm tm;

	gmtime_r(&shown, &tm);
	if (strftime(text, size, format, &tm) == 0)
		text[0] = '\0';
}
