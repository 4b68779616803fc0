/*
 * request.h
 *		A request and its outcome, in terms that neither libcurl nor a provider
 *		owns: providers fill requests and read answers, http.c carries them.
 */
#ifndef SMS_REQUEST_H
#define SMS_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#define HTTP_MAX_QUERY    12
#define HTTP_MAX_HEADERS  4
#define HTTP_MAX_SEGMENTS 2

typedef struct HttpPair
{
	const char *name;
	const char *value;
} HttpPair;

/*
 * What to ask.  The pairs point at memory that must live until http_start();
 * the body comes from malloc and belongs to the request.  With a body it is a
 * POST of JSON, without one a GET.
 */
typedef struct HttpRequest
{
	const char *path;                       /* appended to the gateway's base URL */
	const char *segment[HTTP_MAX_SEGMENTS]; /* of the path, behind it; URL-escaped by http.c */
	int nsegments;
	HttpPair query[HTTP_MAX_QUERY]; /* URL-escaped by http.c */
	int nquery;
	HttpPair header[HTTP_MAX_HEADERS];
	int nheaders;
	volatile unsigned char *started; /* becomes 1 before the first byte leaves; NULL: nobody asks */
	char *body;
	char scratch[4][24]; /* room for numbers that the query points at */
} HttpRequest;

/* How far a request came. */
typedef enum HttpProgress
{
	HTTP_NOT_SENT,   /* certain: no byte of it has left */
	HTTP_MAYBE_SENT, /* it may have reached the server */
	HTTP_ANSWERED,   /* a whole answer was read */
} HttpProgress;

/*
 * What came back.  "error" is empty for HTTP_ANSWERED; it never holds a URL,
 * a header or a body, and so no secret.
 */
typedef struct HttpAnswer
{
	HttpProgress progress;
	int status; /* HTTP status, 0 if none was read */
	char *body; /* NUL-terminated, may hold NULs before; answer_read() hides echoes in it */
	size_t len;
	int retry_after;         /* seconds, -1 if the header is absent */
	char redirect_host[128]; /* empty unless the answer was a redirect */
	const char *code;        /* a word for the kind of failure, or NULL */
	int proxy_status;        /* HTTP status with which a proxy refused to connect us; 0: it did not */
	bool repeated;           /* it was put on the wire more than once: only where that was said to be safe */
	bool starved;            /* not sent, for want of a file descriptor: nothing to do with the server */
	char error[256];
} HttpAnswer;

#endif /* SMS_REQUEST_H */
