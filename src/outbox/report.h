/*
 * report.h
 *		Messages that were sent: which are to be asked about, and which one a report means.
 */
#ifndef SMS_REPORT_H
#define SMS_REPORT_H

#include "outbox/item.h"

extern List *outbox_polls(const char *gateway, TimestampTz after, int64 after_id, TimestampTz now, int limit);
extern TimestampTz outbox_poll_due(const char *gateway, TimestampTz after);
extern Follow *outbox_sent_message(int64 id, Oid role);
extern int64 outbox_find_message(const char *gateway, const Report *report, int64 id, Oid *role,
								 Status *status, bool *by_id_only);
extern void outbox_keep_report(const char *gateway, const Report *report, const char *json, int64 message);
extern void outbox_match_reports(bool answered);

#endif /* SMS_REPORT_H */
