/*
 * question.h
 *		One question to a gateway, and the lane of those to the same one.
 */
#ifndef SMS_ENGINE_QUESTION_H
#define SMS_ENGINE_QUESTION_H

#include "engine/state.h"
#include "outbox/follow.h"

#define FIRST_POLL   (15 * USECS_PER_SEC) /* from a message's answer to the first question about it */
#define RECORD_POLLS 200.0                /* ms that an answer may wait for company */

/* A question to a gateway, in its own memory context. */
typedef struct Question
{
	MemoryContext context;
	Call call;
	Gateway *gateway;
	struct PollLane *lane;
	char *reference;
	TimestampTz sent_at;
	HttpTransfer *transfer;
	Answer answer;
	Report report;
	FollowUp followup;
	dlist_node node; /* among those to start */
} Question;

/* The messages of one gateway that are to be asked about. */
typedef struct PollLane
{
	NameData gateway;
	dlist_head ready;
	int nready;
	int in_flight;
	int slots;
	double next_start;
	double held_until;     /* it failed */
	int failures;          /* in a row */
	TimestampTz after_due; /* read from the outbox up to here … */
	int64 after_id;
	TimestampTz next_due;
	bool no_detail;    /* CALL_STATUS_DETAIL is refused */
	bool sent;         /* since the balance was asked for */
	Question *balance; /* the question under way */
	double balance_at;
	double min_balance;
	Oid role;      /* of the message sent last: its credentials ask for the balance */
	bool low;      /* the balance was, at the last look */
	char news[40]; /* the balance, to be told */
	struct PollLane *next;
} PollLane;

typedef struct QuestionEntry
{
	int64 id; /* hash key */
	Question *question;
} QuestionEntry;

extern PollLane *question_lane(Poller *poller, const char *gateway);
extern TimestampTz question_next_time(TimestampTz sent_at, int window);
extern Question *question_new(Poller *poller, PollLane *lane, Gateway *gateway, Call call);
extern bool question_start(Poller *poller, Question *question);
extern void question_take_answer(Poller *poller, Question *question, HttpAnswer *http);
extern void question_ended(Poller *poller, Question *question, const Report *report, TimestampTz poll_at);
extern void question_free(Poller *poller, Question *question);

#endif /* SMS_ENGINE_QUESTION_H */
