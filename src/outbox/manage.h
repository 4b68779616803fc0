/*
 * manage.h
 *		What users do to their messages.
 */
#ifndef SMS_MANAGE_H
#define SMS_MANAGE_H

#include "db/status.h"

extern bool outbox_cancel(int64 id, Oid role);
extern bool outbox_retry(int64 id, Oid role);
extern bool outbox_resolve(int64 id, Status status, Oid role);
extern bool outbox_request_id_used(const char *gateway, const char *request_id);
extern void outbox_check_manages(int64 id, Oid creator, Oid role);

#endif /* SMS_MANAGE_H */
