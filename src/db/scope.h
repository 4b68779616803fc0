/*
 * scope.h
 *		As whom, and with which settings, the extension's own SQL is run.
 */
#ifndef SMS_SCOPE_H
#define SMS_SCOPE_H

#include "postgres.h"

/* May the worker do its part? */
typedef enum OutboxState
{
	OUTBOX_READY,
	OUTBOX_GONE, /* the extension is not here */
	OUTBOX_HELD, /* it is another library's, or another database's */
} OutboxState;

/* For functions that users call: as the table's owner, in their transaction. */
typedef struct OwnerScope
{
	Oid user;
	int security;
	int guc_level;
} OwnerScope;

extern void scope_require_served(void);
extern OutboxState scope_enter_worker(int elevel);
extern void scope_leave_worker(void);
extern void scope_enter(OwnerScope *scope);
extern void scope_enter_any(OwnerScope *scope);
extern void scope_leave(OwnerScope *scope);

#endif /* SMS_SCOPE_H */
