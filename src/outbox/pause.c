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
#include "utils/timestamp.h"

static Statement pause_find_all = {
	.sql = "SELECT gateway, by_user, state, since, next_probe_at FROM @sms_gateway_state",
};
enum
{
	PAUSE_GATEWAY,
	PAUSE_BY_USER,
	PAUSE_STATE,
	PAUSE_SINCE,
	PAUSE_NEXT_PROBE_AT,
};

static Statement pause_find = {
	.sql = "SELECT 1 FROM @sms_gateway_state WHERE gateway = $1 AND state NOT IN ('resting', 'resumed')",
	.args = {NAMEOID},
};

static Statement pause_insert = {
	.sql = "INSERT INTO @sms_gateway_state AS s (gateway, reason, by_user, since) "
		   "VALUES ($1, $2, true, clock_timestamp()) ON CONFLICT (gateway) DO UPDATE "
		   "SET reason = excluded.reason, by_user = true, state = 'paused', next_probe_at = NULL, "
		   "since = CASE WHEN s.state = 'paused' THEN s.since ELSE excluded.since END",
	.args = {NAMEOID, TEXTOID},
};

/* The user's pause and its reason are not replaced by the worker's; a reason that only an earlier engine knew stays. */
static Statement pause_upsert = {
	.sql = "INSERT INTO @sms_gateway_state AS s (gateway, state, reason, since, next_probe_at, by_user) "
		   "VALUES ($1, $2, $3, $4, nullif($5, 'infinity'), false) ON CONFLICT (gateway) DO UPDATE "
		   "SET state = excluded.state, reason = coalesce(nullif(excluded.reason, ''), s.reason), "
		   "since = excluded.since, next_probe_at = excluded.next_probe_at WHERE NOT s.by_user",
	.args = {NAMEOID, TEXTOID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
};

static Statement pause_delete = {
	.sql = "DELETE FROM @sms_gateway_state WHERE gateway = $1 AND NOT by_user",
	.args = {NAMEOID},
};

/* Tells engines to try the gateway now; whichever sees to that deletes the row. */
static Statement pause_replace = {
	.sql = "INSERT INTO @sms_gateway_state AS s (gateway, reason, by_user, state, since) "
		   "VALUES ($1, 'sms_resume', false, 'resumed', clock_timestamp()) ON CONFLICT (gateway) DO UPDATE "
		   "SET reason = excluded.reason, by_user = false, state = 'resumed', next_probe_at = NULL, "
		   "since = excluded.since",
	.args = {NAMEOID},
};

static Statement pause_delete_resumed = {
	.sql = "DELETE FROM @sms_gateway_state WHERE gateway = $1 AND state = 'resumed' AND since <= $2",
	.args = {NAMEOID, TIMESTAMPTZOID},
};

static Statement pause_find_any = {
	.sql = "SELECT 1 FROM @sms_gateway_state WHERE gateway = $1 AND state <> 'resumed' "
		   "UNION ALL SELECT 1 FROM @sms_gateway_refused WHERE gateway = $1",
	.args = {NAMEOID},
};

/*
 * Puts the paused gateways into *pauses, a palloc'd list of GatewayPauses; false if somebody has locked
 * the table, who is not waited for.
 */
bool
pause_list(List **pauses)
{
	int64 n;

	if (!ConditionalLockRelationOid(home_relation("sms_gateway_state"), AccessShareLock))
		return false;
	*pauses = NIL;
	n = sql_run(&pause_find_all, NULL);
	for (int i = 0; i < n; i++)
	{
		GatewayPause *pause = palloc0(sizeof(GatewayPause));

		namestrcpy(&pause->gateway, sql_name(i, PAUSE_GATEWAY));
		pause->by_user = sql_bool(i, PAUSE_BY_USER);
		pause->state = sql_text(i, PAUSE_STATE);
		pause->since = sql_time(i, PAUSE_SINCE, 0);
		pause->next_probe_at = sql_time(i, PAUSE_NEXT_PROBE_AT, DT_NOEND);
		*pauses = lappend(*pauses, pause);
	}
	sql_done();
	return true;
}

/* Is this gateway paused, or out of reach? */
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
	CacheInvalidateRelcacheByRelid(home_relation("sms_gateway_state"));
}

/* Pauses a gateway for the user. */
void
pause_begin(const char *gateway, const char *reason)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(reason)};

	sql_run(&pause_insert, values);
	announce_pauses();
}

/* Notes the state that a gateway has come into by its answers, and when it is tried next; DT_NOEND: no such time. */
void
pause_note(const char *gateway, const char *state, const char *reason, TimestampTz since,
		   TimestampTz next_probe_at)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(state), CStringGetTextDatum(reason),
					  TimestampTzGetDatum(since), TimestampTzGetDatum(next_probe_at)};

	sql_run(&pause_upsert, values);
}

/* Ends a pause that is not the user's. */
void
pause_end(const char *gateway)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway)};

	sql_run(&pause_delete, values);
	announce_pauses();
}

/* Ends all pauses of a gateway for the user, and has it and its messages tried now; false if there was none. */
bool
pause_resume(const char *gateway)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway)};
	bool found = sql_any(&pause_find_any, values);

	sql_run(&pause_replace, values);
	announce_pauses();
	return found;
}

/* What pause_resume() asked for by a time is done. */
void
pause_forget_resumed(const char *gateway, TimestampTz since)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), TimestampTzGetDatum(since)};

	sql_run(&pause_delete_resumed, values);
}
