/*
 * transfer.h
 *		One transfer, and what libcurl is told about it; for http.c alone.
 */
#ifndef SMS_TRANSFER_H
#define SMS_TRANSFER_H

#include "postgres.h"

#include <curl/curl.h>

#include "net/endpoint.h"
#include "net/gate.h"
#include "net/progress.h"
#include "net/trace.h"

struct HttpTransfer
{
	CURL *easy;
	uint64 endpoint;            /* whose settings "easy" holds; 0: nobody's */
	struct curl_slist *headers; /* as set on "easy" */
	CURLU *target;              /* the URL, as set on "easy" */
	const char *path;           /* whose URL is set on "easy"; NULL: none to be used again */
	char *request_body;         /* from malloc */
	bool running;               /* libcurl has it */
	bool waits;                 /* at its gate */
	bool opens;                 /* a connection, and has not been sent yet */
	Gate *gate;                 /* of its endpoint, if it may share a connection; or NULL */
	bool starved;               /* it failed for want of a file descriptor */
	bool repeats_set;           /* the next two hold, and "easy" is set accordingly */
	bool repeats;               /* a request may be repeated … */
	bool multiplexes;           /* … and may share a connection (HTTP/2) */
	Progress progress;
	int timeout_ms;
	int connect_timeout_ms;
	CURLcode result;
	HttpQueue *queue; /* where it goes when finished */
	void *tag;
	Trace *trace;       /* what libcurl tells; NULL: nobody wants to know */
	HttpTransfer *next; /* in a queue, at a gate, or in the free list */
	char errbuf[CURL_ERROR_SIZE];
};

extern void transfer_push(HttpQueue *queue, HttpTransfer *t);
extern void transfer_take(HttpQueue *queue, HttpTransfer *t);
extern bool transfer_configure(HttpTransfer *t, const HttpEndpoint *endpoint);
extern bool transfer_set_target(HttpTransfer *t, const HttpEndpoint *endpoint, const HttpRequest *request);
extern void transfer_set_body(HttpTransfer *t);
extern void transfer_set_repeat(HttpTransfer *t, const HttpEndpoint *endpoint, bool repeat_safe);

#endif /* SMS_TRANSFER_H */
