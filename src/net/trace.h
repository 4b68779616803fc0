/*
 * trace.h
 *		What happened to one request on the wire, for the server's log, without what
 *		is secret.
 *
 * All of it comes from malloc, and no function raises errors: they are called from
 * within libcurl.
 */
#ifndef SMS_TRACE_H
#define SMS_TRACE_H

#include <stdbool.h>
#include <stddef.h>

#include "provider/request.h"

/* What a piece of it is. */
typedef enum TraceKind
{
	TRACE_WORDS, /* the HTTP library's own */
	TRACE_HEADER_IN,
	TRACE_HEADER_OUT, /* one or more lines */
	TRACE_BODY_IN,    /* of bodies only the length is told */
	TRACE_BODY_OUT,
} TraceKind;

typedef struct Trace Trace;

extern Trace *trace_create(const HttpRequest *request);
extern void trace_add(Trace *trace, TraceKind kind, const char *data, size_t len);
extern const char *trace_text(const Trace *trace);
extern void trace_free(Trace *trace);

#endif /* SMS_TRACE_H */
