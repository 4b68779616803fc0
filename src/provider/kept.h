/*
 * kept.h
 *		A report as JSON that is kept until its message is known: what was read of it, and nothing else.
 */
#ifndef SMS_KEPT_H
#define SMS_KEPT_H

#include "provider/provider.h"

extern char *report_write(const Report *report);
extern bool report_read(const char *json, size_t len, Report *report);

#endif /* SMS_KEPT_H */
