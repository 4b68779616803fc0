/*
 * send.h
 *		Messages go out, and answers come in.
 */
#ifndef SMS_ENGINE_SEND_H
#define SMS_ENGINE_SEND_H

#include "engine/state.h"

extern void send_take_finished(Engine *engine);
extern void send_add_ready(Engine *engine, OutboxItem *item);
extern void send_take_back(Engine *engine);
extern void send_start_ready(Engine *engine);

#endif /* SMS_ENGINE_SEND_H */
