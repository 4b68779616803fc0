/*
 * identity.h
 *		Which database an outbox belongs to.
 */
#ifndef SMS_IDENTITY_H
#define SMS_IDENTITY_H

#include "postgres.h"

extern void identity_create(void);
extern void identity_write_place(void);
extern void identity_mark_held(void);
extern int64 identity_adopt(Datum states, Oid role);

#endif /* SMS_IDENTITY_H */
