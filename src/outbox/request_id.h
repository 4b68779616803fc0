/*
 * request_id.h
 *		Request ids: made, read and tested here alone.
 */
#ifndef SMS_REQUEST_ID_H
#define SMS_REQUEST_ID_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define REQUEST_ID_PREFIX "sgw-"

extern char *request_id_make(int64 origin, int64 id, TimestampTz created_at);
extern char *request_id_make_for_call(int64 origin);
extern bool request_id_is_of_call(const char *request_id);
extern int64 request_id_message(const char *request_id);
extern char *request_id_on_wire(const char *request_id, int64 id, const char *creator, int resent);
extern bool request_id_names(const char *on_wire, const char *request_id, int64 id, const char *creator);
extern bool request_id_is_from(const char *request_id, int64 origin);
extern bool request_id_is_ours(const char *request_id);
extern bool request_id_is_used(const char *gateway, const char *request_id);

#endif /* SMS_REQUEST_ID_H */
