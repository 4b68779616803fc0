/*
 * orphans.h
 *		Messages that another engine was sending when it ended.
 */
#ifndef SMS_ENGINE_ORPHANS_H
#define SMS_ENGINE_ORPHANS_H

#include "engine/state.h"

extern void orphans_find(Engine *engine);
extern void orphans_settle(Engine *engine);
extern void orphans_found(Engine *engine);
extern bool orphans_include(const Engine *engine, int64 id);

#endif /* SMS_ENGINE_ORPHANS_H */
