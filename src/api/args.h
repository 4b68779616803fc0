/*
 * args.h
 *		Arguments of SQL functions.
 */
#ifndef SMS_ARGS_H
#define SMS_ARGS_H

#include "postgres.h"

#include "base/bounds.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/* Text; NULL for NULL.  Raises 22023 if it is longer than "most" bytes. */
static inline char *
text_arg(FunctionCallInfo fcinfo, int number, int most, const char *name)
{
	if (PG_ARGISNULL(number))
		return NULL;
	bound_check(PG_GETARG_DATUM(number), most, name);
	return text_to_cstring(PG_GETARG_TEXT_PP(number));
}

/* A name; NULL for NULL. */
static inline const char *
name_arg(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL : NameStr(*PG_GETARG_NAME(number));
}

/* JSON; NULL for NULL.  Raises 22023 if it is longer than "most" bytes. */
static inline Jsonb *
json_arg(FunctionCallInfo fcinfo, int number, int most, const char *name)
{
	if (PG_ARGISNULL(number))
		return NULL;
	bound_check(PG_GETARG_DATUM(number), most, name);
	return PG_GETARG_JSONB_P(number);
}

/* An interval in whole seconds; months count 30 days. */
static inline int
seconds_arg(FunctionCallInfo fcinfo, int number)
{
	Interval *interval = PG_GETARG_INTERVAL_P(number);
	double seconds = interval->time / (double) USECS_PER_SEC +
					 (interval->day + interval->month * (double) DAYS_PER_MONTH) * SECS_PER_DAY;

	return (int) Max(Min(seconds, 1e9), -1e9);
}

#endif /* SMS_ARGS_H */
