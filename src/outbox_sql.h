/*
 * outbox_sql.h
 *		What the files of the outbox share: its statements, and how they are run.
 */
#ifndef OUTBOX_SQL_H
#define OUTBOX_SQL_H

#include "sms_gateway.h"
#include "utils/builtins.h"
#include "utils/guc.h"

typedef enum Statement
{
	PLAN_NEXT_LANE,
	PLAN_CLAIM,
	PLAN_LANE_DUE,
	PLAN_ANY_DUE,
	PLAN_LANE_FREE,
	PLAN_LEASE_ADD,
	PLAN_LEASE_DROP,
	PLAN_LEASE_SET,
	PLAN_LEASE_CLEAR,
	PLAN_RECORD,
	PLAN_ROW_FREE,
	PLAN_ORPHANS,
	PLAN_LATE,
	PLAN_EXPIRE,
	PLAN_EXPIRE_NEXT,
	PLAN_PURGE,
	PLAN_PAUSES,
	PLAN_PAUSED,
	PLAN_ANY_LEASE,
	PLAN_PAUSE,
	PLAN_RESUME,
	PLAN_IDENTITY,
	PLAN_IDENTITIES,
	PLAN_IDENTITY_CLEAR,
	PLAN_ADOPT,
	PLAN_LOCK_ROW,
	PLAN_LEASED_AT,
	PLAN_SET_STATUS,
	PLAN_REQUEUE,
	PLAN_FOLLOW,
	PLAN_FOLLOW_ENDS,
	PLAN_POLLS,
	PLAN_POLL_DUE,
	PLAN_SENT_MESSAGE,
	PLAN_FIND_ID,
	PLAN_FIND_REQUEST,
	PLAN_FIND_REFERENCE,
	PLAN_FIND_REMEMBERED,
	PLAN_KEEP_REPORT,
	PLAN_UNKNOWN_REPORTS,
	PLAN_KNOW_REPORT,
	PLAN_PURGE_REPORTS,
	PLAN_PURGE_OTP,
	PLAN_PURGE_USAGE,
	PLAN_OTP_ADD,
	PLAN_OTP_USE,
	PLAN_COUNT
} Statement;

#define EXPIRE_AT_ONCE 1000

/* A name as a parameter, kept in "name". */
static inline Datum
name_datum(NameData *name, const char *text)
{
	namestrcpy(name, text);
	return NameGetDatum(name);
}

/* ---- in outbox_sql.c ---- */
extern void sql_run(Statement plan, Datum *values);
extern void sql_run_nulls(Statement plan, Datum *values, const char *nulls);
extern void sql_read_latest(Statement plan, Datum *values);
extern void sql_run_firing(Statement plan, Datum *values, Oid role);
extern void sql_set(const char *name, const char *value, GucAction action);
extern Datum sql_column(int row, int number, bool *isnull);
extern char *sql_text(int row, int number);
extern TimestampTz sql_time(int row, int number, TimestampTz if_null);
extern TimestampTz sql_find_time(Statement plan, Datum *values);
extern char *sql_json(int row, int number);
extern Oid sql_role(int row, int number);
extern Datum sql_id_array(const Datum *ids, int n);

/* ---- in outbox_home.c ---- */
extern bool outbox_find_extension(Oid *extension, Oid *schema, char **version);
extern void outbox_forget_home(void);

/* ---- in outbox.c ---- */
extern void outbox_check_manages(int64 id, Oid creator, Oid role);

/* ---- in outbox_record.c ---- */
extern void outbox_fire(Statement plan, Datum *values, Oid role);

#endif /* OUTBOX_SQL_H */
