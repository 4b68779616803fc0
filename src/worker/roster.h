/*
 * roster.h
 *		Which databases are served, and which are to be looked at.
 */
#ifndef SMS_ROSTER_H
#define SMS_ROSTER_H

#include "postgres.h"

extern bool roster_sweep(void);
extern int roster_feed(void);
extern bool roster_serves(Oid database, bool *locked);
extern char *roster_names(const Oid *databases, int count);

#endif /* SMS_ROSTER_H */
