/*
 * engine.h
 *		Drains the outbox.
 */
#ifndef SMS_ENGINE_H
#define SMS_ENGINE_H

#include "postgres.h"

#include "engine/host.h"

extern bool engine_lock(bool wait);
extern void engine_unlock(void);
extern bool engine_run(const EngineHost *host);

#endif /* SMS_ENGINE_H */
