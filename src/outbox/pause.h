/*
 * pause.h
 *		Which gateways are paused.
 */
#ifndef SMS_PAUSE_H
#define SMS_PAUSE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

typedef struct GatewayPause
{
	NameData gateway;
	bool by_user;
	const char *state; /* palloc'd */
	TimestampTz since;
	TimestampTz next_probe_at; /* DT_NOEND: none */
} GatewayPause;

extern bool pause_list(List **pauses);
extern bool pause_holds(const char *gateway);
extern void pause_begin(const char *gateway, const char *reason);
extern void pause_note(const char *gateway, const char *state, const char *reason, TimestampTz since,
					   TimestampTz next_probe_at);
extern bool pause_resume(const char *gateway);
extern void pause_forget_resumed(const char *gateway, TimestampTz since);
extern void pause_end(const char *gateway);

#endif /* SMS_PAUSE_H */
