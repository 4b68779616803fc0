/*
 * held.c
 *		Why nothing is sent from this database, whatever its gateways are.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "base/extension.h"
#include "base/settings.h"
#include "catalog/pg_authid_d.h"
#include "commands/dbcommands.h"
#include "db/home.h"
#include "miscadmin.h"
#include "outbox/held.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
#include "wake/slot.h"

#define DRAIN_SENDS "; CALL sms_drain() sends"
#define START_TAKES 2000  /* ms for which nobody is told that a worker is being started */
#define LOOK_AGAIN  60000 /* ms between looks of a session that inserts */

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

/* Does another version of the extension stand in this database than this library serves? */
static Held
other_version(void)
{
	Oid extension;
	Oid schema;
	char *version;

	if (!home_find_extension(&extension, &schema, &version) || strcmp(version, SMS_GATEWAY_VERSION) == 0)
		return (Held){NULL, 0};
	return (Held){psprintf("the library of version %s does not serve version %s; "
						   "see ALTER EXTENSION sms_gateway UPDATE",
						   SMS_GATEWAY_VERSION, version),
				  0};
}

static Held
standby(void)
{
	return RecoveryInProgress() ? (Held){"a standby sends no messages", PgStartTime} : (Held){NULL, 0};
}

/* It was at the last reload, or before that, which nobody knows. */
static Held
switched_off(void)
{
	return guc_enabled ? (Held){NULL, 0} : (Held){"sms_gateway.enabled is off", PgReloadTime};
}

/* A standby is where it likes.  Where the data directory was is for monitors. */
static Held
copied(void)
{
	if (RecoveryInProgress())
		return (Held){NULL, 0};
	home_forget(); /* a dump that was loaded has invalidated nothing */
	return (Held){home_copied(has_privs_of_role(GetUserId(), ROLE_PG_MONITOR)), 0};
}

static Held
no_launcher(void)
{
	return slot_table != NULL && !RecoveryInProgress() && pg_atomic_read_u32(&slot_table->launcher) == 0
			   ? (Held){"the launcher does not run", 0}
			   : (Held){NULL, 0};
}

const HeldCheck held_checks[HELD_CHECKS] = {
	{"version", other_version, true}, {"standby", standby, true},       {"enabled", switched_off, true},
	{"copy", copied, true},           {"launcher", no_launcher, false}, {"worker", no_worker, true},
};

/* Tells a session that queues messages, once, that nothing will send them; looks for that once a minute. */
void
held_tell_once(void)
{
	static bool told = false;
	static TimestampTz looked = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (told || (looked != 0 && !TimestampDifferenceExceeds(looked, now, LOOK_AGAIN)))
		return;
	looked = now;
	for (int i = 0; i < HELD_CHECKS && !told; i++)
	{
		Held found = held_checks[i].holds ? held_checks[i].look() : (Held){NULL, 0};

		if (found.why == NULL)
			continue;
		told = true;
		ereport(NOTICE, (errmsg("the message waits: %s", found.why),
						 errhint("The view sms_health tells what to do about it.")));
	}
}
