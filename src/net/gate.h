/*
 * gate.h
 *		How many requests to one endpoint are handed to libcurl, where they may share
 *		connections.
 *
 * libcurl opens a connection for each request for which those that there are have no
 * room, although one that is being opened will have room for a hundred.  So while one
 * is being opened, the other requests wait here; and beyond what is known to have
 * room they are handed over one by one, to see which is the first that has none.
 */
#ifndef SMS_GATE_H
#define SMS_GATE_H

#include <stdbool.h>

#include "net/endpoint.h"

typedef struct Gate
{
	unsigned long endpoint;
	HttpQueue waiting;
	int running; /* requests that libcurl has */
	int opening; /* of them, such as open a connection, and have not been sent */
	int carried; /* so many at once have had room on the connections there are */
	bool single; /* its server does not let requests share a connection */
	bool let_go; /* no connection comes about: whoever waits meets with that himself */
	struct Gate *next;
} Gate;

extern Gate *gate_find(unsigned long endpoint);
extern Gate *gate_first(void);
extern bool gate_is_open(const Gate *gate);
extern bool gate_must_look(const Gate *gate);
extern void gate_looked(Gate *gate);
extern void gate_opens(Gate *gate);
extern void gate_opened(Gate *gate, bool connected);
extern void gate_forget_room(void);

#endif /* SMS_GATE_H */
