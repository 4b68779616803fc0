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

/*
 * How Booleans and times with a unit are read: the server has ways of its own, which are
 * handed in from above.  Each returns false if the value is none.
 */
typedef struct OptionParsers
{
	bool (*parse_bool)(const char *value, bool *flag);
	bool (*parse_time)(const char *value, bool milliseconds, int *time); /* else seconds */
} OptionParsers;

extern const char *option_read(const OptionDef *option, const char *value, const OptionParsers *parsers,
							   OptionValue *read);
extern bool option_has_country(const char *list, const char *msisdn);
extern bool option_is_list(const char *value, bool route);

#endif /* SMS_OPTION_H */
