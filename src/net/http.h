/*
 * http.h
 *		What http.c offers to the rest: transfers, and the wait for them.
 */
#ifndef SMS_HTTP_H
#define SMS_HTTP_H

#include <stdbool.h>

#include "provider/request.h"

/* Where requests go and how long they may take. */
typedef struct HttpEndpoint
{
	unsigned long id; /* never 0; a new one when anything below changes */
	const char *base_url;
	int timeout_ms;
	int connect_timeout_ms;
	const char *ca_file;  /* NULL: the system's */
	const char *ssl_cert; /* of ours, for servers that ask for one; NULL: none */
	const char *ssl_key;
	const char *proxy; /* NULL: none */
} HttpEndpoint;

typedef struct HttpTransfer HttpTransfer;

/* Finished transfers, in the order in which they ended. */
typedef struct HttpQueue
{
	HttpTransfer *head;
	HttpTransfer *tail;
} HttpQueue;

extern int http_reserve(int transfers);
extern const char *http_check_url(const char *url, bool *plain_remote);
extern HttpTransfer *http_start(const HttpEndpoint *endpoint, HttpRequest *request, bool repeat_safe,
								HttpQueue *queue, void *tag);
extern HttpTransfer *http_next(HttpQueue *queue, HttpAnswer *answer, void **tag);
extern void http_release(HttpTransfer *transfer);
extern void http_wait(long timeout_ms);
extern bool http_call(const HttpEndpoint *endpoint, HttpRequest *request, bool repeat_safe,
					  void (*take)(const HttpAnswer *answer, void *arg), void *arg);

#endif /* SMS_HTTP_H */
