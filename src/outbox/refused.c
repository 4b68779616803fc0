/*
 * refused.c
 *		The table of credentials that gateways refuse.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/sql.h"
#include "outbox/refused.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static Statement refused_find_all = {
	.sql = "SELECT gateway, role::int8, credentials, since, next_probe_at, reason FROM @sms_gateway_refused",
};
enum
{
	REFUSED_GATEWAY,
	REFUSED_ROLE,
	REFUSED_CREDENTIALS,
	REFUSED_SINCE,
	REFUSED_NEXT_PROBE_AT,
	REFUSED_REASON,
};

static Statement refused_upsert = {
	.sql = "INSERT INTO @sms_gateway_refused AS s (gateway, role, credentials, reason, since, next_probe_at) "
		   "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (gateway, role) DO UPDATE "
		   "SET credentials = excluded.credentials, reason = excluded.reason, since = excluded.since, "
		   "next_probe_at = excluded.next_probe_at",
	.args = {NAMEOID, OIDOID, INT8OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID},
};

static Statement refused_delete = {
	.sql = "DELETE FROM @sms_gateway_refused WHERE gateway = $1 AND role = $2",
	.args = {NAMEOID, OIDOID},
};

/* Puts all rows into *all, a palloc'd list of Refused; false if somebody has locked the table, who is not waited for. */
bool
refused_list(List **all)
{
	int64 n;

	if (!ConditionalLockRelationOid(home_relation("sms_gateway_refused"), AccessShareLock))
		return false;
	*all = NIL;
	n = sql_run(&refused_find_all, NULL);
	for (int i = 0; i < n; i++)
	{
		Refused *row = palloc0(sizeof(Refused));

		namestrcpy(&row->gateway, sql_name(i, REFUSED_GATEWAY));
		row->role = (Oid) sql_int64(i, REFUSED_ROLE);
		row->credentials = (uint64) sql_int64(i, REFUSED_CREDENTIALS);
		row->reason = sql_text(i, REFUSED_REASON);
		row->since = sql_time(i, REFUSED_SINCE, 0);
		row->next_probe_at = sql_time(i, REFUSED_NEXT_PROBE_AT, 0);
		*all = lappend(*all, row);
	}
	sql_done();
	return true;
}

/* Notes that credentials are refused, and when a message is tried next. */
void
refused_note(const Refused *row)
{
	Datum values[] = {NameGetDatum(&row->gateway),
					  ObjectIdGetDatum(row->role),
					  Int64GetDatum((int64) row->credentials),
					  CStringGetTextDatum(row->reason),
					  TimestampTzGetDatum(row->since),
					  TimestampTzGetDatum(row->next_probe_at)};

	sql_run(&refused_upsert, values);
}

/* A role's credentials are refused no more. */
void
refused_end(const char *gateway, Oid role)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), ObjectIdGetDatum(role)};

	sql_run(&refused_delete, values);
}
