/*
 * event.h
 *		Ends of messages are told to those who LISTEN.
 */
#ifndef SMS_EVENT_H
#define SMS_EVENT_H

#include "db/status.h"
#include "gateway/gateway.h"

extern void event_keep_in(MemoryContext context);
extern void event_settle(bool committed);
extern int event_count(void);
extern int event_tell_kept(int most);
extern void event_told(int n);
extern void event_say(const char *text);
extern void event_tell(Events events, Status status, int64 id, const char *gateway, const char *code);

#endif /* SMS_EVENT_H */
