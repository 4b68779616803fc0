/*
 * option.h
 *		The values of options: what a user may write, and what providers read.
 */
#ifndef SMS_OPTION_H
#define SMS_OPTION_H

#include "provider/provider.h"

typedef struct OptionValue
{
	char text[32];    /* room for a value that is written anew */
	char detail[128]; /* what is wrong */
} OptionValue;

extern const char *option_read(const OptionDef *option, const char *value, OptionValue *read);
extern bool option_is_list(const char *value, bool route);

/*
 * PostgreSQL's own ways to read a Boolean and a time with a unit, in milliseconds or
 * seconds: in gateway.c.  Tests that link without a server have others.
 */
extern bool option_parse_bool(const char *value, bool *flag);
extern bool option_parse_time(const char *value, bool milliseconds, int *time);

#endif /* SMS_OPTION_H */
