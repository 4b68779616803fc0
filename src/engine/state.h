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

#include <math.h>

#include "db/scope.h"
#include "engine/host.h"
#include "lib/ilist.h"
#include "net/http.h"
#include "net/pace.h"
#include "outbox/claim.h"
#include "outbox/cleanup.h"
#include "outbox/due.h"
#include "outbox/lease.h"
#include "outbox/report.h"
#include "outbox/starts.h"
#include "utils/hsearch.h"

#define SAFETY_POLL     5000.0  /* ms between looks that nobody asked for, … */
#define SAFETY_POLL_MAX 15000.0 /* … which grow to this while there is nothing to do */
#define LANES_MAX       64      /* of one gateway */

/* The messages of one claim that are not settled yet. */
typedef struct Lease
{
	int64 id;
	int size;
	int settled;  /* in the round under way */
	bool shrinks; /* some of those went back to the queue */
	dlist_node node;
} Lease;

/* Does a gateway take messages?  Beyond resting it does not: one message is tried now and then; see queue.c. */
typedef enum GatewayState
{
	GATEWAY_ACTIVE,
	GATEWAY_RESTING,     /* it takes some, as fast as it wants them, or after a rest that it asked for */
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
	bool repeat_safe;  /* as of the message claimed last */
	double option;     /* requests a second that its options allow; 0: no limit */
	Pace pace;         /* what it takes, as its answers say */
	double rate_limit; /* the lower of the two; 0: no limit */
	double next_start; /* when that allows the next request */
	double next_aside; /* … and, while messages wait, one that is not a message */
	double held_until; /* a rest */
	double calm_at;    /* resting: when that is over, if it asks for no other rest */
	int failures;      /* to reach it, in a row */
	int64 suspects[2]; /* messages whose fault a refusal may be, without a success since */
	int nsuspects;
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
	bool seen;         /* its fingerprint is taken, */
	int mappings;      /* and these are its user mappings */
	uint64 fingerprint;
	TimestampTz resumed_at; /* by sms_resume, last */
	bool hurry;             /* messages that wait to be tried again become due … */
	Oid hurry_role;         /* … of this role; InvalidOid: of all but those whose credentials are refused */
	HurryPlace due;         /* … and did so up to here */
	int finished;           /* since flow was last measured */
	double flow_since;
	double flow;           /* messages a second, lately */
	Lane lanes[LANES_MAX]; /* highest priority first */
	int nlanes;
	int turn;          /* in the claim under way: the lane that is next */
	int put_back;      /* since the last claim: messages whose credentials are refused */
	int below;         /* of priorities below this, messages may be due that no lane is for */
	double search_at;  /* not before; 0: at once */
	bool search_again; /* from the start, when that is at its end */
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

/* What runs beside the rounds: chore.c says how each does. */
typedef enum ChoreId
{
	CHORE_ORPHANS,
	CHORE_PLACE,
	CHORE_PAUSES,
	CHORE_CREDENTIALS,
	CHORE_EVENTS,
	CHORE_POLLS,
	CHORE_SETTLE,
	CHORE_HURRY,
	CHORE_EXPIRY,
	CHORE_REPORTS,
	CHORE_RETENTION,
	CHORE_OLD_REPORTS,
	CHORE_OLD_CODES,
	CHORE_OLD_COUNTERS,
	CHORE_COUNT
} ChoreId;

/* What the engine knows of one chore. */
typedef struct ChoreState
{
	double next_at; /* not before; moved on before the work */
	double wait;    /* after a failure; 0: the last run succeeded */
	bool wanted;    /* something has happened that it is for: it need not wait for its period */
	double began;   /* when it was run last */
	bool ran;       /* at least once, however it ended */
	/* the last causes of failures that were told */
	struct
	{
		char text[200];
		double at;
	} told[4];
} ChoreState;

/* How far retention has come. */
typedef struct Retention
{
	PurgePlace after; /* what was looked at last; all zero: nothing */
	PurgePlace tried; /* the end of the page under way */
	int page;         /* messages at once */
	int late;         /* messages in a row that took too long */
	bool skipped;     /* some could not be deleted, since the look from the start */
	double rest;      /* ms until the next look from the start, after such a one */
} Retention;

/* What hurry.c is at. */
typedef struct Hurry
{
	uint64 changes;             /* of the catalogs, as of its last look */
	struct GatewayQueue *tried; /* in the transaction under way */
	HurryPlace next;            /* where that comes to */
	bool more;
} Hurry;

/* Messages that another engine was sending when it ended, and that are not settled yet. */
typedef struct Orphans
{
	HTAB *ids;     /* NULL: not known yet */
	int64 up_to;   /* the last lease of that engine */
	Doubt *found;  /* as the transaction under way has found them */
	int nfound;    /* so many */
	int unstarted; /* others of its leases, by the note of starts */
	double wait;   /* ms until those that somebody holds are tried again */
	int nsettled;  /* in that transaction */
} Orphans;

/* What reports.c knows: which kept reports may have their message by now. */
typedef struct Reports
{
	ReportKey *keys; /* of messages that have got their answers */
	int n;
	int size;
	int taken;       /* of them in the transaction under way */
	bool none_kept;  /* as of the last look: messages need not look for any */
	bool all;        /* those of all messages are looked for … */
	ReportKey after; /* … and this was the last one */
	ReportKey tried; /* in the transaction under way */
	bool more;       /* the same: there may be more */
} Reports;

typedef struct Engine
{
	const EngineHost *host;
	MemoryContext context;
	MemoryContext scratch; /* of one turn of the loop */
	HTAB *items;           /* messages in our hands, by id */
	GatewayQueue *queues;
	HTAB *credentials;     /* that gateways refuse; credentials.c's */
	bool credentials_news; /* to be written down */
	TimestampTz noticed;   /* what was due by then has its lane, or is searched for */
	TimestampTz next_due;  /* of what was not, the first */
	dlist_head outcomes;
	int noutcomes;
	double record_at; /* when the outcomes at hand are to be recorded */
	dlist_head held;  /* outcomes whose rows somebody holds, or whose triggers fail: set aside */
	int nheld;
	double held_at; /* when the first of those is to be tried again */
	dlist_head leases;
	HttpQueue finished;
	int nready;
	int in_flight;
	bool spaced;           /* a request was made that has its time */
	int slots;             /* transfers that file descriptors allow */
	int taken;             /* messages claimed in the round under way */
	double slots_again_at; /* when that is counted again; 0: it is not reduced */
	Starts *starts;        /* NULL: not opened yet */
	bool started;          /* orphans are known, and are not claimed */
	Orphans orphans;
	bool look;                   /* somebody queued something */
	double look_at;              /* next safety poll */
	double look_wait;            /* and how long after the last */
	bool full_look;              /* the next round is one from the start of every lane */
	bool pauses_stale;           /* the table of pauses may have changed */
	bool pauses_known;           /* it has been read */
	GatewayQueue *pause_written; /* last */
	int ntold;                   /* events of the transaction under way */
	TimestampTz next_expiry;
	Reports reports;
	ChoreState chores[CHORE_COUNT];
	Retention retention;
	Hurry hurry;
	double retry_at; /* after an error */
	double error_wait;
	bool locked;       /* somebody has locked a table, that is told, and no round has succeeded since */
	Oid identity;      /* the table sms_gateway_identity, as the last round found it */
	OutboxState state; /* as the last round found it */
	bool switched_on;  /* sms_gateway.enabled, as it was told last */
	bool leaving;      /* this process was told to end, or is to yield: nothing new is started … */
	double leave_at;   /* … and what is under way has until then; 0: it was not told to end */
	Poller poller;
	struct Settlement *settlement; /* settle.c's; NULL: it has not begun */
} Engine;

/* Milliseconds until a time; infinite if that is never. */
static inline double
ms_until(TimestampTz time, TimestampTz wall)
{
	return time == DT_NOEND ? HUGE_VAL : Max((time - wall) / 1000.0, 0);
}

#endif /* SMS_ENGINE_STATE_H */
