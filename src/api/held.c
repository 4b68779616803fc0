/*
 * held.c
 *		Why nothing is sent from this database, whatever its gateways are.
 */
#include "postgres.h"

#include "base/extension.h"
#include "base/settings.h"
#include "commands/dbcommands.h"
#include "db/home.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/varlena.h"
#include "wake/slot.h"

PG_FUNCTION_INFO_V1(sms_gateway_held);

#define DRAIN_SENDS "; CALL sms_drain() sends"

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

/* Why no worker serves this database; NULL: one does, or comes when there is something to do. */
static const char *
no_worker(void)
{
	WorkerSlot *slot;

	if (slot_table == NULL)
		return "sms_gateway is not in shared_preload_libraries" DRAIN_SENDS;
	slot = slot_of(MyDatabaseId);
	if (slot == NULL)
		return "no worker serves this database: there are too many" DRAIN_SENDS;
	if (pg_atomic_read_u32(&slot->worker) != 0)
		return NULL;
	if (!list_has(get_database_name(MyDatabaseId)))
		return "no worker serves this database: sms_gateway.databases leaves it out" DRAIN_SENDS;
	switch (pg_atomic_read_u32(&slot->state))
	{
		case SLOT_IDLE:
			return NULL;
		case SLOT_WANTED:
			return "no worker serves this database yet: it waits for a process "
				   "(max_worker_processes)" DRAIN_SENDS;
		default:
			return "no worker serves this database" DRAIN_SENDS;
	}
}

/* Why what is in this database is not sent by anybody; NULL: it may be. */
static const char *
not_to_be_sent(void)
{
	Oid extension;
	Oid schema;
	char *version;

	if (home_find_extension(&extension, &schema, &version) && strcmp(version, SMS_GATEWAY_VERSION) != 0)
		return psprintf(
			"the library of version %s does not serve version %s; see ALTER EXTENSION sms_gateway UPDATE",
			SMS_GATEWAY_VERSION, version);
	home_forget(); /* a dump that was loaded has invalidated nothing */
	return home_held();
}

/* Internal SQL function: why nothing is sent from this database; NULL: it is. */
Datum
sms_gateway_held(PG_FUNCTION_ARGS)
{
	const char *why = not_to_be_sent();

	(void) fcinfo;
	if (why == NULL)
		why = no_worker();
	if (why == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(why));
}
