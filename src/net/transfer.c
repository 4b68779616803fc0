/*
 * transfer.c
 *		What libcurl is told about one transfer: where it goes and how, what it sends.
 *
 * No function raises errors, and all memory comes from malloc.
 */
#include "postgres.h"

#include "net/transfer.h"
#include "net/url.h"

/*
 * Seconds that an idle connection may be reused after.  Where a repeat is not
 * safe it is short of the shortest keep-alive seen on servers (5 s): a
 * connection that closes under a request leaves its fate unknown.
 */
#define MAX_IDLE              30
#define MAX_IDLE_UNREPEATABLE 4

/* Seconds after which a name is looked up again, and a connection is not used again: addresses change. */
#define NAME_LIFE       30
#define CONNECTION_LIFE 60

/* Puts a transfer at the end of a queue. */
void
transfer_push(HttpQueue *queue, HttpTransfer *t)
{
	t->next = NULL;
	if (queue->tail != NULL)
		queue->tail->next = t;
	else
		queue->head = t;
	queue->tail = t;
}

/* Takes a transfer out of a queue, wherever it stands in it. */
void
transfer_take(HttpQueue *queue, HttpTransfer *t)
{
	HttpTransfer *before = NULL;

	for (HttpTransfer *other = queue->head; other != t; other = other->next)
		before = other;
	if (before != NULL)
		before->next = t->next;
	else
		queue->head = t->next;
	if (queue->tail == t)
		queue->tail = before;
}

/* Adds "name: value" to a header list; false when memory is out, and then the list stays as it is. */
static bool
add_header(struct curl_slist **list, const char *name, const char *value)
{
	size_t size = strlen(name) + strlen(value) + 3;
	char *line = malloc(size);
	struct curl_slist *longer;

	if (line == NULL)
		return false;
	snprintf(line, size, "%s: %s", name, value);
	longer = curl_slist_append(*list, line);
	free(line);
	*list = longer != NULL ? longer : *list;
	return longer != NULL;
}

/* Writes all headers of a request; false when memory is out. */
static bool
make_headers(HttpTransfer *t, const HttpRequest *request)
{
	/* Expect: makes a server answer in between; one round trip more. */
	bool ok = add_header(&t->headers, "Accept", "*/*") && add_header(&t->headers, "Expect", "");

	if (t->request_body != NULL)
		ok = ok && add_header(&t->headers, "Content-Type", "application/json");
	for (int i = 0; i < request->nheaders && ok; i++)
		ok = add_header(&t->headers, request->header[i].name, request->header[i].value);
	return ok;
}

/*
 * Sets the certificates to trust: those of a file, or the system's.  libcurl keeps what it has read of a file, but nothing
 * where a directory is set too, as it is in Debian: then it reads the file again for each connection, in 15 ms of this
 * process, which is one for all gateways.  The system's file has what the directory has; one that is given is to be trusted
 * in place of both.
 */
static void
trust(CURL *easy, const char *ca_file)
{
	const char *file = ca_file;

#if LIBCURL_VERSION_NUM >= 0x075400 /* tells which file it has been built with */
	if (file == NULL)
		curl_easy_getinfo(easy, CURLINFO_CAINFO, &file);
#endif
	if (file != NULL)
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	if (ca_file != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, ca_file);
}

/*
 * Settings that are the same for every request to one endpoint, in place of all that were.  Returns false
 * if they hold already.
 */
bool
transfer_configure(HttpTransfer *t, const HttpEndpoint *endpoint)
{
	CURL *easy = t->easy;

	if (t->endpoint == endpoint->id)
		return false;
	curl_easy_reset(easy);
	curl_slist_free_all(t->headers);
	t->headers = NULL;
	t->path = NULL;
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->errbuf);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) endpoint->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) endpoint->connect_timeout_ms);
	/*
	 * The receive buffer keeps its default size.  A transfer that fails before it has a connection keeps its buffer, and
	 * curl_easy_reset() forgets the size: with another than the default the next one would write beyond it.
	 */
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");           /* none from the environment … */
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");        /* … nor a look at it for each request */
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, ""); /* all that libcurl decodes */
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, (long) NAME_LIFE);
	curl_easy_setopt(easy, CURLOPT_MAXLIFETIME_CONN, (long) CONNECTION_LIFE);
	trust(easy, endpoint->ca_file);
	if (endpoint->ssl_cert != NULL)
		curl_easy_setopt(easy, CURLOPT_SSLCERT, endpoint->ssl_cert);
	if (endpoint->ssl_key != NULL)
		curl_easy_setopt(easy, CURLOPT_SSLKEY, endpoint->ssl_key);
	if (endpoint->proxy != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
		curl_easy_setopt(easy, CURLOPT_PROXY, endpoint->proxy);
		curl_easy_setopt(easy, CURLOPT_PROXYUSERNAME, endpoint->proxy_user);
		curl_easy_setopt(easy, CURLOPT_PROXYPASSWORD, endpoint->proxy_password);
	}
	t->endpoint = endpoint->id;
	t->repeats_set = false;
	t->timeout_ms = endpoint->timeout_ms;
	t->connect_timeout_ms = endpoint->connect_timeout_ms;
	return true;
}

/*
 * Sets URL and headers.  Those of the last request to this endpoint serve again
 * if the path is the same and nothing of the message is in the URL: headers
 * depend on the endpoint alone.
 */
bool
transfer_set_target(HttpTransfer *t, const HttpEndpoint *endpoint, const HttpRequest *request)
{
	char *url;
	bool ok;

	if (t->path == request->path && request->nquery == 0 && request->nsegments == 0)
		return true;
	t->path = NULL;
	curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, NULL);
	curl_slist_free_all(t->headers);
	t->headers = NULL;
	ok = make_headers(t, request);
	curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
	url = url_make(endpoint->base_url, request);
	if (t->target == NULL)
		t->target = curl_url();
	curl_easy_setopt(t->easy, CURLOPT_URL, NULL);
	/* Parsed here: as text, libcurl would parse and write it for each request. */
	ok = ok && url != NULL && t->target != NULL &&
		 curl_url_set(t->target, CURLUPART_URL, url, 0) == CURLUE_OK &&
		 curl_easy_setopt(t->easy, CURLOPT_CURLU, t->target) == CURLE_OK;
	free(url);
	if (ok && request->nquery == 0 && request->nsegments == 0)
		t->path = request->path;
	return ok;
}

/* Sets method and body; libcurl takes no copy of it. */
void
transfer_set_body(HttpTransfer *t)
{
	if (t->request_body == NULL)
	{
		curl_easy_setopt(t->easy, CURLOPT_HTTPGET, 1L);
		return;
	}
	curl_easy_setopt(t->easy, CURLOPT_POST, 1L);
	curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE, (long) strlen(t->request_body));
	curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, t->request_body);
}

/*
 * Sets what depends on whether a repeat is safe.  Over HTTP/2 a server may close a connection under
 * requests that it did not process; libcurl knows which, and sends those again, but does not say so: it
 * may only where no harm is done by any other repeat either.  Over HTTP/1.1 servers close a connection
 * between two requests, which is seen before the next one (poller.c).
 */
void
transfer_set_repeat(HttpTransfer *t, const HttpEndpoint *endpoint, bool repeat_safe)
{
	t->progress.repeat_safe = repeat_safe;
	if (t->repeats_set && t->repeats == repeat_safe)
		return;
	t->repeats_set = true;
	t->repeats = repeat_safe;
	t->multiplexes = repeat_safe && strncmp(endpoint->base_url, "https:", 6) == 0;
	curl_easy_setopt(t->easy, CURLOPT_HTTP_VERSION,
					 (long) (t->multiplexes ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_1_1));
	curl_easy_setopt(t->easy, CURLOPT_PIPEWAIT, (long) t->multiplexes);
	curl_easy_setopt(t->easy, CURLOPT_MAXAGE_CONN, (long) (repeat_safe ? MAX_IDLE : MAX_IDLE_UNREPEATABLE));
}
