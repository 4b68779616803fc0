/*
 * hurry.h
 *		Gateways that are said to be well are tried now, and so are their messages.
 */
#ifndef SMS_ENGINE_HURRY_H
#define SMS_ENGINE_HURRY_H

#include "engine/state.h"

extern bool hurry_called_for(const Engine *engine);
extern void hurry_work(Engine *engine, ChoreState *state);
extern void hurry_committed(Engine *engine, ChoreState *state);

#endif /* SMS_ENGINE_HURRY_H */
