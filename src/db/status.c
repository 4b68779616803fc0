/*
 * status.c
 *		The type sms_status, in C: here alone a label is translated.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_enum.h"
#include "db/status.h"
#include "utils/syscache.h"

static const char *const status_labels[] = {
	[STATUS_QUEUED] = "queued",       [STATUS_SENDING] = "sending",         [STATUS_SENT] = "sent",
	[STATUS_DELIVERED] = "delivered", [STATUS_UNDELIVERED] = "undelivered", [STATUS_FAILED] = "failed",
	[STATUS_UNCERTAIN] = "uncertain", [STATUS_EXPIRED] = "expired",         [STATUS_CANCELED] = "canceled",
};

/* The label of a status: a constant. */
const char *
status_label(Status status)
{
	return status_labels[status];
}

/*
 * A status as a value of sms_status, whose oid is "type".  Raises an internal error if the type
 * lacks the label.
 */
Datum
status_value(Status status, Oid type)
{
	HeapTuple tuple =
		SearchSysCache2(ENUMTYPOIDNAME, ObjectIdGetDatum(type), CStringGetDatum(status_labels[status]));
	Oid oid;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "sms_status has no label \"%s\"", status_labels[status]);
	oid = ((Form_pg_enum) GETSTRUCT(tuple))->oid;
	ReleaseSysCache(tuple);
	return ObjectIdGetDatum(oid);
}

/* The status that a value of sms_status means.  Raises an internal error if it is none that is known here. */
Status
status_of_value(Datum value)
{
	HeapTuple tuple = SearchSysCache1(ENUMOID, value);
	NameData label;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "sms_status has no value %u", DatumGetObjectId(value));
	label = ((Form_pg_enum) GETSTRUCT(tuple))->enumlabel;
	ReleaseSysCache(tuple);
	for (int i = 0; i < (int) lengthof(status_labels); i++)
	{
		if (strcmp(NameStr(label), status_labels[i]) == 0)
			return (Status) i;
	}
	elog(ERROR, "sms_status has an unknown label \"%s\"", NameStr(label));
}
