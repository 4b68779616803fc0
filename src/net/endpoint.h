/*
 * endpoint.h
 *		Where requests go, and where those that have ended stand.
 */
#ifndef SMS_ENDPOINT_H
#define SMS_ENDPOINT_H

/* Where requests go and how long they may take. */
typedef struct HttpEndpoint
{
	unsigned long id; /* never 0; a new one when anything below, or a header of its requests, changes */
	const char *base_url;
	int timeout_ms;
	int connect_timeout_ms;
	const char *ca_file;  /* NULL: the system's */
	const char *ssl_cert; /* of ours, for servers that ask for one; NULL: none */
	const char *ssl_key;
	const char *proxy; /* NULL: none */
	const char *proxy_user;
	const char *proxy_password;
} HttpEndpoint;

typedef struct HttpTransfer HttpTransfer;

/* Finished transfers, in the order in which they ended.  It must live until all are released. */
typedef struct HttpQueue
{
	HttpTransfer *head; /* NULL: none has */
	HttpTransfer *tail;
} HttpQueue;

#endif /* SMS_ENDPOINT_H */
