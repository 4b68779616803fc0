/*
 * http_call.h
 *		One request and its answer, in the foreground.
 */
#ifndef SMS_HTTP_CALL_H
#define SMS_HTTP_CALL_H

#include "net/http.h"

extern bool http_call(const HttpEndpoint *endpoint, HttpRequest *request, bool repeat_safe,
					  void (*take)(HttpAnswer *answer, void *arg), void *arg);

#endif /* SMS_HTTP_CALL_H */
