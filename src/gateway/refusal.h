/*
 * refusal.h
 *		Errors as values: why a message, or a call, is refused, found where none may be
 *		raised.
 */
#ifndef SMS_REFUSAL_H
#define SMS_REFUSAL_H

#include "postgres.h"

/* refusal_raise() raises it. */
typedef struct Refusal
{
	int sqlstate;
	char message[512];
	char detail[256];
	char hint[512];
} Refusal;

extern bool refused(Refusal *refusal, int sqlstate, const char *hint, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
extern void refusal_raise(const Refusal *refusal) __attribute__((noreturn));

#endif /* SMS_REFUSAL_H */
