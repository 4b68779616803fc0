/*
 * date.h
 *		Dates and times as text.
 *
 * Pure C: no PostgreSQL, no network.
 */
#ifndef SMS_DATE_H
#define SMS_DATE_H

#include <stdbool.h>

extern bool date_read(const char *text, int default_offset, long long *epoch_ms);

#endif /* SMS_DATE_H */
