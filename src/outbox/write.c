/*
 * write.c
 *		What is known of messages is written onto their rows, many at once.
 */
#include "postgres.h"

#include "base/clock.h"
#include "base/encoding.h"
#include "catalog/pg_type.h"
#include "outbox/firing.h"
#include "outbox/write.h"
#include "provider/table.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define WRITE_MAX_COLUMNS 16
#define ALONE_TIME        50.0    /* ms that rows may be written one by one, in one round */
#define HELD_FIRST        250.0   /* ms until a row that somebody holds is tried again … */
#define HELD_MAX          5000.0  /* … doubling up to this */
#define PATIENCE          60000.0 /* ms that a trigger which has met a lock is tried again */
#define GROUPS_TIME       250.0   /* ms within which groups are begun, in one round */

PG_FUNCTION_INFO_V1(sms_gateway_redacts);

/* A writing under way. */
typedef struct Writer
{
	const Writing *writing;
	dlist_head *rows;
	SqlRows *offer;
	MemoryContext values; /* of values that are added to the offer */
	TriggerMode mode;
	double now;
} Writer;

/* Rows of one creator, or all, that are written now. */
typedef struct Group
{
	Oid creator;
	RowWrite **rows;
	int n;
} Group;

/* In two statements: of these messages, those that nobody else holds, and those that there are. */
static Statement write_lock_free = {
	.sql = "SELECT o.id FROM @sms_outbox o WHERE o.id = ANY ($1) ORDER BY o.id FOR NO KEY UPDATE SKIP LOCKED",
	.args = {INT8ARRAYOID},
};

static Statement write_find_all = {
	.sql = "SELECT o.id FROM @sms_outbox o WHERE o.id = ANY ($1) ORDER BY o.id",
	.args = {INT8ARRAYOID},
};
enum
{
	WRITE_ID,
};

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

/* Has the statement read rows. */
static void
offer_rows(Writer *writer, RowWrite **rows, int n)
{
	sql_rows_clear(writer->offer);
	for (int i = 0; i < n; i++)
		offer_row(writer, rows[i]);
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

/* The rows of one creator, or all (NULL), that are to be written now. */
static void
collect_group(const Writer *writer, const Oid *creator, Group *group)
{
	dlist_iter iter;
	int size = 0;

	dlist_foreach (iter, writer->rows)
		size++;
	group->rows = palloc(sizeof(RowWrite *) * (size + 1));
	group->n = 0;
	dlist_foreach (iter, writer->rows)
	{
		RowWrite *row = dlist_container(RowWrite, node, iter.cur);

		if (!row->unchanged && row->again_at <= writer->now && (creator == NULL || row->role == *creator))
			group->rows[group->n++] = row;
	}
}

/* A row could not be written: it is tried again, after longer and longer. */
static void
set_aside(const Writer *writer, RowWrite *row, double first, double longest)
{
	double now = now_ms();

	if (row->trouble_since == 0)
		row->trouble_since = writer->now;
	row->again_at = now + Min(first * (1 << Min(row->tries, 16)), longest);
	row->tries++;
}

/* The ids that a statement returns for those of rows, in order. */
static int64 *
find_ids(Statement *statement, RowWrite **rows, int n, int *nfound)
{
	Datum *ids = palloc(sizeof(Datum) * (n + 1));
	Datum array;
	int64 *found;

	for (int i = 0; i < n; i++)
		ids[i] = Int64GetDatum(rows[i]->id);
	array = sql_id_array(ids, n);
	*nfound = (int) sql_run(statement, &array);
	found = palloc(sizeof(int64) * (*nfound + 1));
	for (int i = 0; i < *nfound; i++)
		found[i] = sql_int64(i, WRITE_ID);
	sql_done();
	return found;
}

static int
compare_ids(const void *a, const void *b)
{
	int64 x = *(const int64 *) a;
	int64 y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

static bool
is_among(int64 id, const int64 *ids, int n)
{
	return bsearch(&id, ids, n, sizeof(int64), compare_ids) != NULL;
}

/*
 * Locks rows that nobody else holds, and keeps only those; the others are set aside, all at once, so that
 * none of them is waited for.  A row that is no more needs no writing.
 */
static int
keep_free(const Writer *writer, RowWrite **rows, int n)
{
	int nfree;
	int nall;
	int64 *free_ids = find_ids(&write_lock_free, rows, n, &nfree);
	int64 *all_ids;
	int kept = 0;

	if (nfree == n)
		return n;
	all_ids = find_ids(&write_find_all, rows, n, &nall);
	for (int i = 0; i < n; i++)
	{
		if (is_among(rows[i]->id, free_ids, nfree))
			rows[kept++] = rows[i];
		else if (is_among(rows[i]->id, all_ids, nall))
			set_aside(writer, rows[i], HELD_FIRST, HELD_MAX);
		else
			rows[i]->recorded = true;
	}
	return kept;
}

static Fired
try_alone(Writer *writer, const Change *change, RowWrite *row)
{
	bool patient = !row->once && (row->trouble_since == 0 || writer->now < row->trouble_since + PATIENCE);

	offer_rows(writer, &row, 1);
	return firing_try_alone(change, row->id, writer->mode, row->role, patient);
}

/* Writes one row by itself. */
static void
write_alone(Writer *writer, const Change *change, RowWrite *row)
{
	Fired fired = try_alone(writer, change, row);

	if (fired == FIRED_CLASH && writer->writing->clash != NULL)
	{
		writer->writing->clash(row);
		fired = try_alone(writer, change, row);
	}
	row->recorded = fired == FIRED_OK;
	if (fired == FIRED_HELD || fired == FIRED_LATER)
		set_aside(writer, row, HELD_FIRST, HELD_MAX);
	else if (fired != FIRED_OK)
		set_aside(writer, row, 1000, PATIENCE);
}

/* It was not this row's turn: it is alone when it comes, as the group it was in failed. */
static void
put_off(RowWrite *row)
{
	row->tries = Max(row->tries, 1);
	row->again_at = now_ms() + 1;
}

/* Writes rows one by one, for so long; the rest is for the next round. */
static void
write_each(Writer *writer, const Change *change, RowWrite **rows, int n)
{
	double end = now_ms() + ALONE_TIME;

	for (int i = 0; i < n; i++)
	{
		if (i == 0 || now_ms() < end)
			write_alone(writer, change, rows[i]);
		else
			put_off(rows[i]);
	}
}

/* Writes rows of one creator, or all, together; false if that failed. */
static bool
write_together(Writer *writer, const Change *change, const Group *group, RowWrite **rows, int n)
{
	offer_rows(writer, rows, n);
	if (!firing_try_together(change, writer->mode, group->creator))
		return false;
	for (int i = 0; i < n; i++)
		rows[i]->recorded = true;
	return true;
}

/* Puts rows that have been tried before behind the others; returns how many those are. */
static int
fresh_first(Group *group)
{
	int fresh = 0;

	for (int i = 0; i < group->n; i++)
	{
		RowWrite *row = group->rows[i];

		if (row->tries > 0)
			continue;
		group->rows[i] = group->rows[fresh];
		group->rows[fresh++] = row;
	}
	return fresh;
}

/*
 * Writes a group: first, together, what has not been tried before.  If that fails, without those that somebody
 * holds; and if it fails still, one by one, as do those whose triggers have failed before.
 */
static void
write_group(Writer *writer, Group *group)
{
	Change change = {.statement = writer->writing->statement, .rows = writer->offer};
	int fresh = fresh_first(group);
	int n = fresh;
	RowWrite **tried = group->rows + fresh;
	int ntried = group->n - fresh;

	if (n > 0 && !write_together(writer, &change, group, group->rows, n))
	{
		n = keep_free(writer, group->rows, n);
		if (n > 0 && (n == fresh || !write_together(writer, &change, group, group->rows, n)))
			write_each(writer, &change, group->rows, n);
	}
	if (ntried > 0)
		write_each(writer, &change, tried, keep_free(writer, tried, ntried));
}

/*
 * Writes rows, and marks those that were written; an unchanged one counts as such.  Where triggers run as
 * the creator, each creator's are written together.  A row that somebody holds, or whose trigger
 * fails, costs itself alone: it is set aside, with the time when it is to be tried again.
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
		.now = now_ms(),
	};
	List *creators = writer.mode == TRIGGERS_AS_CREATOR ? creators_of(rows) : list_make1_oid(InvalidOid);
	Group group;
	dlist_iter iter;
	ListCell *lc;

	Assert(writing->ncolumns <= WRITE_MAX_COLUMNS);
	dlist_foreach (iter, rows)
	{
		RowWrite *row = dlist_container(RowWrite, node, iter.cur);

		row->recorded = row->unchanged;
	}
	if (writing->before != NULL)
	{
		collect_group(&writer, NULL, &group);
		offer_rows(&writer, group.rows, group.n);
		writing->before();
	}
	foreach (lc, creators)
	{
		group.creator = lfirst_oid(lc);
		if (now_ms() > writer.now + GROUPS_TIME)
			break; /* the others' turn is next */
		collect_group(&writer, writer.mode == TRIGGERS_AS_CREATOR ? &group.creator : NULL, &group);
		write_group(&writer, &group);
	}
	MemoryContextDelete(writer.values);
	sql_rows_withdraw(writer.offer);
}
