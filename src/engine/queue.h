/*
 * queue.h
 *		One gateway's messages that wait to start, and when they may.
 */
#ifndef SMS_ENGINE_QUEUE_H
#define SMS_ENGINE_QUEUE_H

#include "engine/state.h"

extern GatewayQueue *queue_find(Engine *engine, const char *name);
extern void queue_push(Engine *engine, GatewayQueue *queue, OutboxItem *item);
extern void queue_push_again(Engine *engine, GatewayQueue *queue, OutboxItem *item);
extern OutboxItem *queue_pop(Engine *engine, GatewayQueue *queue);
extern int queue_ready_from(GatewayQueue *queue, int priority);
extern bool queue_has_due(const GatewayQueue *queue);
extern int queue_spare_slots(int slots);
extern int queue_room(const Engine *engine, const GatewayQueue *queue);
extern bool queue_may_start(const Engine *engine, const GatewayQueue *queue, double now);
extern void queue_set_rate_limit(GatewayQueue *queue, double limit);
extern void queue_count_request(GatewayQueue *queue, double now);
extern bool queue_spare_request(Engine *engine, const Gateway *gateway, double now, double *again);
extern void queue_measure_flow(Engine *engine, double now);
extern void queue_rest(GatewayQueue *queue, const Answer *answer, double started_at);
extern bool queue_rests(const GatewayQueue *queue, double now);
extern void queue_pause(GatewayQueue *queue, const Answer *answer);
extern void queue_suspect(GatewayQueue *queue, int64 id, const Answer *answer);
extern void queue_unreachable(GatewayQueue *queue, const Answer *answer);
extern bool queue_recovered(GatewayQueue *queue, double started_at);
extern void queue_try_now(GatewayQueue *queue);
extern const char *queue_state_name(GatewayState state);
extern void queue_inherit(GatewayQueue *queue, GatewayState state, TimestampTz since, double wait);
extern void queue_begin_anew(GatewayQueue *queue);
extern void queue_hurry(GatewayQueue *queue, Oid role);
extern bool queue_see(GatewayQueue *queue);
extern double queue_time_to_wait(const Engine *engine, double now);

#endif /* SMS_ENGINE_QUEUE_H */
