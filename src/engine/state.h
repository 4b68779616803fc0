/*
 * state.h
 *		What the engine knows while it runs.
 *
 * Times: deadlines of the engine are monotonic milliseconds (double); times on rows are
 * the wall clock's (TimestampTz).
 */
#ifndef SMS_ENGINE_STATE_H
#define SMS_ENGINE_STATE_H

#include "postgres.h"

#include "db/scope.h"
#include "engine/host.h"
#include "lib/ilist.h"
#include "net/http.h"
#include "outbox/claim.h"
#include "utils/hsearch.h"

#define SAFETY_POLL 5000.0 /* ms between looks that nobody asked for */

/* The messages of one claim that are not settled yet. */
typedef struct Lease
{
	int64 id;
	int size;
	int settled;  /* in the round under way */
	bool shrinks; /* some of those went back to the queue */
	dlist_node node;
} Lease;

/* Does a gateway take messages?  If not, one message is tried now and then; see queue.c. */
typedef enum GatewayState
{
	GATEWAY_ACTIVE,
	GATEWAY_RESTING,     /* as it asked for */
	GATEWAY_UNREACHABLE, /* nothing answers, or only that it is broken */
	GATEWAY_PAUSED,      /* by the user, or it takes nothing from us */
} GatewayState;

/* What the engine knows of one gateway. */
typedef struct GatewayQueue
{
	NameData name;
	dlist_head ready; /* claimed, not started; highest priority first */
	int nready;
	int taken; /* claimed in the round under way */
	int in_flight;
	int max_in_flight;
	bool repeat_safe; /* as of the message claimed last */
	double rate_limit;
	double next_start; /* when the rate limit allows the next request */
	double next_aside; /* … and, while messages wait, one that is not a message */
	double held_until; /* a short rest */
	int rests;         /* in a row */
	int failures;      /* to reach it, in a row */
	GatewayState state;
	bool by_user;      /* paused by sms_pause */
	TimestampTz since; /* when the state began */
	char reason[600];
	int lost;          /* requests that failed in this state */
	double probe_at;   /* when one message is tried */
	double probe_wait; /* how long that took to come */
	bool news;         /* to be written down in the next round … */
	bool change;       /* … and told: the state is another */
	bool listed;       /* by the table, when it was read */
	bool missing;      /* there is no such server, and that is said */
	int finished;      /* since flow was last measured */
	double flow_since;
	double flow; /* messages a second, lately */
	struct GatewayQueue *next;
} GatewayQueue;

/* A message in our hands. */
typedef struct ItemEntry
{
	int64 id; /* hash key */
	OutboxItem *item;
} ItemEntry;

/* What poll.c knows: questions to gateways about messages that were sent. */
typedef struct Poller
{
	MemoryContext context;
	struct PollLane *lanes;
	HTAB *questions; /* in our hands, by message id */
	HttpQueue finished;
	dlist_head outcomes; /* of FollowUp */
	int noutcomes;
	double record_at; /* when they are to be recorded */
	double look_at;   /* when all gateways are looked at from the start; 0: not yet */
} Poller;

typedef struct Engine
{
	const EngineHost *host;
	MemoryContext context;
	MemoryContext scratch; /* of one turn of the loop */
	HTAB *items;           /* messages in our hands, by id */
	GatewayQueue *queues;
	Lane *lanes;
	int nlanes;
	int lanes_size;
	dlist_head outcomes;
	int noutcomes;
	double record_at; /* when the outcomes at hand are to be recorded */
	dlist_head leases;
	HttpQueue finished;
	int nready;
	int in_flight;
	int slots;         /* transfers that file descriptors allow */
	int taken;         /* messages claimed in the round under way */
	bool started;      /* orphans are settled */
	bool look;         /* somebody queued something */
	double look_at;    /* next safety poll */
	bool full_look;    /* the next round is one from the start of every lane */
	bool pauses_stale; /* the table of pauses may have changed */
	TimestampTz next_expiry;
	double purge_at;
	int64 purge_after;
	double tidy_at;  /* no reason by itself for a round */
	double retry_at; /* after an error */
	double error_wait;
	OutboxState state; /* as the last round found it */
	bool leaving;      /* this process was told to end: nothing new is started … */
	double leave_at;   /* … and what is under way has until then */
	Poller poller;
} Engine;

/* Milliseconds until a time; those of a safety poll if that is never. */
static inline double
ms_until(TimestampTz time, TimestampTz wall)
{
	return time == DT_NOEND ? SAFETY_POLL : Max((time - wall) / 1000.0, 0);
}

#endif /* SMS_ENGINE_STATE_H */
