/*
 * date.h
 *		Dates and times as text.
 *
 * Pure C: no PostgreSQL, no network.
 */
#ifndef SMS_DATE_H
#define SMS_DATE_H

#include <stdbool.h>
#include <stddef.h>

extern bool date_read(const char *text, int default_offset, long long *epoch_ms);
extern void date_write(long long epoch_ms, int offset, const char *format, char *text, size_t size);

#endif /* SMS_DATE_H */
