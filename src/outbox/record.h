/*
 * record.h
 *		Outcomes of attempts are written onto their messages' rows.
 */
#ifndef SMS_RECORD_H
#define SMS_RECORD_H

#include "lib/ilist.h"

extern void record_outcomes(dlist_head *outcomes);

#endif /* SMS_RECORD_H */
