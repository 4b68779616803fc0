/*
 * checks.c
 *		What sending from this database needs of the server: the first rows of sms_health.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "outbox/held.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(sms_gateway_checks);

/* Internal SQL function: what sending needs of the server, and what is wrong with each; NULL: nothing. */
Datum
sms_gateway_checks(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result;
	bool held = false;

	InitMaterializedSRF(fcinfo, 0);
	result = (ReturnSetInfo *) fcinfo->resultinfo;
	for (int i = 0; i < HELD_CHECKS; i++)
	{
		Held found = held ? (Held){NULL, 0} : held_checks[i].look();
		Datum values[3];
		bool nulls[3] = {false};

		held |= found.why != NULL && held_checks[i].holds;
		nulls[1] = found.why == NULL;
		nulls[2] = found.why == NULL || found.since == 0;
		values[0] = CStringGetTextDatum(held_checks[i].name);
		values[1] = nulls[1] ? (Datum) 0 : CStringGetTextDatum(found.why);
		values[2] = TimestampTzGetDatum(found.since);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
