/*
 * worker.h
 *		The process that drains the outbox of one database.
 */
#ifndef SMS_WORKER_H
#define SMS_WORKER_H

extern void worker_leaves_gently(void);
extern bool worker_asked_to_leave(void);

#endif /* SMS_WORKER_H */
