/*
 * retired.c
 *		Functions of the scripts of earlier versions.
 *
 * A script names its functions in the library, which is there in one version alone, and CREATE FUNCTION looks for
 * them: when an earlier version is installed to be updated, and when pg_upgrade takes one along.  So what
 * a later version drops stays here, to be found and not to be called.
 */
#include "postgres.h"

#include "base/compat.h"
#include "fmgr.h"

PG_FUNCTION_INFO_V1(sms_gateway_results); /* 0.1.0 */
PG_FUNCTION_INFO_V1(sms_gateway_reports); /* 0.1.0 */

pg_noreturn static void
refuse_retired(void)
{
	ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					errmsg("this function is of an earlier version of sms_gateway"),
					errhint("Update it with ALTER EXTENSION sms_gateway UPDATE.")));
}

Datum
sms_gateway_results(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	refuse_retired();
	PG_RETURN_NULL();
}

Datum
sms_gateway_reports(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	refuse_retired();
	PG_RETURN_NULL();
}
