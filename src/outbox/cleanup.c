/*
 * cleanup.c
 *		What the time of which has passed: messages expire, and what is kept for a time only is deleted.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/sql.h"
#include "gateway/gateway.h"
#include "outbox/cleanup.h"
#include "outbox/event.h"
#include "outbox/firing.h"
#include "outbox/item.h"
#include "outbox/write.h"
#include "utils/timestamp.h"

#define REPORT_DAYS    7
#define EXPIRE_AT_ONCE 1000

static Statement cleanup_find_late = {
	.sql = "SELECT o.id, o.gateway, "
		   "CASE WHEN o.unsure_since IS NULL THEN 'expired' ELSE 'uncertain' END::@sms_status, "
		   "o.created_by FROM @sms_outbox o "
		   "WHERE o.status = 'queued' AND o.expires_at IS NOT NULL AND o.expires_at <= $1 AND o.origin = $2 "
		   "AND NOT @sms_gateway_claimed(o.id) ORDER BY o.expires_at "
		   "LIMIT " CppAsString2(EXPIRE_AT_ONCE) " FOR NO KEY UPDATE OF o SKIP LOCKED",
	.args = {TIMESTAMPTZOID, INT8OID},
};
enum
{
	LATE_ID,
	LATE_GATEWAY,
	LATE_STATUS,
	LATE_CREATED_BY,
};

/* clang-format off */
static Statement cleanup_update_late = {
	.sql = "UPDATE @sms_outbox o SET next_attempt_at = NULL, "
		   "status = CASE WHEN o.unsure_since IS NULL THEN 'expired' ELSE 'uncertain' END::@sms_status, "
		   BLANK("o.unsure_since IS NULL AND " REDACTED) " "
		   "WHERE o.id OPERATOR(pg_catalog.=) ANY ($1) AND " IS_QUEUED,
	.args = {INT8ARRAYOID},
};
/* clang-format on */

static Statement cleanup_next_late = {
	.sql = "SELECT o.expires_at FROM @sms_outbox o WHERE o.status = 'queued' "
		   "AND o.expires_at IS NOT NULL AND o.expires_at > $1 ORDER BY o.expires_at LIMIT 1",
	.args = {TIMESTAMPTZOID},
};

/* What is not known to have ended, queued or uncertain, stays. */
static Statement cleanup_delete_page = {
	.sql = "WITH page AS MATERIALIZED (SELECT o.id, o.created_at FROM @sms_outbox o "
		   "WHERE o.id > $1 ORDER BY o.id LIMIT 1000), "
		   "gone AS (DELETE FROM @sms_outbox o USING page WHERE o.id = page.id "
		   "AND o.created_at < $2 AND o.status IN "
		   "('sent', 'delivered', 'undelivered', 'failed', 'expired', 'canceled')) "
		   "SELECT max(id), bool_or(created_at >= $2) FROM page",
	.args = {INT8OID, TIMESTAMPTZOID},
};
enum
{
	PAGE_LAST_ID,
	PAGE_HAS_NEWER,
};

static Statement cleanup_delete_reports = {
	.sql = "DELETE FROM @sms_gateway_callback WHERE received_at < $1",
	.args = {TIMESTAMPTZOID},
};

static Statement cleanup_delete_otp = {
	.sql = "DELETE FROM @sms_gateway_otp WHERE expires_at < $1",
	.args = {TIMESTAMPTZOID},
};

static Statement cleanup_delete_usage = {
	.sql = "DELETE FROM @sms_gateway_usage WHERE window_end < $1 "
		   "AND (subject ^@ 'otp ' OR subject ^@ 'phone ')",
	.args = {TIMESTAMPTZOID},
};

/* Ends those of n messages that one role queued. */
static void
expire_of(Oid role, TriggerMode mode, const Datum *ids, const Oid *creators, int n)
{
	Datum *of_role = palloc(sizeof(Datum) * n);
	Datum array;
	Change change = {.statement = &cleanup_update_late, .values = &array};
	int count = 0;

	for (int i = 0; i < n; i++)
	{
		if (creators[i] == role)
			of_role[count++] = ids[i];
	}
	array = sql_id_array(of_role, count);
	if (!firing_try_together(&change, mode, role))
		(void) firing_try_without(&change);
}

/*
 * Ends up to EXPIRE_AT_ONCE messages whose time has passed, and tells it.  Returns how many, and puts
 * into *next when the next one's passes.
 */
int
cleanup_expire(TimestampTz now, TimestampTz *next)
{
	Datum values[] = {TimestampTzGetDatum(now), Int64GetDatum(home_origin())};
	TriggerMode mode = firing_mode();
	int n = (int) sql_run(&cleanup_find_late, values);
	Datum *ids = palloc(sizeof(Datum) * (n + 1));
	Oid *creators = palloc(sizeof(Oid) * (n + 1));
	List *roles = NIL;
	ListCell *lc;

	for (int i = 0; i < n; i++)
	{
		const char *gateway = sql_name(i, LATE_GATEWAY);
		int64 id = sql_int64(i, LATE_ID);

		ids[i] = Int64GetDatum(id);
		creators[i] = mode == TRIGGERS_AS_CREATOR ? sql_role(i, LATE_CREATED_BY) : InvalidOid;
		roles = list_append_unique_oid(roles, creators[i]);
		event_tell(gateway_events(gateway), sql_status(i, LATE_STATUS), id, gateway, NULL);
	}
	sql_done();
	foreach (lc, roles)
		expire_of(lfirst_oid(lc), mode, ids, creators, n);
	*next = n == EXPIRE_AT_ONCE ? now : sql_find_time(&cleanup_next_late, values);
	return n;
}

/*
 * Deletes ended messages created before a time, a page at a time from *after
 * on.  Returns false when it came to newer ones or the end, and then starts anew.
 */
bool
cleanup_purge(TimestampTz before, int64 *after)
{
	Datum values[] = {Int64GetDatum(*after), TimestampTzGetDatum(before)};
	bool more;

	sql_run(&cleanup_delete_page, values);
	more = !sql_is_null(0, PAGE_LAST_ID) && !sql_bool(0, PAGE_HAS_NEWER);
	*after = more ? sql_int64(0, PAGE_LAST_ID) : 0;
	sql_done();
	return more;
}

/* Deletes reports, one-time passwords and counters whose time has passed. */
void
cleanup_purge_kept(void)
{
	TimestampTz now = GetCurrentTimestamp();
	Datum reports_before = TimestampTzGetDatum(now - REPORT_DAYS * USECS_PER_DAY);
	Datum usage_before = TimestampTzGetDatum(now - USECS_PER_DAY);
	Datum otp_before = TimestampTzGetDatum(now);

	sql_run(&cleanup_delete_reports, &reports_before);
	sql_run(&cleanup_delete_otp, &otp_before);
	sql_run(&cleanup_delete_usage, &usage_before);
}
