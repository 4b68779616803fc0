/*
 * engine.h
 *		Drains the outbox.
 */
#ifndef SMS_ENGINE_H
#define SMS_ENGINE_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "db/scope.h"
#include "engine/host.h"

/* How an engine has ended. */
typedef struct EngineEnd
{
	OutboxState outbox; /* what it found: the extension gone, or held, or all well, and the host wanted it */
	TimestampTz next_due; /* when there will be something to do; DT_NOEND: not known */
} EngineEnd;

extern EngineEnd engine_run(const EngineHost *host);

#endif /* SMS_ENGINE_H */
