/*
 * doubt.c
 *		Messages in doubt that are to be looked for in what the provider's account has sent: poll_at says when.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/sql.h"
#include "outbox/doubt.h"
#include "utils/timestamp.h"

/* There is an index for these, empty while nothing is in doubt.  To read a one-time password would make another code. */
#define IS_LOOKED_FOR                                                                                        \
	"o.gateway = $1 AND o.status = 'uncertain' AND o.poll_at IS NOT NULL AND o.kind <> 'otp'"

static Statement doubt_find_due = {
	.sql = "SELECT " ITEM_COLUMNS ", o.ended_at FROM @sms_outbox o WHERE " IS_LOOKED_FOR " "
		   "AND o.poll_at <= $2 AND o.origin = $3 ORDER BY o.poll_at, o.id LIMIT $4",
	.args = {NAMEOID, TIMESTAMPTZOID, INT8OID, INT8OID},
};

static Statement doubt_find_next = {
	.sql = "SELECT o.poll_at FROM @sms_outbox o WHERE " IS_LOOKED_FOR " AND o.origin = $2 "
		   "ORDER BY o.poll_at, o.id LIMIT 1",
	.args = {NAMEOID, INT8OID},
};

/*
 * Messages of a gateway that are due to be looked for, at most "limit", the longest due first, as a palloc'd list of
 * Doubtfuls.  Their items live below "parent".
 */
List *
doubt_due(const char *gateway, TimestampTz now, int limit, MemoryContext parent)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), TimestampTzGetDatum(now), Int64GetDatum(home_origin()),
					  Int64GetDatum(limit)};
	int64 n = sql_run(&doubt_find_due, values);
	List *found = NIL;
	List *items;

	for (int i = 0; i < n; i++)
	{
		Doubtful *doubtful = palloc0(sizeof(Doubtful));

		doubtful->given_id = sql_text(i, ITEM_REQUEST_ID);
		doubtful->ended_at = sql_time(i, ITEM_COLUMN_COUNT, 0);
		found = lappend(found, doubtful);
	}
	items = item_read_all(n, false, parent);
	for (int i = 0; i < n; i++)
	{
		Doubtful *doubtful = list_nth(found, i);

		doubtful->item = list_nth(items, i);
		if (doubtful->ended_at == 0)
			doubtful->ended_at = doubtful->item->created_at;
		doubtful->since =
			doubtful->item->unsure_since != 0 ? doubtful->item->unsure_since : doubtful->ended_at;
	}
	return found;
}

/* When the next message of a gateway is to be looked for; DT_NOEND: none. */
TimestampTz
doubt_next_due(const char *gateway)
{
	NameData name;
	Datum values[] = {name_datum(&name, gateway), Int64GetDatum(home_origin())};

	return sql_find_time(&doubt_find_next, values);
}
