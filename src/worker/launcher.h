/*
 * launcher.h
 *		The process that starts workers.
 */
#ifndef SMS_LAUNCHER_H
#define SMS_LAUNCHER_H

extern void launcher_init(void);

#endif /* SMS_LAUNCHER_H */
