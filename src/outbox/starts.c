/*
 * starts.c
 *		The note of starts: which of the claimed messages were started, and what came back.
 *
 * A lease (lease.c) says which messages were claimed; after a crash each of them might have gone.  The note
 * says more: each claimed message has a slot in it before the lease is committed, a byte of the slot is set
 * before the first byte of the request leaves, and the answer is put there as soon as it is read.  So
 * what is in doubt after a crash is what had started and was not answered.
 *
 * It is a file that the engine has mapped: a mark costs some nanoseconds and no system call, and what is
 * stored stays in the kernel's page cache, whichever process dies, be it the postmaster.  Shared memory of
 * PostgreSQL would not do, which is made anew after a crash; nor a table, where a mark is WAL and a flush.
 * Nothing is ever synced: a note tells of processes that died, not of a machine that did.  Where it does not
 * hold (notefile.c) it says nothing, and all that was claimed counts as possibly started.  Only the engine of a
 * database, of which there is one at a time, touches it.
 */
#include "postgres.h"

#include "base/clock.h"
#include "outbox/notefile.h"
#include "outbox/starts.h"
#include "port/atomics.h"
#include "port/pg_crc32c.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define RETRY 60000.0 /* ms until a file that could not be made, or grow, is tried again */

/* Values of a slot's bytes that no damage brings about easily. */
#define NOT_STARTED 0x5A
#define ANSWERED    0xA5

/* A message in the note, known by its id and when its lease was taken. */
typedef struct SlotKey
{
	int64 id;
	TimestampTz claimed_at;
} SlotKey;

typedef struct StartSlot
{
	SlotKey key;
	pg_crc32c key_crc;              /* written last: until it is right there is nothing in the slot */
	volatile unsigned char started; /* NOT_STARTED, or anything else */
	volatile unsigned char answered;
	pg_crc32c answer_crc;
	/* what answer_crc is of, as far as there are texts: no more of the slot is touched */
	struct
	{
		TimestampTz answered_at;
		Verdict verdict;
		int http_status;
		int size;                   /* of all texts */
		char texts[sizeof(Answer)]; /* those of an Answer, each with its NUL */
	} answer;
} StartSlot;

StaticAssertDecl(sizeof(StartSlot) <= NOTEFILE_SLOT_SIZE, "a slot has room");

struct Starts
{
	MemoryContext context;
	NoteFile file;
	int *spare; /* slots that are free; a message for which there is none may have been started */
	int nspare;
	HTAB *old;       /* of another engine: its messages' slots; NULL: none */
	double retry_at; /* not before that is the file made, or made longer */
	bool warned;
};

#define ANSWER_TEXT(field)                                                                                   \
	{                                                                                                        \
		offsetof(Answer, field), sizeof(((Answer *) NULL)->field)                                            \
	}

/* The texts of an Answer, in the order of a slot. */
static const struct
{
	size_t offset;
	size_t size;
} answer_texts[] = {
	ANSWER_TEXT(code),         ANSWER_TEXT(message),     ANSWER_TEXT(smsid),
	ANSWER_TEXT(id_omni_mess), ANSWER_TEXT(referent_id), ANSWER_TEXT(token),
};

typedef struct OldSlot
{
	SlotKey key;
	int slot; /* -1: there are several */
} OldSlot;

static StartSlot *
slot_at(const Starts *starts, int i)
{
	return notefile_slot(&starts->file, i);
}

/* There is no note, or not for all: says so, once, with errno. */
static void
warn(Starts *starts)
{
	starts->retry_at = now_ms() + RETRY;
	if (starts->warned)
		return;
	starts->warned = true;
	ereport(WARNING, (errcode_for_file_access(),
					  errmsg("could not keep a note in %s of which messages are started: %m", NOTEFILE_DIR),
					  errdetail("After a crash, messages that were only claimed are in doubt as well.")));
}

/* ------------------------------------------------------------------------
 * What another engine has left
 * ------------------------------------------------------------------------ */

static pg_crc32c
crc_of(const void *data, size_t size)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, size);
	FIN_CRC32C(crc);
	return crc;
}

/* Finds the messages that the note is of, and the slots that are free. */
static void
read_old(Starts *starts)
{
	HASHCTL info = {.keysize = sizeof(SlotKey), .entrysize = sizeof(OldSlot), .hcxt = starts->context};

	starts->old =
		hash_create("sms_gateway starts", starts->file.nslots, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = starts->file.nslots - 1; i >= 0; i--)
	{
		const StartSlot *slot = slot_at(starts, i);
		OldSlot *old;
		bool found;

		if (crc_of(&slot->key, sizeof(slot->key)) != slot->key_crc)
		{
			starts->spare[starts->nspare++] = i;
			continue;
		}
		old = hash_search(starts->old, &slot->key, HASH_ENTER, &found);
		old->slot = found ? -1 : i;
	}
}

/* The slot of a message that another engine claimed; NULL if there is none. */
static const StartSlot *
find_old(const Starts *starts, int64 id, TimestampTz claimed_at)
{
	SlotKey key = {id, claimed_at};
	const OldSlot *old = starts->old != NULL ? hash_search(starts->old, &key, HASH_FIND, NULL) : NULL;

	return old != NULL && old->slot >= 0 ? slot_at(starts, old->slot) : NULL;
}

static pg_crc32c
crc_of_answer(const StartSlot *slot)
{
	return crc_of(&slot->answer, offsetof(StartSlot, answer.texts) - offsetof(StartSlot, answer) +
									 (size_t) slot->answer.size);
}

/* Has this slot an answer, and a whole one? */
static bool
has_answer(const StartSlot *slot)
{
	return slot->answered == ANSWERED && slot->answer.size >= 0 &&
		   slot->answer.size <= (int) sizeof(slot->answer.texts) && crc_of_answer(slot) == slot->answer_crc;
}

/* Says what the note knows of a message that another engine had claimed at a time; until starts_forget(). */
StartState
starts_find(const Starts *starts, int64 id, TimestampTz claimed_at)
{
	const StartSlot *slot = find_old(starts, id, claimed_at);

	if (slot == NULL)
		return START_UNKNOWN;
	if (has_answer(slot))
		return START_ANSWERED;
	return slot->started == NOT_STARTED ? START_NOT_YET : START_BEGAN;
}

/* Fills in the answer, an empty one, of a message that is START_ANSWERED; returns when it came. */
TimestampTz
starts_read_answer(const Starts *starts, int64 id, TimestampTz claimed_at, Answer *answer)
{
	const StartSlot *slot = find_old(starts, id, claimed_at);
	const char *text = slot->answer.texts;

	answer->verdict = slot->answer.verdict;
	answer->http_status = slot->answer.http_status;
	for (int i = 0; i < (int) lengthof(answer_texts); i++)
	{
		strlcpy((char *) answer + answer_texts[i].offset, text, answer_texts[i].size);
		text += strlen(text) + 1;
	}
	return slot->answer.answered_at;
}

/* Takes what is in a slot out of the note. */
static void
free_slot(Starts *starts, int i)
{
	slot_at(starts, i)->key_crc = ~slot_at(starts, i)->key_crc;
	starts->spare[starts->nspare++] = i;
}

/*
 * Forgets what another engine has left, but, with keep_answers, those answers: then a next engine knows them
 * as well.  Called when all that is forgotten is settled for certain.
 */
void
starts_forget(Starts *starts, bool keep_answers)
{
	HASH_SEQ_STATUS status;
	OldSlot *old;

	if (starts->old == NULL)
		return;
	hash_seq_init(&status, starts->old);
	while ((old = hash_seq_search(&status)) != NULL)
	{
		SlotKey key = old->key;
		int slot = old->slot;

		if (keep_answers && slot >= 0 && has_answer(slot_at(starts, slot)))
			continue;
		hash_search(starts->old, &key, HASH_REMOVE, NULL);
		if (slot >= 0)
			free_slot(starts, slot);
	}
	if (keep_answers)
		return;
	hash_destroy(starts->old);
	starts->old = NULL;
}

/* ------------------------------------------------------------------------
 * What this engine does
 * ------------------------------------------------------------------------ */

/* The last slots of the file, so many, are new, and free. */
static void
add_slots(Starts *starts, int n)
{
	for (int i = starts->file.nslots - 1; n > 0; i--, n--)
		starts->spare[starts->nspare++] = i;
}

/* Makes the file, if it is not there yet; false if there is no note. */
static bool
have_file(Starts *starts)
{
	if (starts->file.map != NULL)
		return true;
	if (now_ms() < starts->retry_at)
		return false;
	if (!notefile_make(&starts->file))
	{
		warn(starts);
		return false;
	}
	add_slots(starts, starts->file.nslots);
	return true;
}

/*
 * Inside a transaction, by the engine that holds engine_lock(): opens the note of this database, and reads what
 * another engine has left in it.  The note lives in "context", until starts_close().  Where there can be
 * none that is one WARNING; it is tried again from time to time.
 */
Starts *
starts_open(MemoryContext context)
{
	Starts *starts = MemoryContextAllocZero(context, sizeof(Starts));

	starts->context = context;
	starts->spare = MemoryContextAlloc(context, NOTEFILE_MOST_SLOTS * sizeof(int));
	notefile_remove_stale();
	if (!notefile_take(&starts->file))
		return starts;
	/* Nobody has the file yet who would close it. */
	PG_TRY();
	{
		read_old(starts);
	}
	PG_CATCH();
	{
		notefile_close(&starts->file);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return starts;
}

/* Ends the use of the note, which stays: what is in it is for the next engine. */
void
starts_close(Starts *starts)
{
	if (starts != NULL)
		notefile_close(&starts->file);
}

/* Has the file grow; false if it cannot. */
static bool
grow(Starts *starts)
{
	int more;

	if (starts->file.nslots == NOTEFILE_MOST_SLOTS || now_ms() < starts->retry_at)
		return false;
	more = notefile_grow(&starts->file);
	if (more == 0)
		warn(starts);
	add_slots(starts, more);
	return more > 0;
}

/* Puts a message into a free slot; what is read before all of it is there has a wrong checksum. */
static void
fill_slot(StartSlot *slot, int64 id, TimestampTz claimed_at)
{
	slot->started = NOT_STARTED;
	slot->answered = 0;
	slot->key = (SlotKey){id, claimed_at};
	pg_write_barrier();
	slot->key_crc = crc_of(&slot->key, sizeof(slot->key));
}

/*
 * Before their lease is committed: takes these messages, OutboxItems, into the note, as not started.  Those for
 * which there is no room have no slot, and nothing is known of them after a crash.  Each is given back
 * by starts_release().
 */
void
starts_cover(Starts *starts, List *items, TimestampTz claimed_at)
{
	ListCell *lc;

	if (!have_file(starts))
		return;
	foreach (lc, items)
	{
		OutboxItem *item = lfirst(lc);

		if (starts->nspare == 0 && !grow(starts))
			return;
		item->start = slot_at(starts, starts->spare[--starts->nspare]);
		fill_slot(item->start, item->row.id, claimed_at);
	}
}

/* What is to be set, to any value that is not NOT_STARTED, before the first byte of a message leaves; or NULL. */
volatile unsigned char *
starts_flag(const OutboxItem *item)
{
	return item->start != NULL ? &item->start->started : NULL;
}

/* Notes a message's answer, as it is from now on. */
void
starts_answered(const OutboxItem *item)
{
	StartSlot *slot = item->start;
	char *end;

	if (slot == NULL)
		return;
	slot->answer.answered_at = GetCurrentTimestamp();
	slot->answer.verdict = item->answer->verdict;
	slot->answer.http_status = item->answer->http_status;
	end = slot->answer.texts;
	for (int i = 0; i < (int) lengthof(answer_texts); i++)
		end = stpcpy(end, (const char *) item->answer + answer_texts[i].offset) + 1;
	slot->answer.size = (int) (end - slot->answer.texts);
	slot->answer_crc = crc_of_answer(slot);
	pg_write_barrier();
	slot->answered = ANSWERED;
}

/* A message was not taken, for certain, and is to be started again without another claim. */
void
starts_again(const OutboxItem *item)
{
	if (item->start == NULL)
		return;
	item->start->started = NOT_STARTED;
	pg_write_barrier();
	item->start->answered = 0;
}

/* After commit of a message's outcome, or when its claim has failed: nothing is to be known of it any more. */
void
starts_release(Starts *starts, OutboxItem *item)
{
	if (item->start == NULL)
		return;
	free_slot(starts, notefile_number(&starts->file, item->start));
	item->start = NULL;
}
