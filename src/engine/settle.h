/*
 * settle.h
 *		Looks for messages in doubt in what the provider's account has sent.
 */
#ifndef SMS_ENGINE_SETTLE_H
#define SMS_ENGINE_SETTLE_H

#include "engine/state.h"

extern TimestampTz settle_expect(Engine *engine, const OutboxItem *item);
extern void settle_destroy(Engine *engine);
extern void settle_turn(Engine *engine, bool busy);
extern bool settle_needed(const Engine *engine, double now, TimestampTz wall);
extern void settle_work(Engine *engine, struct ChoreState *state);
extern void settle_committed(Engine *engine, struct ChoreState *state);
extern double settle_time_to_wait(const Engine *engine, double now, TimestampTz wall);
extern bool settle_idle(const Engine *engine, TimestampTz wall);

#endif /* SMS_ENGINE_SETTLE_H */
