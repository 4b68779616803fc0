/*
 * http.c
 *		libcurl's transfers: many in flight on one multi handle.
 *
 * Exactly-once rests on one rule kept here: a request is put on the wire once.
 * libcurl by itself repeats a request when a reused connection turns out dead,
 * although the server may have acted on it; progress_send() allows one start only,
 * unless the gateway knows a repeat again.
 *
 * libcurl's callbacks neither raise errors nor allocate from PostgreSQL: an
 * error thrown through libcurl leaves its handle unusable.
 */
#include "postgres.h"

#include <signal.h>

#include <curl/curl.h>

#include "base/settings.h"
#include "net/http.h"
#include "net/poller.h"
#include "net/progress.h"
#include "net/trace.h"
#include "net/transfer.h"
#include "net/url_parse.h"
#include "text/text.h"

/* The poller's sets of events are libcurl's. */
StaticAssertDecl(POLLER_IN == CURL_POLL_IN && POLLER_OUT == CURL_POLL_OUT, "watched for");
StaticAssertDecl(POLLER_IN == CURL_CSELECT_IN && POLLER_OUT == CURL_CSELECT_OUT, "ready for");
StaticAssertDecl(POLLER_ERR == CURL_CSELECT_ERR, "ready for");

/* Of this process; made at the first request, and never freed. */
static CURLM *multi = NULL;
static NetPoller *poller = NULL;
static HttpTransfer *free_transfers = NULL;
static int nrunning = 0;   /* transfers that libcurl has */
static int nwaiting = 0;   /* transfers at their gates */
static long reserved = 64; /* how many it may have */

/* A transfer that was to open a connection has one, or comes to none. */
static void
has_opened(HttpTransfer *t, bool connected)
{
	if (t->opens)
		gate_opened(t->gate, connected);
	t->opens = false;
}

static curl_socket_t
on_open(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	HttpTransfer *t = arg;
	int fd = poller_open(poller, address->family, address->socktype, address->protocol, t->multiplexes);

	(void) purpose;
	if (fd < 0 && (errno == EMFILE || errno == ENFILE))
		t->starved = true;
	if (t->gate != NULL && !t->opens)
	{
		t->opens = true;
		gate_opens(t->gate);
	}
	return fd < 0 ? CURL_SOCKET_BAD : fd;
}

static int
on_close(void *arg, curl_socket_t fd)
{
	(void) arg;
	gate_forget_room();
	return poller_close(poller, fd);
}

/* Called when libcurl begins or ends to wait for a descriptor, or for something else of it. */
static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	(void) easy;
	(void) arg;
	(void) known;
	return poller_watch(poller, fd, what == CURL_POLL_REMOVE ? 0 : what) ? 0 : -1;
}

static int
on_timer(CURLM *handle, long ms, void *arg)
{
	(void) handle;
	(void) arg;
	poller_set_timer(poller, ms);
	return 0;
}

static size_t
on_body(char *data, size_t one, size_t n, void *arg)
{
	(void) one;
	return progress_body(&((HttpTransfer *) arg)->progress, data, n) ? n : 0;
}

static size_t
on_header(char *data, size_t one, size_t n, void *arg)
{
	(void) one;
	return progress_header(&((HttpTransfer *) arg)->progress, data, n) ? n : 0;
}

/* Called each time that libcurl is about to put the request on a connection. */
static int
on_send(void *arg, char *remote_ip, char *local_ip, int remote_port, int local_port)
{
	(void) remote_ip;
	(void) local_ip;
	(void) remote_port;
	(void) local_port;
	has_opened(arg, true);
	return progress_send(&((HttpTransfer *) arg)->progress) ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

static int
on_debug(CURL *easy, curl_infotype type, char *data, size_t len, void *arg)
{
	static const TraceKind kinds[] = {[CURLINFO_TEXT] = TRACE_WORDS,
									  [CURLINFO_HEADER_IN] = TRACE_HEADER_IN,
									  [CURLINFO_HEADER_OUT] = TRACE_HEADER_OUT,
									  [CURLINFO_DATA_IN] = TRACE_BODY_IN,
									  [CURLINFO_DATA_OUT] = TRACE_BODY_OUT};
	HttpTransfer *t = arg;

	(void) easy;
	if (t->trace != NULL && (int) type < (int) lengthof(kinds))
		trace_add(t->trace, kinds[type], data, len);
	return 0;
}

/*
 * libcurl's resolver threads inherit the signal mask: they must get no signal.
 * They are started by curl_multi_socket_action(), not by curl_multi_add_handle().
 * The caller restores the mask that was.
 */
static void
block_signals(sigset_t *saved)
{
	sigset_t all;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, saved);
}

/* Tells libcurl for how many transfers at once it is to keep connections, and how many may share one. */
static void
set_reserved(void)
{
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, reserved);
	curl_multi_setopt(multi, CURLMOPT_MAX_CONCURRENT_STREAMS, Max(reserved, 100));
}

/* Makes this process's handles; does nothing when they are there.  Raises an error when something is out. */
static void
http_init(void)
{
	if (multi != NULL)
		return;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) /* again, after an error here: no harm */
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("could not initialize libcurl")));
	if (poller == NULL)
		poller = poller_create();
	multi = curl_multi_init();
	if (multi == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory in libcurl")));
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	set_reserved();
}

/*
 * Prepares for so many transfers at once: keeps as many connections, and raises this process's soft
 * limit of file descriptors if it may.  Returns how many transfers fit under the limit.  Raises an
 * error when memory or descriptors are out.
 */
int
http_reserve(int transfers)
{
	http_init();
	reserved = transfers;
	set_reserved();
	return poller_reserve(poller, transfers);
}

/* Has libcurl call into this file. */
static void
set_callbacks(HttpTransfer *t)
{
	CURL *easy = t->easy;

	curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
	curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, t);
	curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_send);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, t);
}

static void
stop_trace(HttpTransfer *t)
{
	if (t->trace != NULL)
		curl_easy_setopt(t->easy, CURLOPT_VERBOSE, 0L);
	trace_free(t->trace);
	t->trace = NULL;
}

/* Has libcurl tell what it does.  Where memory is out, it does not. */
static void
start_trace(HttpTransfer *t, const HttpRequest *request)
{
	t->trace = trace_create(request);
	if (t->trace == NULL)
		return;
	curl_easy_setopt(t->easy, CURLOPT_DEBUGFUNCTION, on_debug);
	curl_easy_setopt(t->easy, CURLOPT_DEBUGDATA, t);
	curl_easy_setopt(t->easy, CURLOPT_VERBOSE, 1L);
}

/* libcurl has a transfer no more. */
static void
was_removed(HttpTransfer *t)
{
	has_opened(t, false);
	t->running = false;
	nrunning--;
	if (t->gate != NULL)
		t->gate->running--;
}

/* A transfer waits at its gate no more. */
static void
leave_gate(HttpTransfer *t)
{
	transfer_take(&t->gate->waiting, t);
	t->waits = false;
	nwaiting--;
}

/* Has nothing of a request left yet, and no end of it come? */
bool
http_is_connecting(const HttpTransfer *t)
{
	return (t->running || t->waits) && !t->progress.began;
}

/*
 * Gives a transfer back, whatever its state: one that is under way is broken off, without a word in its
 * queue.  The answer that http_next() told of is gone.
 */
void
http_release(HttpTransfer *t)
{
	if (t->running)
	{
		sigset_t saved;

		block_signals(&saved);
		curl_multi_remove_handle(multi, t->easy);
		pthread_sigmask(SIG_SETMASK, &saved, NULL);
		was_removed(t);
	}
	if (t->waits)
		leave_gate(t);
	stop_trace(t);
	free(t->request_body);
	t->request_body = NULL;
	progress_restart(&t->progress);
	t->next = free_transfers;
	free_transfers = t;
}

/* Takes a transfer that is free, or makes one, for this body; NULL when memory is out. */
static HttpTransfer *
take_transfer(char *body)
{
	HttpTransfer *t = free_transfers;

	if (t != NULL)
		free_transfers = t->next;
	else if ((t = calloc(1, sizeof(*t))) == NULL || (t->easy = curl_easy_init()) == NULL)
	{
		free(t);
		free(body);
		return NULL;
	}
	t->request_body = body;
	t->errbuf[0] = '\0';
	t->starved = false;
	return t;
}

/* Hands a transfer to libcurl; false when memory is out. */
static bool
hand_over(HttpTransfer *t)
{
	t->running = curl_multi_add_handle(multi, t->easy) == CURLM_OK;
	if (!t->running)
		return false;
	nrunning++;
	if (t->gate != NULL)
		t->gate->running++;
	return true;
}

/*
 * Starts a request and takes over its body.  repeat_safe: no harm is done if the gateway is asked twice.
 * When the request has ended it stands in "queue" with its tag.  Returns NULL when memory is out, and
 * then nothing was sent.  Raises the errors of http_reserve(); then the body is the caller's yet.
 */
HttpTransfer *
http_start(const HttpEndpoint *endpoint, HttpRequest *request, bool repeat_safe, HttpQueue *queue, void *tag)
{
	HttpTransfer *t;
	bool ok;

	http_init();
	t = take_transfer(request->body);
	request->body = NULL;
	if (t == NULL)
		return NULL;
	t->queue = queue;
	t->tag = tag;

	if (transfer_configure(t, endpoint))
		set_callbacks(t);
	ok = transfer_set_target(t, endpoint, request);
	if (guc_log_http)
		start_trace(t, request);
	transfer_set_body(t);
	transfer_set_repeat(t, endpoint, repeat_safe);
	t->progress.started = request->started;
	t->gate = t->multiplexes ? gate_find(endpoint->id) : NULL;
	if (ok && t->gate != NULL)
	{
		transfer_push(&t->gate->waiting, t);
		t->waits = true;
		nwaiting++;
		return t;
	}
	if (ok && hand_over(t))
		return t;
	http_release(t);
	return NULL;
}

/* Does its server let requests share a connection? */
static void
learn_sharing(HttpTransfer *t)
{
	long version = 0;

	if (t->gate == NULL || t->result != CURLE_OK)
		return;
	curl_easy_getinfo(t->easy, CURLINFO_HTTP_VERSION, &version);
	t->gate->single = version != 0 && version < CURL_HTTP_VERSION_2_0;
}

/* Moves every transfer that libcurl has finished into its queue; returns whether there was one. */
static bool
collect_finished(void)
{
	CURLMsg *msg;
	int left;
	bool any = false;

	while ((msg = curl_multi_info_read(multi, &left)) != NULL)
	{
		HttpTransfer *t;

		if (msg->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &t);
		t->result = msg->data.result;
		/* Not only a socket: a resolver's pair, a file of certificates. */
		t->starved = t->result != CURLE_OK && !t->progress.began && (t->starved || poller_starved(poller));
		curl_multi_remove_handle(multi, t->easy);
		was_removed(t);
		learn_sharing(t);
		transfer_push(t->queue, t);
		any = true;
	}
	return any;
}

/* Hands over what waits at a gate, as far as it is open. */
static void
pass_gate(Gate *gate)
{
	int running;

	while (gate->waiting.head != NULL && gate_is_open(gate))
	{
		HttpTransfer *t = gate->waiting.head;

		leave_gate(t);
		if (!hand_over(t))
		{
			t->result = CURLE_OUT_OF_MEMORY;
			transfer_push(t->queue, t);
		}
		else if (gate_must_look(gate))
		{
			curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
			gate_looked(gate);
		}
	}
	if (gate->waiting.head == NULL)
		gate->let_go = false;
}

/*
 * The same at all gates, and takes what has ended with that, which may open one; returns whether something has.
 * Signals are blocked.
 */
static bool
pass_gates(void)
{
	bool any = false;
	bool again = nwaiting > 0;

	while (again)
	{
		for (Gate *gate = gate_first(); gate != NULL; gate = gate->next)
			pass_gate(gate);
		again = collect_finished();
		any = any || again;
	}
	return any;
}

/*
 * Closes what has ended while it rested.  libcurl does so only when it looks for a connection; with none
 * left that lives, and no transfer, a new handle serves as well.
 */
static void
close_ended(void)
{
	if (nrunning > 0 || !poller_all_ended(poller))
		return;
	curl_multi_cleanup(multi);
	poller_set_timer(poller, -1);
	multi = NULL;
}

/*
 * Lets transfers make progress; waits for up to timeout_ms (-1: without end) while there is nothing to
 * do.  wait_event: from wait_event().  Returns at once when the latch is set, which it leaves set, and
 * does not look at interrupts.  Raises no error once http_reserve() or http_start() was called.
 */
void
http_wait(long timeout_ms, uint32 wait_event)
{
	sigset_t saved;
	int running;
	int fd;
	int events;

	http_init();
	if (nwaiting > 0)
	{
		block_signals(&saved);
		if (pass_gates())
			timeout_ms = 0;
		pthread_sigmask(SIG_SETMASK, &saved, NULL);
	}
	poller_wait(poller, timeout_ms, wait_event);

	block_signals(&saved);
	while (poller_next(poller, &fd, &events))
		curl_multi_socket_action(multi, fd, events, &running);
	if (poller_timer_due(poller))
		curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	collect_finished();
	pass_gates();
	close_ended();
	pthread_sigmask(SIG_SETMASK, &saved, NULL);
}

/* Tells the user why a transfer failed. */
static void
describe_failure(const HttpTransfer *t, HttpAnswer *answer)
{
	static const struct
	{
		CURLcode result;
		Failure failure;
	} known[] = {{CURLE_COULDNT_RESOLVE_HOST, FAILURE_RESOLVE},
				 {CURLE_COULDNT_CONNECT, FAILURE_CONNECT},
				 {CURLE_OPERATION_TIMEDOUT, FAILURE_TIMEOUT},
				 {CURLE_SSL_CONNECT_ERROR, FAILURE_TLS},
				 {CURLE_PEER_FAILED_VERIFICATION, FAILURE_TLS},
				 {CURLE_SSL_CACERT_BADFILE, FAILURE_TLS},
				 {CURLE_SSL_CERTPROBLEM, FAILURE_TLS},
				 {CURLE_SSL_ISSUER_ERROR, FAILURE_TLS},
				 {CURLE_SSL_CIPHER, FAILURE_TLS}};
	Failure failure = FAILURE_BROKEN;

	for (int i = 0; i < (int) lengthof(known); i++)
	{
		if (known[i].result == t->result)
			failure = known[i].failure;
	}
	if (t->starved)
		failure = FAILURE_DESCRIPTORS;
	progress_failed(&t->progress, failure, t->timeout_ms, t->connect_timeout_ms,
					t->errbuf[0] ? t->errbuf : curl_easy_strerror(t->result), answer);
}

/*
 * Is the answer whole: its status, its headers, and as many bytes of a body as they announced?  Then it
 * counts however its stream ended: a server may answer before it has read the request, and close.
 */
static bool
is_whole(const HttpTransfer *t, long status)
{
	curl_off_t announced = -1;
	curl_off_t came = 0;

	curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
	curl_easy_getinfo(t->easy, CURLINFO_SIZE_DOWNLOAD_T, &came);
	return progress_is_readable(&t->progress) && status >= 200 && announced >= 0 && came == announced;
}

/* Reads an answer's headers, as far as they matter, into "answer". */
static void
read_headers(HttpTransfer *t, HttpAnswer *answer)
{
	char *redirect = NULL;
	UrlParts parts;

	if (answer->status == 429 || answer->status == 503)
	{
		curl_off_t seconds = 0;

		curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &seconds);
		if (seconds > 0)
			answer->retry_after = (int) Min(seconds, 24 * 3600);
	}
	curl_easy_getinfo(t->easy, CURLINFO_REDIRECT_URL, &redirect);
	if (redirect != NULL && url_parse(redirect, &parts) == NULL)
		utf8_copy(answer->redirect_host, sizeof(answer->redirect_host), parts.host, strlen(parts.host));
}

/*
 * Takes the next finished transfer off a queue and reads its outcome and its tag.  Returns NULL if there
 * is none; else the caller hands it to http_release(), until when the answer's body stays.
 */
HttpTransfer *
http_next(HttpQueue *queue, HttpAnswer *answer, void **tag)
{
	HttpTransfer *t = queue->head;
	long status = 0;

	if (t == NULL)
		return NULL;
	queue->head = t->next;
	if (queue->head == NULL)
		queue->tail = NULL;

	if (t->trace != NULL)
		ereport(LOG_SERVER_ONLY, (errmsg("HTTP request, as libcurl tells it"),
								  errdetail_internal("%s", trace_text(t->trace))));

	memset(answer, 0, sizeof(*answer));
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	answer->status = (int) status;
	answer->retry_after = -1;
	answer->body = t->progress.len > 0 ? t->progress.body : "";
	answer->len = t->progress.len;
	answer->repeated = t->progress.repeated;
	*tag = t->tag;
	if (t->result == CURLE_OK || is_whole(t, status))
	{
		answer->progress = HTTP_ANSWERED;
		read_headers(t, answer);
	}
	else
	{
		answer->progress = t->progress.began ? HTTP_MAYBE_SENT : HTTP_NOT_SENT;
		answer->starved = t->starved;
		curl_easy_getinfo(t->easy, CURLINFO_HTTP_CONNECTCODE, &status);
		answer->proxy_status = !t->progress.began && status >= 300 ? (int) status : 0;
		describe_failure(t, answer);
	}
	return t;
}
