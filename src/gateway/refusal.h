/*
 * refusal.h
 *		Errors as values: why a message, or a call, is refused, found where none may be
 *		raised.
 */
#ifndef SMS_REFUSAL_H
#define SMS_REFUSAL_H

#include "postgres.h"

#include "base/compat.h"

/* What would be an error; all texts are in the database's encoding, empty where there is none. */
typedef struct Refusal
{
	int sqlstate;
	char message[512];
	char detail[256];
	char detail_log[256]; /* in its place in the log */
	char hint[512];
} Refusal;

extern bool refusal_fill(Refusal *refusal, int sqlstate, const char *hint, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
extern bool refusal_detail(Refusal *refusal, const char *detail);
extern bool refusal_details(Refusal *refusal, const char *detail, const char *for_log);
pg_noreturn extern void refusal_raise(const Refusal *refusal);

#endif /* SMS_REFUSAL_H */
