/*
 * locked.h
 *		What a transaction of the engine does where somebody has locked a table, or another error meets it.
 */
#ifndef SMS_LOCKED_H
#define SMS_LOCKED_H

#include "engine/state.h"

extern void locked_check(const Engine *engine);
extern bool locked_try(Engine *engine, void (*work)(void *), void *arg);
extern void locked_take_error(Engine *engine);
extern void locked_take_commit_error(Engine *engine);

#endif /* SMS_LOCKED_H */
