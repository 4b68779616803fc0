/*
 * firing.h
 *		Changes of messages, and the triggers that users put on the outbox.
 */
#ifndef SMS_FIRING_H
#define SMS_FIRING_H

#include "db/sql.h"

/* How triggers of users' on the outbox are to be run. */
typedef enum TriggerMode
{
	TRIGGERS_NONE, /* there are none */
	TRIGGERS_AS_OWNER,
	TRIGGERS_AS_CREATOR, /* the owner is a superuser */
} TriggerMode;

/* How a change of one message went. */
typedef enum Fired
{
	FIRED_OK,
	FIRED_HELD,   /* somebody else holds its row, or it is no more */
	FIRED_LATER,  /* a trigger has met a lock: it may go better later */
	FIRED_CLASH,  /* another message of the gateway has its request_id */
	FIRED_FAILED, /* a warning told why */
} Fired;

/* A statement that changes messages, with what it needs. */
typedef struct Change
{
	Statement *statement;
	const Datum *values;
	const SqlRows *rows; /* NULL: it takes none */
} Change;

extern TriggerMode firing_mode(void);
extern bool firing_try_together(const Change *change, TriggerMode mode, Oid creator);
extern Fired firing_try_alone(const Change *change, int64 id, TriggerMode mode, Oid creator, bool patient);
extern bool firing_delete(const Change *change, Oid creator);
extern void firing_run_unheard(const Change *change);
extern void firing_run(const Change *change, Oid role);

#endif /* SMS_FIRING_H */
