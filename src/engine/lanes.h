/*
 * lanes.h
 *		The ranges of the outbox that messages are claimed from.
 */
#ifndef SMS_ENGINE_LANES_H
#define SMS_ENGINE_LANES_H

#include "engine/state.h"
#include "nodes/pg_list.h"

extern void lane_look_back(Engine *engine, TimestampTz due);
extern void lane_expect_due(Engine *engine, const char *gateway, int priority, TimestampTz due);
extern void lane_discover(Engine *engine, TimestampTz wall);
extern List *lane_claim(Engine *engine, MemoryContext parent, TimestampTz wall);
extern bool lane_any_due(Engine *engine, double now, TimestampTz wall);
extern bool lane_all_drained(Engine *engine);
extern double lane_time_to_wait(const Engine *engine, double now, TimestampTz wall);

#endif /* SMS_ENGINE_LANES_H */
