/*
 * bounds.h
 *		How long what users write may be, in bytes.
 *
 * Whoever may queue messages must not fill the memory of those who read them: so a value is measured as it would be
 * once it is unpacked, before it is.  Some are wide, as the rules about a message say the rest of it.
 */
#ifndef SMS_BOUNDS_H
#define SMS_BOUNDS_H

#include "postgres.h"

#include "access/detoast.h"

#define BOUND_KIND          64
#define BOUND_PHONE         1024
#define BOUND_CONTENT       65536 /* 255 parts take less */
#define BOUND_TEMPLATE_CODE 1024
#define BOUND_LIST_PARAM    65536
#define BOUND_ROUTERULE     1024
#define BOUND_OPTIONS       32768
#define BOUND_REQUEST_ID    256
#define BOUND_CODE          256
#define BOUND_REASON        1024    /* of a pause */
#define BOUND_PHONES        1048576 /* of one request to many */
#define BOUND_RESULT        65536   /* what is written here of an answer */
#define BOUND_REPORT        16384   /* a delivery report */

/* Is a value of a type of variable length longer than so many bytes?  Does not unpack it. */
static inline bool
bound_exceeded(Datum value, int most)
{
	return toast_raw_datum_size(value) > (Size) most + VARHDRSZ;
}

/* Raises 22023 if a value of a type of variable length is too long; "name" is what users call it. */
static inline void
bound_check(Datum value, int most, const char *name)
{
	if (bound_exceeded(value, most))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s is longer than %d bytes", name, most)));
}

#endif /* SMS_BOUNDS_H */
