/*
 * url.h
 *		URLs: which ones requests may go to, and how one is put together.
 *
 * Pure C: no PostgreSQL, and no libcurl, which url_parse.c has take URLs apart.
 */
#ifndef SMS_URL_H
#define SMS_URL_H

#include <stdbool.h>

#include "provider/request.h"

/* Of a URL that was taken apart: what the rules look at. */
typedef struct UrlParts
{
	char scheme[16]; /* in lower case; a longer one, which nobody knows, is cut */
	char host[256];  /* an IPv6 address stands in brackets */
	bool has_user;
} UrlParts;

extern const char *url_text_refusal(const char *text);
extern const char *url_refusal(const UrlParts *parts);
extern bool url_is_plain_remote(const UrlParts *parts);
extern char *url_escape(const char *text);
extern char *url_make(const char *base, const HttpRequest *request);

#endif /* SMS_URL_H */
