/*
 * event.h
 *		Ends of messages are told to those who LISTEN.
 */
#ifndef SMS_EVENT_H
#define SMS_EVENT_H

#include "db/status.h"
#include "gateway/gateway.h"

extern void event_tell(Events events, Status status, int64 id, const char *gateway, const char *code);

#endif /* SMS_EVENT_H */
