/*
 * http.c
 *		All of libcurl: many transfers in flight on one multi handle, and the one
 *		place where a backend waits for the network.
 *
 * curl's sockets live in a private epoll descriptor.  That descriptor, the
 * process latch and postmaster death are in one long-lived WaitEventSet, so a
 * wait ends at once for a signal as well as for an answer.
 *
 * Exactly-once rests on one rule kept here: a request is put on the wire once.
 * libcurl by itself repeats a request when a reused connection turns out dead,
 * although the server may have acted on it; on_send() allows one start only.
 *
 * libcurl's callbacks neither raise errors nor allocate from PostgreSQL: an
 * error thrown through libcurl leaves its handle unusable.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <curl/curl.h>

#include "base/compat.h"
#include "base/settings.h"
#include "net/http.h"
#include "portability/instr_time.h"
#include "storage/fd.h"
#include "text/scrub.h"
#include "text/text.h"

/* Decoded bytes of an answer; real ones have some hundred. */
#define MAX_BODY    (1024 * 1024)
#define MAX_HEADERS (64 * 1024)
/* A buffer larger than this is not kept for the next transfer. */
#define KEEP_BODY      (16 * 1024)
#define EVENTS_AT_ONCE 128
#define MAX_TRACE      8192 /* bytes of libcurl's words about one request */

/*
 * Seconds that an idle connection may be reused after.  Where a repeat is not
 * safe it is short of the shortest keep-alive seen on servers (5 s): a
 * connection that closes under a request leaves its fate unknown.
 */
#define MAX_IDLE              60
#define MAX_IDLE_UNREPEATABLE 4

struct HttpTransfer
{
	CURL *easy;
	uint64 endpoint;            /* whose settings "easy" holds; 0: nobody's */
	struct curl_slist *headers; /* as set on "easy" */
	CURLU *target;              /* the URL, as set on "easy" */
	const char *path;           /* whose URL is set on "easy"; NULL: none to be used again */
	char *request_body;
	char *body; /* of the answer */
	size_t len;
	size_t size;
	size_t header_bytes;
	bool began;    /* the request may be on the wire */
	bool repeated; /* libcurl wanted to send it again */
	bool too_large;
	bool running;
	int timeout_ms;
	int connect_timeout_ms;
	CURLcode result;
	HttpQueue *queue; /* where it goes when finished */
	void *tag;
	char *trace; /* what libcurl tells, scrubbed; NULL: nobody wants to know */
	size_t trace_len;
	char **secrets;     /* what must not be in it; ends with NULL */
	HttpTransfer *next; /* in a queue, or in the free list */
	char errbuf[CURL_ERROR_SIZE];
};

/* Of this process; made at the first request. */
static CURLM *multi = NULL;
static int epoll_fd = -1;
static WaitEventSet *wait_set = NULL;
static instr_time timer_start;
static long timer_ms = -1; /* after timer_start; -1: none */
static HttpTransfer *free_transfers = NULL;

/* What epoll knows of a descriptor. */
typedef struct Watch
{
	bool connection; /* opened by on_open(), so on_close() tells its end */
	bool wanted;     /* libcurl waits for it */
	uint32 events;   /* as registered; 0: not */
} Watch;

static Watch *watches = NULL; /* by descriptor */
static int nwatches = 0;

/* The entry of a descriptor; NULL when memory is out. */
static Watch *
watch_of(curl_socket_t fd)
{
	if (fd >= nwatches)
	{
		int n = Max(64, 2 * (fd + 1));
		Watch *longer = realloc(watches, n * sizeof(Watch));

		if (longer == NULL)
			return NULL;
		memset(longer + nwatches, 0, (n - nwatches) * sizeof(Watch));
		watches = longer;
		nwatches = n;
	}
	return &watches[fd];
}

static curl_socket_t
on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
	Watch *watch;

	(void) arg;
	(void) purpose;
	if (fd < 0)
		return CURL_SOCKET_BAD;
	watch = watch_of(fd);
	if (watch == NULL)
	{
		close(fd);
		return CURL_SOCKET_BAD;
	}
	*watch = (Watch){.connection = true};
	return fd;
}

/* Closing a descriptor takes it out of epoll. */
static int
on_close(void *arg, curl_socket_t fd)
{
	(void) arg;
	watches[fd] = (Watch){0};
	return close(fd);
}

/* Takes a descriptor out of epoll. */
static void
unwatch(curl_socket_t fd)
{
	epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	watches[fd].events = 0;
}

/*
 * libcurl takes its interest in a connection back after each answer and
 * renews it with the next request.  The connection stays in epoll between the
 * two: that spares two system calls a request.
 */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct epoll_event event = {0};
	Watch *watch = watch_of(fd);

	(void) easy;
	(void) arg;
	(void) known;
	if (watch == NULL)
		return -1;
	watch->wanted = what != CURL_POLL_REMOVE;
	if (!watch->wanted)
	{
		if (!watch->connection)
			unwatch(fd);
		return 0;
	}
	event.data.fd = fd;
	event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (event.events == watch->events)
		return 0;
	if (epoll_ctl(epoll_fd, watch->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0)
		return -1;
	watch->events = event.events;
	return 0;
}

static int
on_timer(CURLM *handle, long ms, void *arg)
{
	(void) handle;
	(void) arg;
	timer_ms = ms;
	INSTR_TIME_SET_CURRENT(timer_start);
	return 0;
}

static size_t
on_body(char *data, size_t one, size_t n, void *arg)
{
	HttpTransfer *t = arg;

	(void) one;
	if (t->len + n > MAX_BODY)
	{
		t->too_large = true;
		return 0;
	}
	if (t->len + n + 1 > t->size)
	{
		size_t size = Max(2 * (t->len + n + 1), 1024);
		char *body = realloc(t->body, size);

		if (body == NULL)
			return 0;
		t->body = body;
		t->size = size;
	}
	memcpy(t->body + t->len, data, n);
	t->len += n;
	t->body[t->len] = '\0';
	return n;
}

static size_t
on_header(char *data, size_t one, size_t n, void *arg)
{
	HttpTransfer *t = arg;

	(void) data;
	(void) one;
	t->header_bytes += n;
	if (t->header_bytes <= MAX_HEADERS)
		return n;
	t->too_large = true;
	return 0;
}

/*
 * Called each time that libcurl is about to put the request on a connection.
 */
static int
on_send(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
	HttpTransfer *t = arg;

	(void) remote_ip;
	(void) local_ip;
	(void) remote_port;
	(void) local_port;
	t->repeated = t->began;
	t->began = true;
	return t->repeated ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

/* One of libcurl's lines about a request; of bodies only the length is told. */
static void
add_trace(HttpTransfer *t, const char *prefix, ScrubLine kind, const char *line, size_t len)
{
	size_t left = MAX_TRACE - t->trace_len;
	char scrubbed[512];

	if (!scrub_line(kind, line, len, (const char *const *) t->secrets, scrubbed, sizeof(scrubbed)))
		return;
	if (strlen(prefix) + strlen(scrubbed) + 2 > left)
		return;
	t->trace_len +=
		snprintf(t->trace + t->trace_len, left, "%s%s%s", t->trace_len > 0 ? "\n" : "", prefix, scrubbed);
}

static int
on_debug(CURL *easy, curl_infotype type, char *data, size_t len, void *arg)
{
	HttpTransfer *t = arg;
	char size[32];

	(void) easy;
	if (t->trace == NULL)
		return 0;
	switch (type)
	{
		case CURLINFO_TEXT:
			add_trace(t, "* ", SCRUB_INFO, data, len);
			break;
		case CURLINFO_HEADER_IN:
			add_trace(t, "< ", SCRUB_HEADER, data, len);
			break;
		case CURLINFO_HEADER_OUT:
			while (len > 0)
			{
				char *end = memchr(data, '\n', len);
				size_t line = end != NULL ? (size_t) (end - data) + 1 : len;

				add_trace(t, "> ", SCRUB_HEADER, data, line);
				data += line;
				len -= line;
			}
			break;
		case CURLINFO_DATA_IN:
		case CURLINFO_DATA_OUT:
			snprintf(size, sizeof(size), "(%zu bytes)", len);
			add_trace(t, type == CURLINFO_DATA_IN ? "< " : "> ", SCRUB_INFO, size, strlen(size));
			break;
		default:
			break;
	}
	return 0;
}

/*
 * libcurl's resolver threads inherit the signal mask: they must get no signal.
 * They are started by curl_multi_socket_action(), not by curl_multi_add_handle().
 */
static void
block_signals(sigset_t *saved)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, saved);
}

static void
restore_signals(const sigset_t *saved)
{
	pthread_sigmask(SIG_SETMASK, saved, NULL);
}

/* Makes this process's handles; does nothing when they are there. */
static void
http_init(void)
{
	static bool curl_ready = false;

	if (wait_set != NULL)
		return;

	if (!curl_ready && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not initialize libcurl")));
	curl_ready = true;

	if (epoll_fd < 0)
	{
		if (!AcquireExternalFD())
			ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
							errmsg("no file descriptor is left for HTTP requests")));
		epoll_fd = epoll_create1(EPOLL_CLOEXEC);
		if (epoll_fd < 0)
		{
			ReleaseExternalFD();
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not create an epoll descriptor: %m")));
		}
	}
	if (multi == NULL)
	{
		multi = curl_multi_init();
		if (multi == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory in libcurl")));
		curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
		curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	}
	wait_set = compat_create_wait_event_set(3);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, epoll_fd, NULL, NULL);
}

/*
 * Prepares for so many transfers at once: keeps as many connections, and
 * raises this process's soft limit of file descriptors if it may.  Returns how
 * many transfers fit under the limit.
 */
int
http_reserve(int transfers)
{
	struct rlimit limit;
	rlim_t other = 256; /* what PostgreSQL itself wants in a worker */

	http_init();
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) transfers);
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return transfers;
	if (limit.rlim_cur < transfers + other)
	{
		limit.rlim_cur =
			limit.rlim_max == RLIM_INFINITY ? transfers + other : Min(transfers + other, limit.rlim_max);
		setrlimit(RLIMIT_NOFILE, &limit);
		getrlimit(RLIMIT_NOFILE, &limit);
	}
	if (limit.rlim_cur >= transfers + other)
		return transfers;
	return limit.rlim_cur > 2 * other ? (int) (limit.rlim_cur - other) : 16;
}

/* Is a URL's host this machine?  A name that begins with 127. is none. */
static bool
is_loopback(const char *host)
{
	struct in_addr address;

	if (inet_pton(AF_INET, host, &address) == 1)
		return ntohl(address.s_addr) >> 24 == 127;
	return strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
}

/*
 * Is this a URL that requests may go to?  Returns NULL if so, else what is
 * wrong with it, as a DETAIL.  Sets *plain_remote when the scheme is http and
 * the host is not of this machine, so that the caller can ask for allow_http.
 */
const char *
http_check_url(const char *url, bool *plain_remote)
{
	CURLU *parsed = curl_url();
	char *scheme = NULL;
	char *host = NULL;
	char *part = NULL;
	const char *wrong = NULL;
	static const struct
	{
		CURLUPart part;
		const char *wrong;
	} refused[] = {
		{CURLUPART_USER, "It holds a user name; credentials belong into the user mapping."},
		{CURLUPART_QUERY, "It holds a query."},
		{CURLUPART_FRAGMENT, "It holds a fragment."},
	};

	*plain_remote = false;
	if (parsed == NULL)
		return "Out of memory.";
	if (curl_url_set(parsed, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
		curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
		curl_url_get(parsed, CURLUPART_HOST, &host, 0) != CURLUE_OK)
		wrong = "It is not a URL.";
	else if (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)
		wrong = "It starts neither with https:// nor with http://.";
	else
	{
		for (int i = 0; i < (int) lengthof(refused) && wrong == NULL; i++)
		{
			if (curl_url_get(parsed, refused[i].part, &part, 0) == CURLUE_OK)
				wrong = refused[i].wrong;
			curl_free(part);
			part = NULL;
		}
		*plain_remote = strcmp(scheme, "http") == 0 && !is_loopback(host);
	}
	curl_free(scheme);
	curl_free(host);
	curl_url_cleanup(parsed);
	return wrong;
}

/* Writes base URL, path and escaped query; the caller frees it.  It is secret. */
static char *
make_url(CURL *easy, const HttpEndpoint *endpoint, const HttpRequest *request)
{
	size_t base_len = strlen(endpoint->base_url);
	size_t size = base_len + strlen(request->path) + 1;
	char *escaped[HTTP_MAX_QUERY] = {0};
	char *url = NULL;
	bool ok = true;

	while (base_len > 0 && endpoint->base_url[base_len - 1] == '/')
		base_len--;
	for (int i = 0; i < request->nquery; i++)
	{
		escaped[i] = curl_easy_escape(easy, request->query[i].value, 0);
		ok = ok && escaped[i] != NULL;
		size += ok ? strlen(request->query[i].name) + strlen(escaped[i]) + 2 : 0;
	}
	if (ok && (url = malloc(size)) != NULL)
	{
		int used = snprintf(url, size, "%.*s%s", (int) base_len, endpoint->base_url, request->path);

		for (int i = 0; i < request->nquery; i++)
			used += snprintf(url + used, size - used, "%c%s=%s", i == 0 ? '?' : '&', request->query[i].name,
							 escaped[i]);
	}
	for (int i = 0; i < request->nquery; i++)
		curl_free(escaped[i]);
	return url;
}

/* Adds to a header list; on failure the list stays as it is. */
static bool
add_header(struct curl_slist **list, const char *line)
{
	struct curl_slist *longer = curl_slist_append(*list, line);

	if (longer == NULL)
		return false;
	*list = longer;
	return true;
}

static bool
make_headers(HttpTransfer *t, const HttpRequest *request)
{
	/* Expect: makes a server answer in between; one round trip more. */
	bool ok = add_header(&t->headers, "Accept: */*") && add_header(&t->headers, "Expect:");

	if (t->request_body != NULL)
		ok = ok && add_header(&t->headers, "Content-Type: application/json");
	for (int i = 0; i < request->nheaders && ok; i++)
	{
		size_t size = strlen(request->header[i].name) + strlen(request->header[i].value) + 3;
		char *line = malloc(size);

		if (line == NULL)
			return false;
		snprintf(line, size, "%s: %s", request->header[i].name, request->header[i].value);
		ok = add_header(&t->headers, line);
		free(line);
	}
	return ok;
}

/* Settings that are the same for every request to one endpoint. */
static void
configure(HttpTransfer *t, const HttpEndpoint *endpoint)
{
	CURL *easy = t->easy;

	if (t->endpoint == endpoint->id)
		return;
	curl_easy_reset(easy);
	curl_slist_free_all(t->headers);
	t->headers = NULL;
	t->path = NULL;
	curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->errbuf);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_send);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, t);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) endpoint->timeout_ms);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) endpoint->connect_timeout_ms);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");           /* none from the environment … */
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");        /* … nor a look at it for each request */
	curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, ""); /* all that libcurl decodes */
	curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 4096L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	if (strncmp(endpoint->base_url, "https:", 6) == 0)
		curl_easy_setopt(easy, CURLOPT_PIPEWAIT, 1L);
	if (endpoint->ca_file != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, endpoint->ca_file);
	if (endpoint->ssl_cert != NULL)
		curl_easy_setopt(easy, CURLOPT_SSLCERT, endpoint->ssl_cert);
	if (endpoint->ssl_key != NULL)
		curl_easy_setopt(easy, CURLOPT_SSLKEY, endpoint->ssl_key);
	if (endpoint->proxy != NULL)
	{
		curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
		curl_easy_setopt(easy, CURLOPT_PROXY, endpoint->proxy);
	}
	t->endpoint = endpoint->id;
	t->timeout_ms = endpoint->timeout_ms;
	t->connect_timeout_ms = endpoint->connect_timeout_ms;
}

static void
stop_trace(HttpTransfer *t)
{
	for (char **secret = t->secrets; secret != NULL && *secret != NULL; secret++)
		free(*secret);
	free(t->secrets);
	t->secrets = NULL;
	if (t->trace != NULL)
		curl_easy_setopt(t->easy, CURLOPT_VERBOSE, 0L);
	free(t->trace);
	t->trace = NULL;
	t->trace_len = 0;
}

/* Has libcurl tell what it does.  Where memory is out, it does not. */
static void
start_trace(HttpTransfer *t, const HttpRequest *request)
{
	int n = 0;
	bool ok;

	t->secrets = calloc(2 * HTTP_MAX_QUERY + HTTP_MAX_HEADERS + 1, sizeof(char *));
	ok = t->secrets != NULL;
	for (int i = 0; ok && i < request->nquery; i++)
	{
		char *escaped = curl_easy_escape(t->easy, request->query[i].value, 0);

		ok = escaped != NULL && (t->secrets[n++] = strdup(request->query[i].value)) != NULL &&
			 (t->secrets[n++] = strdup(escaped)) != NULL;
		curl_free(escaped);
	}
	for (int i = 0; ok && i < request->nheaders; i++)
		ok = (t->secrets[n++] = strdup(request->header[i].value)) != NULL;
	t->trace = ok ? calloc(1, MAX_TRACE) : NULL;
	if (t->trace == NULL)
	{
		stop_trace(t);
		return;
	}
	curl_easy_setopt(t->easy, CURLOPT_DEBUGFUNCTION, on_debug);
	curl_easy_setopt(t->easy, CURLOPT_DEBUGDATA, t);
	curl_easy_setopt(t->easy, CURLOPT_VERBOSE, 1L);
}

/* Gives a transfer back, whatever its state; its answer is gone with it. */
void
http_release(HttpTransfer *t)
{
	if (t->running)
	{
		sigset_t saved;

		block_signals(&saved);
		curl_multi_remove_handle(multi, t->easy);
		restore_signals(&saved);
		t->running = false;
	}
	stop_trace(t);
	free(t->request_body);
	t->request_body = NULL;
	if (t->size > KEEP_BODY)
	{
		free(t->body);
		t->body = NULL;
		t->size = 0;
	}
	t->next = free_transfers;
	free_transfers = t;
}

/*
 * Sets URL and headers.  Those of the last request to this endpoint serve again
 * if the path is the same and nothing of the message is in the URL: headers
 * depend on the endpoint alone.
 */
static bool
set_target(HttpTransfer *t, const HttpEndpoint *endpoint, const HttpRequest *request)
{
	char *url;
	bool ok;

	if (t->path == request->path && request->nquery == 0)
		return true;
	t->path = NULL;
	curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, NULL);
	curl_slist_free_all(t->headers);
	t->headers = NULL;
	ok = make_headers(t, request);
	curl_easy_setopt(t->easy, CURLOPT_HTTPHEADER, t->headers);
	url = make_url(t->easy, endpoint, request);
	if (t->target == NULL)
		t->target = curl_url();
	curl_easy_setopt(t->easy, CURLOPT_URL, NULL);
	/* Parsed here: as text, libcurl would parse and write it for each request. */
	ok = ok && url != NULL && t->target != NULL &&
		 curl_url_set(t->target, CURLUPART_URL, url, 0) == CURLUE_OK &&
		 curl_easy_setopt(t->easy, CURLOPT_CURLU, t->target) == CURLE_OK;
	free(url);
	if (ok && request->nquery == 0)
		t->path = request->path;
	return ok;
}

/*
 * Starts a request, whose body it takes over.  When it has ended it stands in
 * "queue" with its tag.  Returns NULL when memory is out, and then nothing was sent.
 */
HttpTransfer *
http_start(const HttpEndpoint *endpoint, HttpRequest *request, bool repeat_safe, HttpQueue *queue, void *tag)
{
	HttpTransfer *t = free_transfers;
	bool ok;

	http_init();
	if (t != NULL)
		free_transfers = t->next;
	else if ((t = calloc(1, sizeof(*t))) == NULL || (t->easy = curl_easy_init()) == NULL)
	{
		free(t);
		free(request->body);
		request->body = NULL;
		return NULL;
	}
	t->request_body = request->body;
	request->body = NULL;
	t->len = t->header_bytes = 0;
	t->began = t->repeated = t->too_large = false;
	t->errbuf[0] = '\0';
	t->queue = queue;
	t->tag = tag;

	configure(t, endpoint);
	ok = set_target(t, endpoint, request);
	if (guc_log_http)
		start_trace(t, request);
	if (t->request_body != NULL)
	{
		curl_easy_setopt(t->easy, CURLOPT_POST, 1L);
		curl_easy_setopt(t->easy, CURLOPT_POSTFIELDSIZE, (long) strlen(t->request_body));
		curl_easy_setopt(t->easy, CURLOPT_POSTFIELDS, t->request_body);
	}
	else
		curl_easy_setopt(t->easy, CURLOPT_HTTPGET, 1L);
	curl_easy_setopt(t->easy, CURLOPT_MAXAGE_CONN, (long) (repeat_safe ? MAX_IDLE : MAX_IDLE_UNREPEATABLE));
	ok = ok && curl_multi_add_handle(multi, t->easy) == CURLM_OK;
	t->running = ok;
	if (!ok)
	{
		http_release(t);
		return NULL;
	}
	return t;
}

/* Moves every transfer that libcurl has finished into its queue. */
static void
collect_finished(void)
{
	CURLMsg *msg;
	int left;

	while ((msg = curl_multi_info_read(multi, &left)) != NULL)
	{
		HttpTransfer *t;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &t);
		t->result = msg->data.result;
		curl_multi_remove_handle(multi, t->easy);
		t->running = false;
		t->next = NULL;
		if (t->queue->tail != NULL)
			t->queue->tail->next = t;
		else
			t->queue->head = t;
		t->queue->tail = t;
	}
}

/* Milliseconds until libcurl wants to be called; -1: it does not. */
static long
timer_left(void)
{
	instr_time now;

	if (timer_ms < 0)
		return -1;
	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, timer_start);
	return Max(timer_ms - (long) INSTR_TIME_GET_MILLISEC(now), 0);
}

/*
 * Lets transfers make progress; waits for up to timeout_ms (-1: without end)
 * while there is nothing to do.  Returns at once when the latch is set, which it
 * leaves set.  Raises no error and does not look at interrupts.
 */
void
http_wait(long timeout_ms)
{
	struct epoll_event ready[EVENTS_AT_ONCE];
	WaitEvent events[3];
	int nready;
	int running;
	long left;
	sigset_t saved;

	http_init();
	nready = epoll_wait(epoll_fd, ready, EVENTS_AT_ONCE, 0);
	left = timer_left();
	if (nready <= 0 && left != 0 && timeout_ms != 0)
	{
		if (left < 0 || (timeout_ms >= 0 && timeout_ms < left))
			left = timeout_ms;
		WaitEventSetWait(wait_set, left, events, lengthof(events), PG_WAIT_EXTENSION);
		nready = epoll_wait(epoll_fd, ready, EVENTS_AT_ONCE, 0);
	}

	block_signals(&saved);
	for (int i = 0; i < nready; i++)
	{
		int mask = (ready[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
				   (ready[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
				   (ready[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

		/* An idle connection that ends, or talks unasked: libcurl finds out when it wants to use it. */
		if (!watches[ready[i].data.fd].wanted)
			unwatch(ready[i].data.fd);
		else
			curl_multi_socket_action(multi, ready[i].data.fd, mask, &running);
	}
	if (timer_left() == 0)
	{
		timer_ms = -1;
		curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	collect_finished();
	restore_signals(&saved);
}

/* Which word stands for this failure, and its text for the user. */
static void
describe_failure(const HttpTransfer *t, HttpAnswer *answer)
{
	switch (t->result)
	{
		case CURLE_COULDNT_RESOLVE_HOST:
			answer->code = "resolve";
			break;
		case CURLE_COULDNT_CONNECT:
			answer->code = "connect";
			break;
		case CURLE_OPERATION_TIMEDOUT:
			answer->code = "timeout";
			if (t->began)
				snprintf(answer->error, sizeof(answer->error), "no answer within %d ms", t->timeout_ms);
			else
				snprintf(answer->error, sizeof(answer->error), "no connection within %d ms",
						 Min(t->connect_timeout_ms, t->timeout_ms));
			return;
		case CURLE_SSL_CONNECT_ERROR:
		case CURLE_PEER_FAILED_VERIFICATION:
		case CURLE_SSL_CACERT_BADFILE:
		case CURLE_SSL_CERTPROBLEM:
		case CURLE_SSL_ISSUER_ERROR:
		case CURLE_SSL_CIPHER:
			answer->code = "tls";
			break;
		default:
			answer->code = "broken";
			if (t->too_large)
				answer->code = "too_large";
			break;
	}
	if (t->repeated)
		snprintf(answer->error, sizeof(answer->error), "the connection closed before an answer");
	else if (t->too_large)
		snprintf(answer->error, sizeof(answer->error), "the answer is larger than %d bytes", MAX_BODY);
	else
		snprintf(answer->error, sizeof(answer->error), "%s",
				 t->errbuf[0] ? t->errbuf : curl_easy_strerror(t->result));
}

/*
 * Takes the next finished transfer off a queue and reads its outcome.  Returns
 * NULL if there is none; else the caller hands it to http_release(), until when
 * the answer's body stays.
 */
HttpTransfer *
http_next(HttpQueue *queue, HttpAnswer *answer, void **tag)
{
	HttpTransfer *t = queue->head;
	long status = 0;
	char *redirect = NULL;

	if (t == NULL)
		return NULL;
	queue->head = t->next;
	if (queue->head == NULL)
		queue->tail = NULL;

	if (t->trace != NULL)
		ereport(LOG_SERVER_ONLY,
				(errmsg("HTTP request, as libcurl tells it"), errdetail_internal("%s", t->trace)));

	memset(answer, 0, sizeof(*answer));
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	answer->status = (int) status;
	answer->retry_after = -1;
	answer->body = t->len > 0 ? t->body : "";
	answer->len = t->len;
	*tag = t->tag;

	if (t->result != CURLE_OK)
	{
		answer->progress = t->began ? HTTP_MAYBE_SENT : HTTP_NOT_SENT;
		describe_failure(t, answer);
		return t;
	}
	answer->progress = HTTP_ANSWERED;
	if (status == 429 || status == 503)
	{
		curl_off_t seconds = 0;

		curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &seconds);
		if (seconds > 0)
			answer->retry_after = (int) Min(seconds, 24 * 3600);
	}
	curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &redirect);
	if (redirect != NULL)
	{
		CURLU *url = curl_url();
		char *host = NULL;

		if (url != NULL && curl_url_set(url, CURLUPART_URL, redirect, 0) == CURLUE_OK &&
			curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK)
			utf8_copy(answer->redirect_host, sizeof(answer->redirect_host), host, strlen(host));
		curl_free(host);
		curl_url_cleanup(url);
	}
	return t;
}

/*
 * One request and its answer, in the foreground.  Query cancel, time-outs and
 * termination are obeyed at once.  "take" reads the answer before the transfer
 * is given back; it must not raise an error.  Returns false when memory is out.
 */
bool
http_call(const HttpEndpoint *endpoint, HttpRequest *request, bool repeat_safe,
		  void (*take)(const HttpAnswer *answer, void *arg), void *arg)
{
	HttpQueue queue = {NULL, NULL};
	HttpTransfer *volatile t = http_start(endpoint, request, repeat_safe, &queue, NULL);
	HttpAnswer answer;
	void *tag;

	if (t == NULL)
		return false;
	PG_TRY();
	{
		while (queue.head == NULL)
		{
			http_wait(-1);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
		http_next(&queue, &answer, &tag);
		take(&answer, arg);
	}
	PG_FINALLY();
	{
		http_release(t);
	}
	PG_END_TRY();
	return true;
}
