/*
 * table.h
 *		The providers that there are, and what a Call is called.
 */
#ifndef SMS_TABLE_H
#define SMS_TABLE_H

#include "provider/provider.h"

#define PROVIDER(name, about) extern const Provider name##_provider;
#include "provider/list.h"

extern const Provider *const providers[]; /* ends with NULL */
extern const Provider *provider_by_name(const char *name);
extern bool provider_otp_is_local(const Provider *provider, const char *maker);
extern const char *kind_name(Call call);
extern bool kind_from_name(const char *name, Call *call);

#endif /* SMS_TABLE_H */
