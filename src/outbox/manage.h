/*
 * manage.h
 *		What users do to their messages.
 */
#ifndef SMS_MANAGE_H
#define SMS_MANAGE_H

#include "db/status.h"

extern bool manage_cancel(int64 id, Oid role);
extern bool manage_retry(int64 id, Oid role);
extern bool manage_resolve(int64 id, Status status, Oid role);
extern void manage_check(int64 id, Oid creator, Oid role);

#endif /* SMS_MANAGE_H */
