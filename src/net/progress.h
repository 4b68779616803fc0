/*
 * progress.h
 *		How one request gets on: what is on the wire, what has come back, and within
 *		which bounds.
 *
 * It knows nothing of libcurl, which calls into it through http.c: so no function
 * raises errors, and all memory comes from malloc.
 */
#ifndef SMS_PROGRESS_H
#define SMS_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "provider/request.h"

/* All zero: nothing has happened yet. */
typedef struct Progress
{
	bool repeat_safe;                /* it may be sent again */
	bool began;                      /* the request may be on the wire … */
	volatile unsigned char *started; /* … and then this is 1, for whoever asked for it; or NULL */
	bool repeated;                   /* it was about to be sent again */
	bool too_large;                  /* the answer */
	bool lost;                       /* a part of the body is not here */
	bool header_ended;               /* the body comes next, if there is one */
	size_t header_bytes;
	char *body; /* of the answer; NULL before the first byte */
	size_t len;
	size_t size; /* allocated */
} Progress;

/* Kinds of failure, as far as users tell them apart. */
typedef enum Failure
{
	FAILURE_BROKEN, /* any other */
	FAILURE_RESOLVE,
	FAILURE_CONNECT,
	FAILURE_TIMEOUT,
	FAILURE_TLS,
	FAILURE_DESCRIPTORS, /* none is left here */
} Failure;

extern void progress_restart(Progress *progress);
extern bool progress_send(Progress *progress);
extern bool progress_header(Progress *progress, const char *line, size_t n);
extern bool progress_body(Progress *progress, const char *data, size_t n);
extern bool progress_is_readable(const Progress *progress);
extern void progress_failed(const Progress *progress, Failure failure, int timeout_ms, int connect_timeout_ms,
							const char *text, HttpAnswer *answer);

#endif /* SMS_PROGRESS_H */
