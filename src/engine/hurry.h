/*
 * hurry.h
 *		Gateways that are said to be well are tried now, and so are their messages.
 */
#ifndef SMS_ENGINE_HURRY_H
#define SMS_ENGINE_HURRY_H

#include "engine/state.h"

extern bool hurry_called_for(const Engine *engine);
extern void hurry_work(Engine *engine);
extern bool hurry_committed(Engine *engine);

#endif /* SMS_ENGINE_HURRY_H */
