/*
 * credentials.h
 *		User mappings of roles whose credentials a gateway refuses.
 */
#ifndef SMS_ENGINE_CREDENTIALS_H
#define SMS_ENGINE_CREDENTIALS_H

#include "engine/state.h"

/* One such mapping: its role's messages wait, but for one that is tried now and then. */
typedef struct Credentials
{
	struct
	{
		GatewayQueue *queue;
		uint64 role;
	} key;
	NameData role_name;
	uint64 print;  /* of the mapping that is refused; another one is tried at once */
	bool troubled; /* false: only some messages were refused, whose own fault that may be; or that is over */
	bool news;     /* to be written down … */
	bool change;   /* … and told */
	bool writing;  /* in the transaction under way */
	int64 suspects[2];
	int nsuspects;
	TimestampTz since;
	char reason[600];
	double began;      /* monotonic ms */
	double probe_at;   /* when one message is tried */
	double probe_wait; /* how long that took to come */
	int64 probe;       /* the message that is tried, last */
	int lost;          /* requests that failed */
	int early;         /* messages that are due by the next try */
} Credentials;

extern void credentials_create(Engine *engine);
extern Credentials *credentials_refused(Engine *engine, const OutboxItem *item);
extern bool credentials_may_try(Engine *engine, Credentials *refused, int64 id);
extern TimestampTz credentials_wait(Credentials *refused);
extern bool credentials_refuse(Engine *engine, const OutboxItem *item);
extern void credentials_accept(Engine *engine, const OutboxItem *item);
extern void credentials_forget(Engine *engine, const GatewayQueue *queue);
extern void credentials_look(Engine *engine, const GatewayQueue *queue);
extern bool credentials_inherit(Engine *engine);
extern void credentials_write(Engine *engine, ChoreState *state);
extern void credentials_written(Engine *engine, ChoreState *state);
extern List *credentials_roles(Engine *engine, const GatewayQueue *queue, bool waiting, double now);

#endif /* SMS_ENGINE_CREDENTIALS_H */
