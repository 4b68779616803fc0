/*
 * raw.c
 *		The yardstick: the same requests that the worker makes, by libcurl alone.  One
 *		thread, one multi handle driven by epoll, connections kept alive.
 *
 * usage: raw URL REQUESTS IN_FLIGHT [CA_FILE]
 * Prints requests per second.  CA_FILE: of a server with TLS.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

static CURLM *multi;
static int epoll_fd;
static long timeout_ms = -1;
static struct curl_slist *headers;
static const char *url;
static long started;
static long wanted;
static long failed;

typedef struct Slot
{
	char body[512];
	char answer[512];
	size_t len;
} Slot;

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct epoll_event event = {0};

	(void) easy;
	(void) arg;
	event.data.fd = fd;
	event.events = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);
	if (what == CURL_POLL_REMOVE)
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	else
		epoll_ctl(epoll_fd, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event);
	curl_multi_assign(multi, fd, what == CURL_POLL_REMOVE ? NULL : &epoll_fd);
	return 0;
}

static int
on_timer(CURLM *handle, long ms, void *arg)
{
	(void) handle;
	(void) arg;
	timeout_ms = ms;
	return 0;
}

static size_t
on_body(char *data, size_t one, size_t n, void *arg)
{
	Slot *slot = arg;

	(void) one;
	if (slot->len + n < sizeof(slot->answer))
	{
		memcpy(slot->answer + slot->len, data, n);
		slot->len += n;
		slot->answer[slot->len] = '\0';
	}
	return n;
}

static void
start(CURL *easy)
{
	Slot *slot;

	curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &slot);
	slot->len = 0;
	snprintf(
		slot->body, sizeof(slot->body),
		"{\"ApiKey\":\"demo\",\"SecretKey\":\"demo\",\"Phone\":\"84901234567\",\"Content\":\"Order %ld has "
		"shipped\",\"SmsType\":\"2\",\"Brandname\":\"MYSHOP\",\"IsUnicode\":\"0\",\"RequestId\":\"raw-%ld-%"
		"ld\"}",
		started, (long) getpid(), started);
	started++;
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long) strlen(slot->body));
	curl_easy_setopt(easy, CURLOPT_POSTFIELDS, slot->body);
	curl_multi_add_handle(multi, easy);
}

int
main(int argc, char **argv)
{
	struct timespec a, b;
	long done = 0;
	int in_flight = argc >= 4 ? atoi(argv[3]) : 0;
	int running;

	if (in_flight <= 0)
	{
		fputs("usage: raw URL REQUESTS IN_FLIGHT [CA_FILE]\n", stderr);
		return 2;
	}
	url = argv[1];
	wanted = atol(argv[2]);
	curl_global_init(CURL_GLOBAL_DEFAULT);
	multi = curl_multi_init();
	epoll_fd = epoll_create1(0);
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) in_flight);
	headers = curl_slist_append(headers, "Content-Type: application/json");
	headers = curl_slist_append(headers, "Expect:");

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < in_flight && started < wanted; i++)
	{
		CURL *easy = curl_easy_init();
		Slot *slot = calloc(1, sizeof(Slot));

		curl_easy_setopt(easy, CURLOPT_PRIVATE, slot);
		curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
		curl_easy_setopt(easy, CURLOPT_WRITEDATA, slot);
		curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		if (argc > 4)
			curl_easy_setopt(easy, CURLOPT_CAINFO, argv[4]);
		start(easy);
	}
	while (done < wanted)
	{
		struct epoll_event events[128];
		CURLMsg *msg;
		int left;
		int n = epoll_wait(epoll_fd, events, 128, (int) timeout_ms);

		for (int i = 0; i < n; i++)
			curl_multi_socket_action(multi, events[i].data.fd,
									 (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
										 (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0),
									 &running);
		if (n <= 0 || timeout_ms == 0)
			curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
		while ((msg = curl_multi_info_read(multi, &left)) != NULL)
		{
			CURL *easy = msg->easy_handle;
			Slot *slot;

			curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &slot);
			if (msg->data.result != CURLE_OK || strstr(slot->answer, "\"100\"") == NULL)
				failed++;
			done++;
			curl_multi_remove_handle(multi, easy);
			if (started < wanted)
				start(easy);
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	if (failed > 0)
		fprintf(stderr, "raw: %ld of %ld failed\n", failed, wanted);
	printf("%.0f\n",
		   (double) wanted / ((double) (b.tv_sec - a.tv_sec) + (double) (b.tv_nsec - a.tv_nsec) / 1e9));
	return failed > 0;
}
