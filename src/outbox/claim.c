/*
 * claim.c
 *		Claims messages.
 *
 * A message is claimed by a row in sms_gateway_lease that names its id, not by a
 * change of its own row: one insert for hundreds of messages.  A message is "on
 * its way" while its status is queued and a lease taken after it was due names it.
 * Only one engine drains a database at a time (engine.c), so whoever starts
 * draining knows that every lease it finds belongs to nobody.
 */
#include "postgres.h"

#include "base/encoding.h"
#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/sql.h"
#include "executor/spi.h"
#include "guard/mac.h"
#include "guard/otp.h"
#include "outbox/claim.h"
#include "provider/table.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define ITEM_SIZE      4096 /* bytes; a usual message and its answer fit in */
#define SPARE_CONTEXTS 512

/* Makes a bound that every lane is before: no name sorts after this. */
void
outbox_lane_end(LaneKey *end)
{
	memset(end, 0xFF, sizeof(*end));
	NameStr(end->gateway)[NAMEDATALEN - 1] = '\0';
}

/*
 * Finds the first lane with queued messages after *lane and before *end, and
 * puts it into *lane; false if there is none.
 */
bool
outbox_next_lane(LaneKey *lane, const LaneKey *end)
{
	Datum values[] = {
		NameGetDatum(&lane->gateway),
		Int16GetDatum(lane->priority),
		NameGetDatum(&end->gateway),
		Int16GetDatum(end->priority),
	};
	bool isnull;

	sql_run(PLAN_NEXT_LANE, values);
	if (SPI_processed == 0)
		return false;
	lane->gateway = *DatumGetName(sql_column(0, 1, &isnull));
	lane->priority = DatumGetInt16(sql_column(0, 2, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return true;
}

/* Writes {1,3} as "1,3"; a NULL element as nothing, which is then refused. */
char *
outbox_join_routerule(ArrayType *array)
{
	Datum *elements;
	bool *nulls;
	int n;
	StringInfoData joined;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	initStringInfo(&joined);
	for (int i = 0; i < n; i++)
		appendStringInfo(&joined, "%s%s", i > 0 ? "," : "", nulls[i] ? "" : TextDatumGetCString(elements[i]));
	return joined.data;
}

/*
 * Adds what is made for this sending alone: the token for its callback, and a
 * one-time password, of which only a hash is kept.
 */
static void
complete_item(OutboxItem *item)
{
	Prepared *prepared = &item->prepared;
	const Provider *provider = item->gateway->provider;
	const char *callback = gateway_setting(provider, prepared->settings, provider->callback_option);

	if (callback != NULL && strstr(callback, TOKEN_PLACE) != NULL)
	{
		mac_token(item->row.id, prepared->token, sizeof(prepared->token));
		prepared->message.token = prepared->token;
	}
	if (prepared->message.call == CALL_OTP && provider->otp_is_local)
	{
		prepared->message.code = otp_make(prepared->message.length, prepared->message.digits_only);
		otp_keep(item->gateway->name, prepared->phone, prepared->message.code, prepared->message.ttl);
	}
}

/* Finds what the message is to be sent with, or why it cannot be. */
static void
resolve_item(OutboxItem *item, Draft *draft, const char *created_by)
{
	Refusal refusal;
	Gateway *gateway = NULL;

	item->row.role = get_role_oid(created_by, true);
	memset(&refusal, 0, sizeof(refusal));
	if (OidIsValid(item->row.role))
		gateway = gateway_get(item->gateway_name, item->row.role, &refusal);
	else
	{
		refusal.sqlstate = ERRCODE_UNDEFINED_OBJECT;
		snprintf(refusal.message, sizeof(refusal.message), "role \"%s\" does not exist", created_by);
	}
	if (gateway != NULL && gateway_prepare(gateway, draft, &item->prepared, &refusal))
	{
		item->gateway = gateway;
		gateway_hold(gateway);
		complete_item(item);
		return;
	}
	item->refusal = palloc(sizeof(refusal));
	*item->refusal = refusal;
}

/*
 * Contexts of messages, empty, to be used again: making and freeing one for
 * each message costs more than filling it.
 */
static MemoryContext spare_contexts[SPARE_CONTEXTS];
static int nspare = 0;
static MemoryContext
take_context(MemoryContext parent)
{
	if (nspare > 0)
	{
		MemoryContext context = spare_contexts[--nspare];

		MemoryContextSetParent(context, parent);
		return context;
	}
	return AllocSetContextCreate(parent, "sms_gateway message", 0, ITEM_SIZE, ITEM_SIZE);
}

/* Gives a message back, with all that was allocated for it. */
void
outbox_free_item(OutboxItem *item)
{
	MemoryContext context = item->context;

	if (nspare == SPARE_CONTEXTS)
	{
		MemoryContextDelete(context);
		return;
	}
	MemoryContextReset(context);
	MemoryContextSetParent(context, TopMemoryContext);
	spare_contexts[nspare++] = context;
}

static OutboxItem *
read_item(int row, MemoryContext parent)
{
	MemoryContext context = take_context(parent);
	MemoryContext old = MemoryContextSwitchTo(context);
	OutboxItem *item = palloc0(sizeof(OutboxItem));
	Draft draft = {0};
	bool isnull;
	Datum datum;
	char *kind = sql_text(row, 8);

	item->context = context;
	item->row.id = DatumGetInt64(sql_column(row, 1, &isnull));
	item->priority = DatumGetInt16(sql_column(row, 2, &isnull));
	item->attempts = DatumGetInt32(sql_column(row, 3, &isnull));
	item->due = sql_time(row, 4, 0);
	item->created_at = sql_time(row, 5, 0);
	item->expires_at = sql_time(row, 6, DT_NOEND);
	item->unsure_since = sql_time(row, 7, 0);
	item->details = sql_json(row, 17);
	item->gateway_name = pstrdup(NameStr(*DatumGetName(sql_column(row, 18, &isnull))));

	if (!kind_from_name(kind, &draft.call))
		draft.call = CALL_TEXT;
	draft.phone = sql_text(row, 9);
	draft.content = sql_text(row, 10);
	draft.template_code = sql_text(row, 11);
	draft.list_param = sql_json(row, 12);
	datum = sql_column(row, 13, &isnull);
	if (!isnull)
		draft.routerule = outbox_join_routerule(DatumGetArrayTypeP(datum));
	datum = sql_column(row, 14, &isnull);
	if (!isnull)
		draft.options = (Jsonb *) PG_DETOAST_DATUM_COPY(datum);
	draft.request_id = sql_text(row, 15);
	draft.digits_only = true;
	/* An MSISDN with a plus reads the same whatever the country code is. */
	draft.phone = psprintf("+%s", draft.phone);

	resolve_item(item, &draft, NameStr(*DatumGetName(sql_column(row, 16, &isnull))));
	MemoryContextSwitchTo(old);
	return item;
}

/*
 * Locks and reads up to limit due messages of a lane, in order; the lane's
 * bounds are not moved, as the transaction may yet fail.  Each message lives in
 * a context below parent.
 */
List *
outbox_claim(Lane *lane, int limit, TimestampTz now, MemoryContext parent)
{
	Datum values[] = {
		NameGetDatum(&lane->gateway),  Int16GetDatum(lane->priority), TimestampTzGetDatum(lane->after_due),
		Int64GetDatum(lane->after_id), TimestampTzGetDatum(now),      Int64GetDatum(home_origin()),
		Int64GetDatum(limit),
	};
	List *items = NIL;

	sql_run(PLAN_CLAIM, values);
	for (uint64 i = 0; i < SPI_processed; i++)
		items = lappend(items, read_item((int) i, parent));
	SPI_freetuptable(SPI_tuptable);
	return items;
}

/* When the next message of a lane is due; DT_NOEND if none waits. */
TimestampTz
outbox_lane_due(const Lane *lane, TimestampTz now)
{
	Datum values[] = {
		NameGetDatum(&lane->gateway),
		Int16GetDatum(lane->priority),
		TimestampTzGetDatum(now),
	};

	return sql_find_time(PLAN_LANE_DUE, values);
}

/* Notes that these messages are on their way from now on. */
int64
outbox_lease_add(List *items, TimestampTz now)
{
	Datum *ids = palloc(sizeof(Datum) * list_length(items));
	Datum values[2];
	bool isnull;
	int n = 0;
	ListCell *lc;
	int64 lease;

	foreach (lc, items)
		ids[n++] = Int64GetDatum(((OutboxItem *) lfirst(lc))->row.id);
	values[0] = sql_id_array(ids, n);
	values[1] = TimestampTzGetDatum(now);
	sql_run(PLAN_LEASE_ADD, values);
	lease = DatumGetInt64(sql_column(0, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return lease;
}

/* Forgets a lease, all of whose messages are settled. */
void
outbox_lease_drop(int64 lease)
{
	Datum values[] = {Int64GetDatum(lease)};

	sql_run(PLAN_LEASE_DROP, values);
}

/* Names anew the messages of a lease, as some of them went back to the queue. */
void
outbox_lease_set(int64 lease, const Datum *ids, int n)
{
	Datum values[] = {Int64GetDatum(lease), sql_id_array(ids, n)};

	sql_run(PLAN_LEASE_SET, values);
}

/* Forgets every lease: for who drains alone, and has settled what they named. */
void
outbox_lease_clear(void)
{
	sql_run(PLAN_LEASE_CLEAR, NULL);
}

/*
 * Reads the messages that were on their way in an engine that is gone.
 */
List *
outbox_orphans(MemoryContext parent)
{
	Datum values[] = {Int64GetDatum(home_origin())};
	List *items = NIL;

	sql_run(PLAN_ORPHANS, values);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		OutboxItem *item = read_item((int) i, parent);

		item->claimed_at = sql_time((int) i, 19, 0);
		items = lappend(items, item);
	}
	SPI_freetuptable(SPI_tuptable);
	return items;
}

/*
 * Is a message of this lane due, or (PLAN_LANE_FREE) due and not locked?  Of this database's
 * own: nobody sends here what a logical subscription brought.
 */
static bool
lane_has(Statement plan, const LaneKey *lane, TimestampTz now)
{
	Datum values[] = {
		NameGetDatum(&lane->gateway),
		Int16GetDatum(lane->priority),
		TimestampTzGetDatum(now),
		Int64GetDatum(home_origin()),
	};

	sql_run(plan, values);
	return SPI_processed > 0;
}

static bool
any_on_its_way(void)
{
	sql_run(PLAN_ANY_LEASE, NULL);
	return SPI_processed > 0;
}

static bool
is_paused(const LaneKey *lane)
{
	Datum values[] = {NameGetDatum(&lane->gateway)};

	sql_run(PLAN_PAUSED, values);
	return SPI_processed > 0;
}

/*
 * Is no message due or on its way, as far as is committed?  Those of paused
 * gateways can be left out of account, and those that another transaction has
 * locked; telling the latter needs row locks of our own, which last until the
 * transaction ends.
 */
bool
outbox_idle(bool but_paused, bool but_locked)
{
	LaneKey lane = {{{0}}, PG_INT16_MIN};
	LaneKey end;
	bool idle = true;
	TimestampTz now = GetCurrentTimestamp();

	outbox_lane_end(&end);
	PushActiveSnapshot(GetLatestSnapshot());
	/* The cheap question first: the other walks over what an old snapshot keeps. */
	idle = !any_on_its_way();
	while (idle && outbox_next_lane(&lane, &end))
		idle = !lane_has(PLAN_ANY_DUE, &lane, now) || (but_paused && is_paused(&lane)) ||
			   (but_locked && !lane_has(PLAN_LANE_FREE, &lane, now));
	PopActiveSnapshot();
	return idle;
}
