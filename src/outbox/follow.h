/*
 * follow.h
 *		What is learnt of messages that were sent is written onto their rows.
 */
#ifndef SMS_FOLLOW_H
#define SMS_FOLLOW_H

#include "outbox/item.h"

/* What is learnt of a message that was sent. */
typedef struct FollowUp
{
	RowWrite row;
	const Report *report; /* NULL: nothing */
	bool legs;            /* the message has some, and the report is about one of them */
	bool refused;         /* the provider took it, and then refused it: it has failed, if it is in doubt */
	TimestampTz poll_at;  /* when to ask again; 0: not at all; DT_NOBEGIN: as before */
} FollowUp;

extern void follow_record(dlist_head *followups);
extern bool follow_record_one(FollowUp *followup);

#endif /* SMS_FOLLOW_H */
