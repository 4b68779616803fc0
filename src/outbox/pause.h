/*
 * pause.h
 *		Which gateways are paused.
 */
#ifndef SMS_PAUSE_H
#define SMS_PAUSE_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef struct GatewayPause
{
	NameData gateway;
	bool by_user;
} GatewayPause;

extern bool pause_list(List **pauses);
extern bool pause_holds(const char *gateway);
extern void pause_begin(const char *gateway, const char *reason, bool by_user);
extern bool pause_end(const char *gateway, bool by_user);

#endif /* SMS_PAUSE_H */
