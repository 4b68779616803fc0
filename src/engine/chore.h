/*
 * chore.h
 *		What is done beside the rounds, each in a transaction of its own.
 */
#ifndef SMS_ENGINE_CHORE_H
#define SMS_ENGINE_CHORE_H

#include "engine/state.h"

extern bool chore_run_due(Engine *engine);
extern void chore_want_after_round(Engine *engine);
extern double chore_time_to_wait(const Engine *engine, double now, TimestampTz wall);
extern bool chore_idle(const Engine *engine);

#endif /* SMS_ENGINE_CHORE_H */
