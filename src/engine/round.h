/*
 * round.h
 *		The transactions of the engine.
 */
#ifndef SMS_ENGINE_ROUND_H
#define SMS_ENGINE_ROUND_H

#include "engine/state.h"

extern bool round_needed(Engine *engine, double now, TimestampTz wall);
extern void round_run(Engine *engine);

#endif /* SMS_ENGINE_ROUND_H */
