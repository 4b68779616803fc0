/*
 * item.h
 *		Messages in our hands: claimed ones, and those that something was learnt of.
 */
#ifndef SMS_ITEM_H
#define SMS_ITEM_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "db/creator.h"
#include "db/status.h"
#include "gateway/prepare.h"
#include "lib/ilist.h"
#include "nodes/pg_list.h"
#include "utils/array.h"
#include "utils/palloc.h"

/* A message's row that is to be written; in a list of such rows. */
typedef struct RowWrite
{
	int64 id;
	Oid role;       /* who queued it; InvalidOid: is no more */
	bool unchanged; /* nothing is to be written */
	bool once;      /* there is no other try: a trigger that fails is passed over at once */
	bool recorded;  /* in the round under way */
	/* write.c's, of a row that could not be written so far: */
	int tries;            /* that failed */
	double trouble_since; /* when the first one did; 0: none has */
	double again_at;      /* not before */
	dlist_node node;
} RowWrite;

/* A claimed message; it lives in its own memory context. */
typedef struct OutboxItem
{
	RowWrite row; /* in a ready list, or in the list of outcomes; unchanged: it was not tried */
	MemoryContext context;
	int priority;
	int attempts;
	TimestampTz due; /* next_attempt_at */
	TimestampTz created_at;
	TimestampTz expires_at;   /* DT_NOEND: never */
	TimestampTz unsure_since; /* 0: no attempt is in doubt */
	TimestampTz claimed_at;   /* of an orphan: when its lease was taken */
	Gateway *gateway;         /* NULL: "refusal" says why */
	Refusal *refusal;
	char *gateway_name;
	char *details; /* JSON, or NULL */
	int resent;    /* how often it needed another request_id: of details */
	int64 otp;     /* of guard/otp.c: the one-time password that goes with this attempt; 0: there is none */
	bool may_have_gone; /* this attempt: the provider may have accepted it */
	Prepared prepared;
	struct Lease *lease;
	struct StartSlot *start; /* in the note of starts; NULL: nothing is known there */
	struct GatewayQueue *queue;
	HttpTransfer *transfer;
	double started_at; /* when its request was made; monotonic ms */

	/* the outcome, to be recorded */
	Status new_status;
	const char *new_gateway;     /* when another takes over */
	TimestampTz next_attempt_at; /* while new_status is queued */
	TimestampTz sent_at;         /* 0: NULL */
	TimestampTz poll_at;         /* when to ask whether it was delivered; 0: not */
	bool suspect;                /* the answer may be to this message alone */
	Answer *answer;              /* NULL only where the row is unchanged */
	char *new_details;           /* JSON, or NULL */
	TransactionId granted_in;    /* the transaction in which the limits of new_gateway took it, if any */
} OutboxItem;

/* The columns of a message "o" that item_read_all() takes, and their positions in a SELECT that begins with them. */
#define ITEM_COLUMNS                                                                                         \
	"o.id, o.priority, o.attempts, o.next_attempt_at, o.created_at, o.expires_at, "                          \
	"o.unsure_since, o.kind, o.phone, o.content, o.template_code, o.list_param, "                            \
	"o.routerule, o.options, o.request_id, " CREATOR_COLUMNS ", o.details, o.gateway"
enum
{
	ITEM_ID,
	ITEM_PRIORITY,
	ITEM_ATTEMPTS,
	ITEM_NEXT_ATTEMPT_AT,
	ITEM_CREATED_AT,
	ITEM_EXPIRES_AT,
	ITEM_UNSURE_SINCE,
	ITEM_KIND,
	ITEM_PHONE,
	ITEM_CONTENT,
	ITEM_TEMPLATE_CODE,
	ITEM_LIST_PARAM,
	ITEM_ROUTERULE,
	ITEM_OPTIONS,
	ITEM_REQUEST_ID,
	ITEM_CREATOR,
	ITEM_CREATED_BY,
	ITEM_ORIGIN,
	ITEM_DETAILS,
	ITEM_GATEWAY,
	ITEM_COLUMN_COUNT /* where other columns begin */
};

/*
 * In a statement that finds messages "o" by their ids: those that are queued, be it that they wait or are on
 * their way.  A message is queued exactly while it has a next attempt.  The table's CHECK
 * queued_has_a_time says so, and all who write the two columns set both: insert.c and manage_requeue a
 * time with 'queued'; record_update a time with 'queued', else NULL; cleanup_update_late and manage_end NULL
 * with an end; follow_update turns one end into another.
 *
 * It is not written as status = 'queued', because that implies the predicate of the index of due
 * messages: while the table has no statistics, the planner would walk through that index from end to
 * end, rather than look up each id in the primary key.
 */
#define IS_QUEUED "o.next_attempt_at IS NOT NULL"

extern List *item_read_all(int64 n, bool leased, MemoryContext parent);
extern void item_free(OutboxItem *item);
extern bool item_makes_code(const OutboxItem *item);
extern char *item_join_routerule(ArrayType *array);

#endif /* SMS_ITEM_H */
