/*
 * cleanup.c
 *		Retention: deletes what is kept for a time only.
 */
#include "postgres.h"

#include "db/sql.h"
#include "executor/spi.h"
#include "outbox/cleanup.h"
#include "utils/timestamp.h"

#define REPORT_DAYS 7

/*
 * Deletes ended messages created before a time, a page at a time from *after
 * on.  Returns false when it came to newer ones or the end, and then starts anew.
 */
bool
outbox_purge(TimestampTz before, int64 *after)
{
	Datum values[] = {Int64GetDatum(*after), TimestampTzGetDatum(before)};
	bool no_page;
	bool isnull;
	bool more;

	sql_run(PLAN_PURGE, values);
	*after = DatumGetInt64(sql_column(0, 1, &no_page));
	more = !no_page && !DatumGetBool(sql_column(0, 2, &isnull));
	if (!more)
		*after = 0;
	SPI_freetuptable(SPI_tuptable);
	return more;
}

/* Deletes what is kept for a time only, and its time has passed. */
void
outbox_purge_kept(void)
{
	TimestampTz now = GetCurrentTimestamp();
	Datum reports_before = TimestampTzGetDatum(now - REPORT_DAYS * USECS_PER_DAY);
	Datum usage_before = TimestampTzGetDatum(now - USECS_PER_DAY);
	Datum otp_before = TimestampTzGetDatum(now);

	sql_run(PLAN_PURGE_REPORTS, &reports_before);
	sql_run(PLAN_PURGE_OTP, &otp_before);
	sql_run(PLAN_PURGE_USAGE, &usage_before);
}
