/*
 * item.h
 *		Messages in our hands: claimed ones, and those that something was learnt of.
 */
#ifndef SMS_ITEM_H
#define SMS_ITEM_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "db/status.h"
#include "gateway/prepare.h"
#include "lib/ilist.h"
#include "utils/palloc.h"

/* A message's row that is to be written; in a list of such rows. */
typedef struct RowWrite
{
	int64 id;
	Oid role;       /* who queued it; InvalidOid: is no more */
	bool unchanged; /* nothing is to be written */
	bool recorded;  /* in the round under way */
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
	Prepared prepared;
	struct Lease *lease;
	struct GatewayQueue *queue;
	HttpTransfer *transfer;

	/* the outcome, to be recorded */
	Status new_status;
	const char *new_gateway;     /* when another takes over */
	TimestampTz next_attempt_at; /* 0: NULL */
	TimestampTz sent_at;         /* 0: NULL */
	TimestampTz poll_at;         /* when to ask whether it was delivered; 0: not */
	Answer *answer;              /* NULL: leave those columns alone */
	char *new_details;           /* JSON, or NULL */
} OutboxItem;

/* What is learnt of a message that was sent. */
typedef struct FollowUp
{
	RowWrite row;
	const Report *report; /* NULL: nothing */
	TimestampTz poll_at;  /* when to ask again; 0: not at all; DT_NOBEGIN: as before */
} FollowUp;

/* A message whose delivery is to be asked about. */
typedef struct Follow
{
	int64 id;
	char *gateway;
	char *reference; /* the provider's id; NULL: none is known */
	Status status;
	Oid role;
	TimestampTz sent_at;
	TimestampTz poll_at;
} Follow;

#endif /* SMS_ITEM_H */
