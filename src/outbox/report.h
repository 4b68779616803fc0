/*
 * report.h
 *		Messages that were sent: which are to be asked about, and which one a report means.
 */
#ifndef SMS_REPORT_H
#define SMS_REPORT_H

#include "db/status.h"
#include "nodes/pg_list.h"
#include "provider/provider.h"

/* A message whose delivery is to be asked about. */
typedef struct Follow
{
	int64 id;
	char *gateway;
	char *reference; /* the provider's id; NULL: none is known */
	bool legs;       /* it goes over several channels, and that is one's */
	Status status;
	Oid role; /* who queued it; InvalidOid: is no more */
	TimestampTz sent_at;
	TimestampTz poll_at;
} Follow;

/* The message that a report means. */
typedef struct Reported
{
	int64 id; /* 0: none */
	Oid role; /* who queued it; InvalidOid: is no more */
	Status status;
	bool legs;       /* it goes over several channels, and the report is about one */
	bool by_id_only; /* it was found by the provider's ids */
} Reported;

/* The key of a kept report: which gateway told of which id. */
typedef struct ReportKey
{
	NameData gateway;
	char reference[sizeof(((Report *) NULL)->request_id)]; /* UTF-8 */
} ReportKey;

extern List *report_polls(const char *gateway, TimestampTz after, int64 after_id, TimestampTz now, int limit);
extern TimestampTz report_poll_due(const char *gateway, TimestampTz after);
extern Follow *report_sent_message(int64 id, Oid role);
extern Reported report_find_message(const char *gateway, const Report *report, int64 id);
extern bool report_any_kept(void);
extern void report_keep(const char *gateway, const Report *report);
extern bool report_record(const char *gateway, const Report *report, const Reported *reported);
extern bool report_match_new(void);
extern void report_match_awaited(const ReportKey *awaited, int n);
extern bool report_match_next(ReportKey *after);

#endif /* SMS_REPORT_H */
