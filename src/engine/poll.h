/*
 * poll.h
 *		Asks providers what became of messages.
 */
#ifndef SMS_ENGINE_POLL_H
#define SMS_ENGINE_POLL_H

#include "engine/state.h"

extern void poll_create(Engine *engine);
extern void poll_destroy(Engine *engine);
extern TimestampTz poll_sent(Engine *engine, const Gateway *gateway, const Answer *answer);
extern void poll_turn(Engine *engine, bool busy);
extern bool poll_round_needed(const Engine *engine, double now, TimestampTz wall);
extern void poll_round(Engine *engine);
extern void poll_committed(Engine *engine);
extern void poll_aborted(Engine *engine);
extern double poll_time_to_wait(const Engine *engine, double now, TimestampTz wall);
extern bool poll_idle(const Engine *engine, TimestampTz wall);
extern void poll_tell_balance(const char *gateway, const char *amount, double minimum);

#endif /* SMS_ENGINE_POLL_H */
