/*
 * support.h
 *		What several providers need.
 */
#ifndef SMS_SUPPORT_H
#define SMS_SUPPORT_H

#include "provider/provider.h"

extern bool complain(Complaint *complaint, const char *hint, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
extern bool setting_is_true(const char *value);
extern const char *telco_name(const char *id);

#endif /* SMS_SUPPORT_H */
