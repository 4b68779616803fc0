/*
 * record.h
 *		What has become of messages is written onto their rows.
 */
#ifndef SMS_RECORD_H
#define SMS_RECORD_H

#include "db/sql.h"
#include "outbox/item.h"

extern void outbox_record(dlist_head *outcomes);
extern void outbox_follow(dlist_head *followups);
extern bool outbox_follow_one(FollowUp *followup);
extern void outbox_notify(Events events, Status status, int64 id, const char *gateway, const char *code);
extern void outbox_fire(Statement plan, Datum *values, Oid role);

#endif /* SMS_RECORD_H */
