/*
 * pause.c
 *		The table of paused gateways.
 */
#include "postgres.h"

#include "db/home.h"
#include "db/sql.h"
#include "executor/spi.h"
#include "outbox/pause.h"
#include "utils/builtins.h"
#include "utils/inval.h"

/* The paused gateways, as a list of GatewayPause. */
List *
outbox_pauses(void)
{
	List *pauses = NIL;
	bool isnull;

	sql_run(PLAN_PAUSES, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		GatewayPause *pause = palloc0(sizeof(GatewayPause));

		pause->gateway = *DatumGetName(sql_column((int) i, 1, &isnull));
		pause->by_user = DatumGetBool(sql_column((int) i, 2, &isnull));
		pauses = lappend(pauses, pause);
	}
	SPI_freetuptable(SPI_tuptable);
	return pauses;
}

/* Tells engines that the table of pauses changed. */
static void
announce_pauses(void)
{
	CacheInvalidateRelcacheByRelid(home_relation("sms_gateway_state"));
}

/* Pauses a gateway; the user's pause and its reason are not replaced by the worker's. */
void
outbox_pause(const char *gateway, const char *reason, bool by_user)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), CStringGetTextDatum(reason), BoolGetDatum(by_user)};

	sql_run(PLAN_PAUSE, values);
	announce_pauses();
}

/* Ends a pause, the user's only for the user; false if there was none. */
bool
outbox_resume(const char *gateway, bool by_user)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), BoolGetDatum(by_user)};
	bool found;

	sql_run(PLAN_RESUME, values);
	found = SPI_processed > 0;
	announce_pauses();
	return found;
}
