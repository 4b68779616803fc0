/*
 * refused.h
 *		Whose credentials which gateway refuses.
 */
#ifndef SMS_REFUSED_H
#define SMS_REFUSED_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

/* A row of the table of refused credentials. */
typedef struct Refused
{
	NameData gateway;
	Oid role;
	uint64 credentials; /* which: a number of the user mapping */
	const char *reason; /* in the database's encoding */
	TimestampTz since;
	TimestampTz next_probe_at;
} Refused;

extern bool refused_list(List **all);
extern void refused_note(const Refused *row);
extern void refused_end(const char *gateway, Oid role);

#endif /* SMS_REFUSED_H */
