/*
 * gate.c
 *		How many requests to one endpoint are handed to libcurl.
 */
#include <stdlib.h>

#include "net/gate.h"

#define MANY_GATES 64 /* beyond so many, those that nobody uses are freed */

static Gate *gates = NULL; /* of this process */
static int ngates = 0;

static bool
is_unused(const Gate *gate)
{
	return gate->running == 0 && gate->opening == 0 && gate->waiting.head == NULL;
}

/* Endpoints change their number whenever their options change: old ones are not kept for ever. */
static void
free_unused(void)
{
	Gate **link = &gates;

	while (*link != NULL)
	{
		Gate *gate = *link;

		if (!is_unused(gate))
		{
			link = &gate->next;
			continue;
		}
		*link = gate->next;
		free(gate);
		ngates--;
	}
}

/* The gate of an endpoint, which stays as long as requests run or wait there; NULL when memory is out. */
Gate *
gate_find(unsigned long endpoint)
{
	Gate *gate = gates;

	while (gate != NULL && gate->endpoint != endpoint)
		gate = gate->next;
	if (gate != NULL)
		return gate;
	if (ngates >= MANY_GATES)
		free_unused();
	gate = calloc(1, sizeof(Gate));
	if (gate == NULL)
		return NULL;
	gate->endpoint = endpoint;
	gate->next = gates;
	gates = gate;
	ngates++;
	return gate;
}

/* All gates, by "next". */
Gate *
gate_first(void)
{
	return gates;
}

/* May the next request be handed over? */
bool
gate_is_open(const Gate *gate)
{
	return gate->opening == 0 || gate->single || gate->let_go;
}

/* Is it to be seen, after a request was handed over, what became of it, before the next one is? */
bool
gate_must_look(const Gate *gate)
{
	return !gate->single && !gate->let_go && gate->running > gate->carried;
}

/* That was seen: if nobody opens a connection, all that run have room. */
void
gate_looked(Gate *gate)
{
	if (gate->opening == 0 && gate->running > gate->carried)
		gate->carried = gate->running;
}

/* A request opens a connection of its own. */
void
gate_opens(Gate *gate)
{
	gate->opening++;
}

/* It is about to be sent, or has failed before that. */
void
gate_opened(Gate *gate, bool connected)
{
	gate->opening--;
	gate->let_go = !connected;
}

/* A connection was closed, and nobody knows whose: what was carried may have room no more. */
void
gate_forget_room(void)
{
	for (Gate *gate = gates; gate != NULL; gate = gate->next)
		gate->carried = 0;
}
