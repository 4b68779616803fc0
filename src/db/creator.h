/*
 * creator.h
 *		Whose a message is.
 */
#ifndef SMS_CREATOR_H
#define SMS_CREATOR_H

#include "postgres.h"

/* The columns of a message "o" that creator_read() takes. */
#define CREATOR_COLUMNS "o.creator, o.created_by, o.origin"

extern Oid creator_read(int row, int column);

#endif /* SMS_CREATOR_H */
