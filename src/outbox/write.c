/*
 * write.c
 *		What is known of messages is written onto their rows, many at once.
 */
#include "postgres.h"

#include "base/encoding.h"
#include "outbox/firing.h"
#include "outbox/write.h"
#include "provider/table.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define WRITE_MAX_COLUMNS 16

PG_FUNCTION_INFO_V1(sms_gateway_redacts);

/* A writing under way. */
typedef struct Writer
{
	const Writing *writing;
	dlist_head *rows;
	SqlRows *offer;
	MemoryContext values; /* of values that are added to the offer */
	TriggerMode mode;
} Writer;

/* Internal SQL function: is the text of a message with this gateway and kind blanked when it has ended? */
Datum
sms_gateway_redacts(PG_FUNCTION_ARGS)
{
	char *kind = TextDatumGetCString(PG_GETARG_DATUM(1));

	PG_RETURN_BOOL(strcmp(kind, kind_name(CALL_OTP)) == 0 || gateway_redacts(NameStr(*PG_GETARG_NAME(0))));
}

/* A text column, from UTF-8; NULL or "" is NULL. */
void
write_text(Datum *value, bool *isnull, const char *text)
{
	*isnull = text == NULL || text[0] == '\0';
	*value = *isnull ? (Datum) 0 : CStringGetTextDatum(from_utf8(text));
}

/* A timestamptz column; 0 is NULL. */
void
write_time(Datum *value, bool *isnull, TimestampTz time)
{
	*isnull = time == 0;
	*value = TimestampTzGetDatum(time);
}

static void
offer_row(Writer *writer, const RowWrite *row)
{
	Datum values[WRITE_MAX_COLUMNS] = {0};
	bool nulls[WRITE_MAX_COLUMNS] = {false};
	MemoryContext caller = MemoryContextSwitchTo(writer->values);

	writer->writing->put(row, writer->offer->status_type, values, nulls);
	sql_rows_add(writer->offer, values, nulls);
	MemoryContextSwitchTo(caller);
}

/* Has the statement read the rows of one creator, or all (NULL); nothing of those that are unchanged. */
static void
offer_group(Writer *writer, const Oid *creator)
{
	dlist_iter iter;

	sql_rows_clear(writer->offer);
	dlist_foreach (iter, writer->rows)
	{
		const RowWrite *row = dlist_container(RowWrite, node, iter.cur);

		if (!row->unchanged && (creator == NULL || row->role == *creator))
			offer_row(writer, row);
	}
	MemoryContextReset(writer->values);
}

/* Has the statement read one row alone. */
static void
offer_one(Writer *writer, const RowWrite *row)
{
	sql_rows_clear(writer->offer);
	offer_row(writer, row);
	MemoryContextReset(writer->values);
}

/* Who queued these rows, each once. */
static List *
creators_of(dlist_head *rows)
{
	List *creators = NIL;
	dlist_iter iter;

	dlist_foreach (iter, rows)
		creators = list_append_unique_oid(creators, dlist_container(RowWrite, node, iter.cur)->role);
	return creators;
}

/* Writes rows of one creator together, or all; else one by one. */
static void
write_group(Writer *writer, Oid creator)
{
	const Oid *only = writer->mode == TRIGGERS_AS_CREATOR ? &creator : NULL;
	Change change = {.statement = writer->writing->statement, .rows = writer->offer};
	bool all;
	dlist_iter iter;

	offer_group(writer, only);
	all = firing_try_together(&change, writer->mode, creator);
	dlist_foreach (iter, writer->rows)
	{
		RowWrite *row = dlist_container(RowWrite, node, iter.cur);

		if (only != NULL && row->role != creator)
			continue;
		row->recorded = all || row->unchanged;
		if (row->recorded)
			continue;
		offer_one(writer, row);
		row->recorded = firing_try_alone(&change, row->id, writer->mode, creator);
	}
}

/*
 * Writes rows, and marks those that were written; an unchanged one counts as such.  Where triggers run as
 * the creator, each creator's are written together.  If that fails it is done one by one, so that a
 * failing trigger of the user's or a locked row stops no other.
 */
void
write_rows(const Writing *writing, dlist_head *rows)
{
	Writer writer = {
		.writing = writing,
		.rows = rows,
		.offer = sql_rows_offer(writing->name, writing->columns, writing->ncolumns),
		.values =
			AllocSetContextCreate(CurrentMemoryContext, "sms_gateway row values", ALLOCSET_DEFAULT_SIZES),
		.mode = firing_mode(),
	};
	List *creators = writer.mode == TRIGGERS_AS_CREATOR ? creators_of(rows) : list_make1_oid(InvalidOid);
	ListCell *lc;

	Assert(writing->ncolumns <= WRITE_MAX_COLUMNS);
	if (writing->before != NULL)
	{
		offer_group(&writer, NULL);
		writing->before();
	}
	foreach (lc, creators)
		write_group(&writer, lfirst_oid(lc));
	MemoryContextDelete(writer.values);
	sql_rows_withdraw(writer.offer);
}
