/*
 * poller.h
 *		Waits for many descriptors, a timer, this process's latch and the postmaster's
 *		death at once.
 *
 * Functions that a library may call back into (all that take a descriptor or set the
 * timer) raise no errors and allocate with malloc alone.
 */
#ifndef SMS_POLLER_H
#define SMS_POLLER_H

#include "postgres.h"

/* What a descriptor is watched for, or has become: a set of these. */
#define POLLER_IN  1 /* can be read */
#define POLLER_OUT 2 /* can be written */
#define POLLER_ERR 4 /* is closed or broken; told unasked */

typedef struct NetPoller NetPoller;

extern NetPoller *poller_create(void);
extern int poller_reserve(NetPoller *poller, int descriptors);
extern bool poller_starved(NetPoller *poller);

extern int poller_open(NetPoller *poller, int family, int type, int protocol, bool talkative);
extern bool poller_watch(NetPoller *poller, int fd, int events);
extern int poller_close(NetPoller *poller, int fd);
extern bool poller_all_ended(const NetPoller *poller);
extern void poller_set_timer(NetPoller *poller, long ms);

extern void poller_wait(NetPoller *poller, long timeout_ms, uint32 wait_event);
extern bool poller_next(NetPoller *poller, int *fd, int *events);
extern bool poller_timer_due(NetPoller *poller);

#endif /* SMS_POLLER_H */
