/*
 * reports.h
 *		Delivery reports that came before their messages' answers.
 */
#ifndef SMS_REPORTS_H
#define SMS_REPORTS_H

#include "engine/state.h"

extern void reports_note_answer(Engine *engine, const OutboxItem *item);
extern void reports_look_for_all(Engine *engine);
extern bool reports_wanted(const Engine *engine);
extern void reports_match(Engine *engine, ChoreState *state);
extern void reports_matched(Engine *engine, ChoreState *state);
extern void reports_not_matched(Engine *engine, ChoreState *state);

#endif /* SMS_REPORTS_H */
