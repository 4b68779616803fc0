/*
 * templates.h
 *		What a provider has registered for a brandname, and whether a text fits that.
 */
#ifndef SMS_TEMPLATES_H
#define SMS_TEMPLATES_H

#include "gateway/prepare.h"

extern char *templates_kept(const Gateway *gateway, const char *brandname);
extern void templates_keep(const Gateway *gateway, const char *brandname, const char *list);
extern void templates_check(const Gateway *gateway, const Prepared *prepared);

#endif /* SMS_TEMPLATES_H */
