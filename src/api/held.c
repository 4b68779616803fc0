/*
 * held.c
 *		Why nothing is sent from this database, whatever its gateways are.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "base/extension.h"
#include "base/settings.h"
#include "commands/dbcommands.h"
#include "db/home.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
#include "wake/slot.h"

PG_FUNCTION_INFO_V1(sms_gateway_held);
PG_FUNCTION_INFO_V1(sms_gateway_origin);

#define DRAIN_SENDS "; CALL sms_drain() sends"
#define START_TAKES 2000 /* ms for which nobody is told that a worker is being started */

/* Is a database on the list of sms_gateway.databases?  An empty list has all. */
static bool
list_has(const char *name)
{
	char *copy = pstrdup(guc_databases != NULL ? guc_databases : "");
	List *names = NIL;
	ListCell *lc;

	if (!SplitGUCList(copy, ',', &names))
		return false;
	foreach (lc, names)
	{
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	}
	return names == NIL;
}

/* Why nothing is sent, in words for a view; NULL: it is.  And since when; 0: nobody knows. */
typedef struct Held
{
	const char *why;
	TimestampTz since;
} Held;

/* Why a database that has a slot has no worker. */
static Held
no_worker_in(WorkerSlot *slot)
{
	Held held = {.since = (TimestampTz) pg_atomic_read_u64(&slot->since)};

	switch (pg_atomic_read_u32(&slot->state))
	{
		case SLOT_IDLE:
			break;
		case SLOT_WANTED:
			/* After a start it takes a moment to be served. */
			if (TimestampDifferenceExceeds(held.since, GetCurrentTimestamp(), START_TAKES))
				held.why = "no worker serves this database yet: it waits for a process "
						   "(max_worker_processes)" DRAIN_SENDS;
			break;
		case SLOT_BEYOND:
			held.why =
				"no worker serves this database: there are too many (sms_gateway.max_databases)" DRAIN_SENDS;
			break;
		default:
			held.why = "no worker serves this database" DRAIN_SENDS;
	}
	return held;
}

/* Why no worker serves this database; none: one does, or comes when there is something to do. */
static Held
no_worker(void)
{
	WorkerSlot *slot;

	if (slot_table == NULL)
		return (Held){"sms_gateway is not in shared_preload_libraries" DRAIN_SENDS, PgStartTime};
	slot = slot_find(MyDatabaseId);
	if (slot != NULL && pg_atomic_read_u32(&slot->worker) != 0)
		return (Held){NULL, 0};
	if (!list_has(get_database_name(MyDatabaseId)))
		return (Held){"no worker serves this database: sms_gateway.databases leaves it out" DRAIN_SENDS,
					  PgReloadTime};
	if (slot != NULL)
		return no_worker_in(slot);
	/* Else it gets one when the launcher looks. */
	return (Held){slot_is_full() ? "no worker serves this database: there are too many" DRAIN_SENDS : NULL,
				  0};
}

/* Why what is in this database is not sent by anybody; none: it may be. */
static Held
not_to_be_sent(void)
{
	Oid extension;
	Oid schema;
	char *version;
	Held held;

	if (home_find_extension(&extension, &schema, &version) && strcmp(version, SMS_GATEWAY_VERSION) != 0)
		return (Held){psprintf("the library of version %s does not serve version %s; "
							   "see ALTER EXTENSION sms_gateway UPDATE",
							   SMS_GATEWAY_VERSION, version),
					  0};
	home_forget(); /* a dump that was loaded has invalidated nothing */
	held = (Held){home_held(), 0};
	if (RecoveryInProgress())
		held.since = PgStartTime;
	else if (!guc_enabled)
		held.since = PgReloadTime; /* or before that, which nobody knows */
	return held;
}

/* Internal SQL function: why nothing is sent from this database, and since when; NULL: it is. */
Datum
sms_gateway_held(PG_FUNCTION_ARGS)
{
	Held held = not_to_be_sent();
	TupleDesc desc;
	Datum values[2];
	bool nulls[2];

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (held.why == NULL)
		held = no_worker();
	nulls[0] = held.why == NULL;
	nulls[1] = held.why == NULL || held.since == 0;
	values[0] = nulls[0] ? (Datum) 0 : CStringGetTextDatum(held.why);
	values[1] = TimestampTzGetDatum(held.since);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* Internal SQL function: the origin of rows that are made in this database; 0 in a copy that is not adopted. */
Datum
sms_gateway_origin(PG_FUNCTION_ARGS)
{
	(void) fcinfo;
	PG_RETURN_INT64(home_origin());
}
