/*
 * status.h
 *		What has become of a message: the type sms_status, in C.
 */
#ifndef SMS_STATUS_H
#define SMS_STATUS_H

#include "postgres.h"

/* In the order of the type's labels. */
typedef enum Status
{
	STATUS_QUEUED,
	STATUS_SENDING, /* a label that is never written: a message on its way stays queued */
	STATUS_SENT,
	STATUS_DELIVERED,
	STATUS_UNDELIVERED,
	STATUS_FAILED,
	STATUS_UNCERTAIN,
	STATUS_EXPIRED,
	STATUS_CANCELED,
} Status;

extern const char *status_label(Status status);
extern Datum status_value(Status status, Oid type);
extern Status status_of_value(Datum value);

#endif /* SMS_STATUS_H */
