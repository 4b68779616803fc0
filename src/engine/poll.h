/*
 * poll.h
 *		Asks providers what became of messages.
 */
#ifndef SMS_POLL_H
#define SMS_POLL_H

#include "postgres.h"

#include "gateway/gateway.h"

extern void poll_create(MemoryContext parent);
extern void poll_destroy(void);
extern TimestampTz poll_sent(Gateway *gateway, const Answer *answer);
extern void poll_turn(bool busy);
extern bool poll_round_needed(double now, TimestampTz wall);
extern void poll_round(void);
extern void poll_committed(void);
extern void poll_aborted(void);
extern double poll_time_to_wait(double now, TimestampTz wall);
extern bool poll_idle(TimestampTz wall);
extern void poll_tell_balance(const char *gateway, const char *amount, double minimum);

#endif /* SMS_POLL_H */
