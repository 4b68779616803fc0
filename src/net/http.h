/*
 * http.h
 *		Requests to gateways: many at once, and the wait for them.
 *
 * http_start() begins a transfer, http_wait() lets all of them make progress,
 * http_next() takes those that have ended off their queue, and http_release() gives
 * each back, ended or not.  Every transfer that was started is released once; nobody
 * else does it, so whoever starts one frees it on error, too.  Transfers belong to the
 * process, not to a transaction or a memory context.
 *
 * http_start() copies what it needs of endpoint and request, with two exceptions.  The
 * body of a request is taken over, and is then no longer in it.  Its path must be a
 * constant: by its address a later request to the same endpoint is known to go to the
 * same place.  What "started" points at has to live until http_release().
 *
 * Errors are raised by the first call in a process alone, when memory or descriptors
 * are out; and by http_next() if memory is out for the line that log_http asks for.
 * What becomes of a request is told in its HttpAnswer.
 */
#ifndef SMS_HTTP_H
#define SMS_HTTP_H

#include "postgres.h"

#include "net/endpoint.h"
#include "provider/request.h"

extern int http_reserve(int transfers);
extern HttpTransfer *http_start(const HttpEndpoint *endpoint, HttpRequest *request, bool repeat_safe,
								HttpQueue *queue, void *tag);
extern void http_wait(long timeout_ms, uint32 wait_event);
extern HttpTransfer *http_next(HttpQueue *queue, HttpAnswer *answer, void **tag);
extern bool http_is_connecting(const HttpTransfer *transfer);
extern void http_release(HttpTransfer *transfer);

#endif /* SMS_HTTP_H */
