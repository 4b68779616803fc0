/*
 * pause.c
 *		The table of paused gateways.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/sql.h"
#include "outbox/pause.h"
#include "storage/lmgr.h"
#include "utils/inval.h"

static Statement pause_find_all = {
	.sql = "SELECT gateway, by_user FROM @sms_gateway_pause",
};
enum
{
	PAUSE_GATEWAY,
	PAUSE_BY_USER
};

static Statement pause_find = {
	.sql = "SELECT 1 FROM @sms_gateway_pause WHERE gateway = $1",
	.args = {NAMEOID},
};

/* The user's pause and its reason are not replaced by the worker's. */
static Statement pause_insert = {
	.sql = "INSERT INTO @sms_gateway_pause AS s (gateway, reason, by_user, since) "
		   "VALUES ($1, $2, $3, clock_timestamp()) ON CONFLICT (gateway) DO UPDATE "
		   "SET reason = excluded.reason, by_user = excluded.by_user, since = excluded.since "
		   "WHERE excluded.by_user OR NOT s.by_user",
	.args = {NAMEOID, TEXTOID, BOOLOID},
};

static Statement pause_delete = {
	.sql = "DELETE FROM @sms_gateway_pause WHERE gateway = $1 AND (NOT by_user OR $2)",
	.args = {NAMEOID, BOOLOID},
};

/*
 * Puts the paused gateways into *pauses, a palloc'd list of GatewayPauses; false if somebody has locked
 * the table, who is not waited for.
 */
bool
pause_list(List **pauses)
{
	int64 n;

	if (!ConditionalLockRelationOid(home_relation("sms_gateway_pause"), AccessShareLock))
		return false;
	*pauses = NIL;
	n = sql_run(&pause_find_all, NULL);
	for (int i = 0; i < n; i++)
	{
		GatewayPause *pause = palloc0(sizeof(GatewayPause));

		namestrcpy(&pause->gateway, sql_name(i, PAUSE_GATEWAY));
		pause->by_user = sql_bool(i, PAUSE_BY_USER);
		*pauses = lappend(*pauses, pause);
	}
	sql_done();
	return true;
}

/* Is this gateway paused? */
bool
pause_holds(const char *gateway)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway)};

	return sql_any(&pause_find, values);
}

/* Tells engines that the table of pauses changed. */
static void
announce_pauses(void)
{
	CacheInvalidateRelcacheByRelid(home_relation("sms_gateway_pause"));
}

/* Pauses a gateway, by the user or by its answers; see pause_insert. */
void
pause_begin(const char *gateway, const char *reason, bool by_user)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(reason), BoolGetDatum(by_user)};

	sql_run(&pause_insert, values);
	announce_pauses();
}

/* Ends a pause, the user's only for the user; false if there was none. */
bool
pause_end(const char *gateway, bool by_user)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), BoolGetDatum(by_user)};
	bool found = sql_any(&pause_delete, values);

	announce_pauses();
	return found;
}
