/*
 * pauses.h
 *		The table of pauses.
 */
#ifndef SMS_ENGINE_PAUSES_H
#define SMS_ENGINE_PAUSES_H

#include "engine/state.h"

extern GatewayQueue *pauses_with_news(const Engine *engine, const GatewayQueue *last);
extern void pauses_write(const GatewayQueue *queue);
extern void pauses_written(GatewayQueue *queue);
extern bool pauses_read(Engine *engine);

#endif /* SMS_ENGINE_PAUSES_H */
