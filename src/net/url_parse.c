/*
 * url_parse.c
 *		URLs taken apart, as libcurl does it, so that what is checked is where it goes.
 */
#include "postgres.h"

#include <curl/curl.h>

#include "net/url_parse.h"
#include "text/text.h"

/* Has a URL this part?  If so, and "out" is not NULL, it is copied there. */
static bool
get_part(CURLU *url, CURLUPart which, char *out, size_t size)
{
	char *part = NULL;
	bool has = curl_url_get(url, which, &part, 0) == CURLUE_OK;

	if (has && out != NULL)
		utf8_copy(out, size, part, strlen(part));
	curl_free(part);
	return has;
}

/*
 * Takes a URL of any scheme apart.  Returns NULL, or why it cannot be done, as a DETAIL, a literal; then
 * the parts say nothing.
 */
const char *
url_parse(const char *text, UrlParts *parts)
{
	CURLU *url = curl_url();
	CURLUcode result =
		url != NULL ? curl_url_set(url, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) : CURLUE_OUT_OF_MEMORY;

	if (result == CURLUE_OK && (!get_part(url, CURLUPART_SCHEME, parts->scheme, sizeof(parts->scheme)) ||
								!get_part(url, CURLUPART_HOST, parts->host, sizeof(parts->host))))
		result = CURLUE_NO_HOST;
	parts->has_user = get_part(url, CURLUPART_USER, NULL, 0);
	curl_url_cleanup(url);
	if (result == CURLUE_OUT_OF_MEMORY)
		return "Out of memory.";
	return result == CURLUE_OK ? NULL : "It is not a URL.";
}

/*
 * Is this a URL that requests may go to?  Returns NULL if so, else what is wrong with it, as a DETAIL:
 * a literal.  Sets *plain_remote when the scheme is http and the host is not of this machine, so that
 * the caller can ask for allow_http.
 */
const char *
url_check(const char *url, bool *plain_remote)
{
	UrlParts parts;
	const char *detail = url_parse(url, &parts);

	*plain_remote = detail == NULL && url_is_plain_remote(&parts);
	if (detail == NULL)
		detail = url_refusal(&parts);
	return detail != NULL ? detail : url_text_refusal(url);
}

/* Is this an address of the web, for others to follow?  Returns NULL if so, else what is wrong with it, as url_check(). */
const char *
url_check_link(const char *url)
{
	UrlParts parts;
	const char *detail = url_parse(url, &parts);

	if (detail == NULL && strcmp(parts.scheme, "https") != 0 && strcmp(parts.scheme, "http") != 0)
		detail = "It begins neither with https:// nor with http://.";
	return detail;
}
