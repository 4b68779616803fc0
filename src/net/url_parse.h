/*
 * url_parse.h
 *		URLs taken apart, as libcurl does it.
 */
#ifndef SMS_URL_PARSE_H
#define SMS_URL_PARSE_H

#include "net/url.h"

extern const char *url_parse(const char *text, UrlParts *parts);
extern const char *url_check_link(const char *url);
extern const char *url_check(const char *url, bool *plain_remote);

#endif /* SMS_URL_PARSE_H */
