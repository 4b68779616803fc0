/*
 * outcome.h
 *		What an answer means for its message and for its gateway.
 */
#ifndef SMS_ENGINE_OUTCOME_H
#define SMS_ENGINE_OUTCOME_H

#include "engine/state.h"

extern Answer *outcome_new_answer(OutboxItem *item);
extern void outcome_explain(OutboxItem *item, const char *code, const char *message);
extern void outcome_will_be_followed(Engine *engine, OutboxItem *item);
extern void outcome_add(Engine *engine, OutboxItem *item, Status status, TimestampTz next_attempt_at);
extern double outcome_record_time(const Engine *engine);
extern bool outcome_may_repeat(const OutboxItem *item, TimestampTz at);
extern void outcome_try_again(Engine *engine, OutboxItem *item);
extern void outcome_change_request_id(OutboxItem *item);
extern void outcome_judge(Engine *engine, OutboxItem *item);
extern void outcome_decide(Engine *engine, OutboxItem *item);
extern void outcome_refuse(Engine *engine, OutboxItem *item);
extern bool outcome_await_credentials(Engine *engine, OutboxItem *item);
extern void outcome_hand_back(Engine *engine, OutboxItem *item);

#endif /* SMS_ENGINE_OUTCOME_H */
