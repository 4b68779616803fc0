/*
 * place.h
 *		Where this server runs, and how it came to its timeline.
 */
#ifndef SMS_PLACE_H
#define SMS_PLACE_H

#include "postgres.h"

#include "datatype/timestamp.h"

#define PLACE_NO_GROUP (-1)

/* A place; what is 0, NULL or PLACE_NO_GROUP is not known, and says nothing. */
typedef struct Place
{
	uint32 timeline;
	const char *name;      /* sms_gateway.place: in place of the machine and the file */
	int64 machine;         /* hash of /etc/machine-id */
	int64 filesystem;      /* of the data directory: statfs' f_fsid, where that is for good */
	int64 file;            /* inode number of PG_VERSION in the data directory … */
	TimestampTz born;      /* … and when that file was made */
	const char *directory; /* the data directory */
	int32 citus_group;
} Place;

extern Place place_here(void);
extern char *place_difference(const Place *was, const Place *is);
extern bool place_was_promoted(uint32 from);
extern void place_note_promotion(void);

#endif /* SMS_PLACE_H */
