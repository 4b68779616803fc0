/*
 * starts.h
 *		The note of starts: which of the claimed messages were started, and what came back.
 */
#ifndef SMS_STARTS_H
#define SMS_STARTS_H

#include "postgres.h"

#include "outbox/item.h"

typedef struct Starts Starts;

/* What the note says of a message that another engine had claimed. */
typedef enum StartState
{
	START_UNKNOWN,  /* nothing: it may have been started */
	START_NOT_YET,  /* certain: no byte of its request has left */
	START_BEGAN,    /* it was started, and not answered */
	START_ANSWERED, /* its request has ended, and the answer is known */
} StartState;

extern Starts *starts_open(MemoryContext context);
extern void starts_close(Starts *starts);
extern StartState starts_find(const Starts *starts, int64 id, TimestampTz claimed_at);
extern TimestampTz starts_read_answer(const Starts *starts, int64 id, TimestampTz claimed_at, Answer *answer);
extern void starts_forget(Starts *starts, bool keep_answers);
extern void starts_cover(Starts *starts, List *items, TimestampTz claimed_at);
extern volatile unsigned char *starts_flag(const OutboxItem *item);
extern void starts_answered(const OutboxItem *item);
extern void starts_again(const OutboxItem *item);
extern void starts_release(Starts *starts, OutboxItem *item);

#endif /* SMS_STARTS_H */
