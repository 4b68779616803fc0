/*
 * manage.c
 *		What users do to their messages: cancel, retry, resolve.
 */
#include "postgres.h"

#include "base/compat.h"
#include "catalog/pg_type.h"
#include "db/creator.h"
#include "db/home.h"
#include "db/sql.h"
#include "gateway/gateway.h"
#include "guard/limits.h"
#include "miscadmin.h"
#include "outbox/firing.h"
#include "outbox/lease.h"
#include "outbox/manage.h"
#include "outbox/write.h"
#include "provider/table.h"
#include "utils/timestamp.h"
#include "wake/wake.h"

static Statement manage_find_creator = {
	.sql = "SELECT " CREATOR_COLUMNS " FROM @sms_outbox o WHERE o.id = $1",
	.args = {INT8OID},
};

static Statement manage_lock_row = {
	.sql = "SELECT o.status, " CREATOR_COLUMNS ", CASE o.kind WHEN 'omni' THEN o.list_param IS NULL "
		   "ELSE o.content IS NULL END, o.send_after <= clock_timestamp() AND o.next_attempt_at > "
		   "clock_timestamp(), "
		   "o.gateway, o.kind, o.phone FROM @sms_outbox o WHERE o.id = $1 FOR NO KEY UPDATE",
	.args = {INT8OID},
};
enum
{
	LOCKED_STATUS,
	LOCKED_CREATOR,
	LOCKED_CREATED_BY,
	LOCKED_ORIGIN,
	LOCKED_BLANKED,
	LOCKED_WAITS, /* to be tried again */
	LOCKED_GATEWAY,
	LOCKED_KIND,
	LOCKED_PHONE,
};

/* A message of somebody's, locked. */
typedef struct Locked
{
	Status status;
	bool blanked; /* its text is gone */
	bool waits;   /* queued, and to be tried again later */
	Oid creator;
	const char *gateway;
	char *kind;
	char *phone; /* or NULL */
} Locked;

/* clang-format off */
static Statement manage_end = {
	.sql = "UPDATE @sms_outbox o SET status = $2::@sms_status, next_attempt_at = NULL, "
		   "ended_at = pg_catalog.clock_timestamp(), "
		   "sent_at = CASE WHEN $2 OPERATOR(pg_catalog.=) 'sent' "
		   "THEN coalesce(o.sent_at, pg_catalog.clock_timestamp()) ELSE o.sent_at END, "
		   BLANK(REDACTED) " "
		   "WHERE o.id OPERATOR(pg_catalog.=) $1",
	.args = {INT8OID, TEXTOID},
};
/* clang-format on */

static Statement manage_requeue = {
	.sql =
		"UPDATE @sms_outbox SET status = 'queued', attempts = 0, next_attempt_at = $2, "
		"expires_at = CASE WHEN expires_at OPERATOR(pg_catalog.>) $2 THEN expires_at END, "
		"unsure_since = NULL, ended_at = NULL, details = coalesce(details, '{}') OPERATOR(pg_catalog.||) "
		"pg_catalog.jsonb_build_object('resent', coalesce(pg_catalog.int4((details "
		"OPERATOR(pg_catalog.->) 'resent')), 0) OPERATOR(pg_catalog.+) 1) WHERE id OPERATOR(pg_catalog.=) $1",
	.args = {INT8OID, TIMESTAMPTZOID},
};

/* Its attempts are counted on. */
static Statement manage_hurry = {
	.sql = "UPDATE @sms_outbox SET next_attempt_at = $2 WHERE id OPERATOR(pg_catalog.=) $1",
	.args = {INT8OID, TIMESTAMPTZOID},
};

/*
 * Raises 42704 unless role queued a message or owns the table; creator is InvalidOid if there is no such message, or
 * nobody's.  Which of the two it is, or whose else, is not told.
 */
void
manage_check(int64 id, Oid creator, Oid role)
{
	if (creator != role && !compat_owns_table(home_relation("sms_outbox"), role))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("there is no message %lld of role \"%s\"",
														   (long long) id, GetUserNameFromId(role, false))));
}

/*
 * Locks a message that belongs to role, or that role may manage as the table's
 * owner.  Returns what is known of it.  Raises 42704 if there is none of its own.
 */
static Locked
lock_message(int64 id, Oid role)
{
	Datum values[] = {Int64GetDatum(id)};
	Locked locked;
	bool isnull;

	/* Nobody else's message is locked, not even for a moment: the worker would pass it over. */
	manage_check(id, sql_run(&manage_find_creator, values) > 0 ? creator_read(0, 0) : InvalidOid, role);
	sql_done();
	if (sql_run(&manage_lock_row, values) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("message %lld does not exist", (long long) id)));
	locked.status = sql_status(0, LOCKED_STATUS);
	locked.blanked = sql_bool(0, LOCKED_BLANKED);
	locked.waits = DatumGetBool(sql_datum(0, LOCKED_WAITS, &isnull)) && !isnull;
	locked.creator = creator_read(0, LOCKED_CREATOR);
	locked.gateway = pstrdup(sql_name(0, LOCKED_GATEWAY));
	locked.kind = sql_text(0, LOCKED_KIND);
	locked.phone = sql_text(0, LOCKED_PHONE);
	sql_done();
	manage_check(id, locked.creator, role);
	return locked;
}

/* Takes a message that is sent again from the limits of its gateway; raises 53400 if one refuses. */
static void
take_again(const Locked *locked)
{
	Message message = {.phones = (const char **) &locked->phone, .nphones = 1};
	const Gateway *gateway;
	Refusal refusal;

	/* What cannot be sent says so when it is tried. */
	if (!OidIsValid(locked->creator) || locked->phone == NULL || !kind_from_name(locked->kind, &message.call))
		return;
	gateway = gateway_get(locked->gateway, locked->creator, &refusal);
	if (gateway != NULL && !limits_grant(gateway, &message, locked->creator, &refusal))
		refusal_raise(&refusal);
}

static void
end_message(int64 id, Status status, Oid role)
{
	Datum values[] = {Int64GetDatum(id), CStringGetTextDatum(status_label(status))};
	Change change = {.statement = &manage_end, .values = values};

	firing_run(&change, role);
}

/* Takes a queued message back for role; false if it is too late.  Raises as lock_message(). */
bool
manage_cancel(int64 id, Oid role)
{
	bool on_its_way;

	if (lock_message(id, role).status != STATUS_QUEUED)
		return false;
	lease_last(id, &on_its_way);
	if (on_its_way)
		return false;
	end_message(id, STATUS_CANCELED, role);
	return true;
}

/*
 * Queues an ended message again for role, due now, or makes one due that waits to be tried again; false if it is in
 * another state.  Raises as lock_message(), 55000 if its text was
 * blanked, and 53400 if a limit refuses it.
 */
bool
manage_retry(int64 id, Oid role)
{
	Locked message = lock_message(id, role);
	bool ended = message.status == STATUS_FAILED || message.status == STATUS_EXPIRED ||
				 message.status == STATUS_CANCELED || message.status == STATUS_UNCERTAIN;
	bool on_its_way;
	TimestampTz due;
	Datum values[2];
	Change change = {.statement = ended ? &manage_requeue : &manage_hurry, .values = values};

	if (!ended && !message.waits)
		return false;
	if (ended && message.blanked)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("message %lld cannot be sent again: its text was blanked", (long long) id)));
	if (ended)
		take_again(&message);
	/* Past any lease that still names it, or it would look as if on its way. */
	due = Max(lease_last(id, &on_its_way) + 1, GetCurrentTimestamp());
	values[0] = Int64GetDatum(id);
	values[1] = TimestampTzGetDatum(due);
	firing_run(&change, role);
	wake_at_commit(due);
	return true;
}

/* Decides an uncertain message for role; false if it is not uncertain.  Raises as lock_message(). */
bool
manage_resolve(int64 id, Status status, Oid role)
{
	if (lock_message(id, role).status != STATUS_UNCERTAIN)
		return false;
	end_message(id, status, role);
	return true;
}
