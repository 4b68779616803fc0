/*
 * wait_event.h
 *		What the extension's processes wait for, as pg_stat_activity tells it.
 */
#ifndef SMS_WAIT_EVENT_H
#define SMS_WAIT_EVENT_H

#include "postgres.h"

typedef enum WaitReason
{
	WAIT_WORKER,      /* the worker: for work, and for the network */
	WAIT_LAUNCHER,    /* the launcher: for a worker that is wanted */
	WAIT_DRAIN,       /* sms_drain: for answers */
	WAIT_TURN,        /* sms_drain: for the engine that is at work to end */
	WAIT_ANSWER,      /* a session: for a gateway's answer to its call */
	WAIT_IDLE,        /* sms_wait: for the outbox to have nothing to do */
	WAIT_WORKER_EXIT, /* ALTER EXTENSION: for the worker to end */
} WaitReason;

extern uint32 wait_event(WaitReason reason);

#endif /* SMS_WAIT_EVENT_H */
