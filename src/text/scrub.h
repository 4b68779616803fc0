/*
 * scrub.h
 *		Takes secrets out of what libcurl tells of a request, before it is logged.
 */
#ifndef SMS_SCRUB_H
#define SMS_SCRUB_H

#include <stdbool.h>
#include <stddef.h>

/* What a line is. */
typedef enum ScrubLine
{
	SCRUB_INFO,   /* libcurl's own words */
	SCRUB_HEADER, /* of a request or an answer; also the first line of each */
} ScrubLine;

extern bool scrub_line(ScrubLine kind, const char *line, size_t len, const char *const *secrets, char *out,
					   size_t size);

#endif /* SMS_SCRUB_H */
