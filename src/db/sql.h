/*
 * sql.h
 *		The extension's own SQL: statements are prepared, run and read here, and only here.
 *
 * A statement stands in the file that runs it, with an enum of the columns it returns:
 *
 *		static Statement lease_newest = {
 *			.sql = "SELECT id, claimed_at FROM @sms_gateway_lease WHERE id > $1",
 *			.args = {INT8OID},
 *		};
 *		enum { LEASE_ID, LEASE_CLAIMED_AT };
 *
 *		n = sql_run(&lease_newest, values);
 *		for (int i = 0; i < n; i++)
 *			… sql_int64(i, LEASE_ID) …
 *		sql_done();
 *
 * Readers read the result of the statement that ran last, up to sql_done().
 */
#ifndef SMS_SQL_H
#define SMS_SQL_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "datatype/timestamp.h"
#include "db/status.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/queryenvironment.h"
#include "utils/reltrigger.h"
#include "utils/tuplestore.h"

#define SQL_MAX_ARGS 10

typedef struct Statement
{
	const char *sql;        /* "@" stands for the extension's schema and a dot */
	Oid args[SQL_MAX_ARGS]; /* types of its parameters, up to the first InvalidOid */
	/* sql.c's: */
	struct _SPI_plan *plan; /* NULL: not prepared */
	struct Statement *next; /* in the list of those that are */
} Statement;

/* A column of rows that a statement is given. */
typedef struct SqlColumn
{
	const char *name;
	Oid type; /* InvalidOid: sms_status */
} SqlColumn;

/* Rows that statements find under a name, as if it were a table's: an ephemeral named relation. */
typedef struct SqlRows
{
	Oid status_type; /* sms_status */
	/* sql.c's: */
	TupleDesc desc;
	Tuplestorestate *store;
	EphemeralNamedRelation relation;
	QueryEnvironment *environment;
	MemoryContext context;
} SqlRows;

/* A name as a parameter, kept in "name". */
static inline Datum
name_datum(NameData *name, const char *text)
{
	namestrcpy(name, text);
	return NameGetDatum(name);
}

/* Connecting */
extern void sql_connect(void);
extern void sql_connect_to_commit(void);
extern void sql_commit(void);
extern void sql_disconnect(void);
extern void sql_set(const char *name, const char *value, GucAction action);
extern void sql_forget_plans(Oid extension, Oid schema);

/* Running */
extern int64 sql_run(Statement *statement, const Datum *values);
extern int64 sql_run_nulls(Statement *statement, const Datum *values, const char *nulls);
extern int64 sql_read_latest(Statement *statement, const Datum *values);
extern bool sql_any(Statement *statement, const Datum *values);
extern TimestampTz sql_find_time(Statement *statement, const Datum *values);
extern bool sql_calls(const Trigger *trigger, bool deletes);
extern bool sql_fires(const TriggerDesc *triggers, bool deletes);
extern int64 sql_run_firing(Statement *statement, const Datum *values, const SqlRows *rows, Oid role);
extern ErrorData *sql_try(void (*work)(void *), void *arg, double limit);
extern bool sql_is_late(const ErrorData *error);
extern Datum sql_id_array(const Datum *ids, int n);

/* Rows that statements are given */
extern SqlRows *sql_rows_offer(const char *name, const SqlColumn *columns, int ncolumns);
extern void sql_rows_add(SqlRows *rows, const Datum *values, const bool *nulls);
extern void sql_rows_clear(SqlRows *rows);
extern void sql_rows_withdraw(SqlRows *rows);

/* Reading the result: rows and columns count from 0 */
extern bool sql_is_null(int row, int column);
extern Datum sql_datum(int row, int column, bool *isnull);
extern int64 sql_int64(int row, int column);
extern int32 sql_int32(int row, int column);
extern int16 sql_int16(int row, int column);
extern bool sql_bool(int row, int column);
extern const char *sql_name(int row, int column);
extern char *sql_text(int row, int column);
extern char *sql_json(int row, int column);
extern TimestampTz sql_time(int row, int column, TimestampTz if_null);
extern Status sql_status(int row, int column);
extern void sql_done(void);

#endif /* SMS_SQL_H */
