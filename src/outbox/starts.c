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
 * Nothing is ever synced: a note tells of processes that died, not of a machine that did.  So it holds only if
 * its header is, byte for byte, what this server would write now: the same boot of the machine, cluster,
 * timeline and database, and the very same file, by device and inode, which a copy of the data directory
 * does not have.  Otherwise the note says nothing, and all that was claimed counts as possibly started.
 *
 * The file is in pg_stat_tmp, which is there for files of extensions that no base backup or pg_rewind is to
 * take along, and which may be a memory file system.  Only the engine of a database, of which there is one
 * at a time, touches it.
 *
 * A store into a mapped file has no way to fail but SIGBUS.  So space is allocated before anything is
 * mapped, and only file systems are trusted on which that is enough: those that write in place.
 */
#include "postgres.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "access/xlog.h"
#include "base/clock.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "outbox/starts.h"
#include "pgstat.h"
#include "port/atomics.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

#define MAGIC         "smsnote1"
#define FILE_NAME     PG_STAT_TMP_DIR "/sms_gateway.%u.starts" /* of the database's oid */
#define HEADER_SIZE   4096
#define SLOT_SIZE     1280
#define SLOTS_AT_ONCE 256     /* that the file grows by */
#define MOST_SLOTS    16384   /* a message beyond them has none, and may have been started */
#define RETRY         60000.0 /* ms until a file that could not be made, or grow, is tried again */

/* Values of a slot's bytes that no damage brings about easily. */
#define NOT_STARTED 0x5A
#define ANSWERED    0xA5

typedef struct Header
{
	char magic[8];
	char boot[40]; /* which boot of the machine: /proc/sys/kernel/random/boot_id */
	uint64 system_identifier;
	uint64 device;
	uint64 inode;
	uint32 timeline;
	uint32 database;
	uint32 slot_size;
} Header;

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

StaticAssertDecl(sizeof(StartSlot) <= SLOT_SIZE, "a slot has room");
StaticAssertDecl(sizeof(Header) <= HEADER_SIZE, "the header has room");

struct Starts
{
	MemoryContext context;
	int fd;
	char *map; /* MAP_FAILED: there is no note */
	int nslots;
	int *spare; /* slots that are free */
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

/* ------------------------------------------------------------------------
 * The file
 * ------------------------------------------------------------------------ */

static size_t
size_of(int nslots)
{
	return HEADER_SIZE + (size_t) nslots * SLOT_SIZE;
}

static StartSlot *
slot_at(const Starts *starts, int i)
{
	return (StartSlot *) (starts->map + size_of(i));
}

/* The path of a database's note, in a buffer of MAXPGPATH. */
static void
make_path(char *path, Oid database)
{
	snprintf(path, MAXPGPATH, FILE_NAME, database);
}

/* Reads which boot of the machine this is; false, and errno, if it does not tell. */
static bool
read_boot(char *boot, size_t size)
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, boot, size - 1) : -1;

	if (fd >= 0)
		close(fd);
	if (n == 0)
		errno = ENODATA;
	return n > 0;
}

/* Fills in what the header of an open file has to be; false, and errno, if that cannot be known. */
static bool
make_header(int fd, Header *header)
{
	struct stat file;

	memset(header, 0, sizeof(*header));
	if (fstat(fd, &file) < 0 || !read_boot(header->boot, sizeof(header->boot)))
		return false;
	memcpy(header->magic, MAGIC, sizeof(header->magic));
	header->system_identifier = GetSystemIdentifier();
	header->device = file.st_dev;
	header->inode = file.st_ino;
	header->timeline = GetWALInsertionTimeLine();
	header->database = MyDatabaseId;
	header->slot_size = SLOT_SIZE;
	return true;
}

/* Can no store into allocated space of this file fail?  On one that copies on write it needs new space. */
static bool
stores_in_place(int fd)
{
	struct statfs system;

	if (fstatfs(fd, &system) < 0)
		return false;
	switch ((uint32) system.f_type)
	{
		case EXT4_SUPER_MAGIC: /* and 2 and 3 */
		case XFS_SUPER_MAGIC:
		case TMPFS_MAGIC:
		case OVERLAYFS_SUPER_MAGIC: /* over one of these, as containers have it */
			return true;
		default:
			errno = EOPNOTSUPP;
			return false;
	}
}

/* Allocates all space for so many slots; false, and errno, if there is too little. */
static bool
allocate(int fd, int nslots)
{
	int error;

	do
		error = posix_fallocate(fd, 0, size_of(nslots));
	while (error == EINTR);
	errno = error;
	return error == 0;
}

/* Maps the file, far beyond its end, so that it can grow in place. */
static bool
map_file(Starts *starts, int fd, int nslots)
{
	starts->map = mmap(NULL, size_of(MOST_SLOTS), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (starts->map == MAP_FAILED)
		return false;
	starts->fd = fd;
	starts->nslots = nslots;
	ReserveExternalFD();
	return true;
}

/* Closes a file that is not to be used. */
static void
drop_file(int fd)
{
	int save_errno = errno;

	close(fd);
	errno = save_errno;
}

/* Takes over a note that another engine has left, if it holds. */
static bool
take_old_file(Starts *starts, const char *path)
{
	int fd = BasicOpenFile(path, O_RDWR | O_CLOEXEC | PG_BINARY);
	Header header;
	Header found;
	struct stat file;
	int nslots;

	if (fd < 0)
		return false;
	if (fstat(fd, &file) == 0 && file.st_size >= (off_t) size_of(1) && make_header(fd, &header) &&
		pread(fd, &found, sizeof(found), 0) == sizeof(found) &&
		memcmp(&found, &header, sizeof(header)) == 0 && stores_in_place(fd))
	{
		nslots = (int) Min((file.st_size - HEADER_SIZE) / SLOT_SIZE, MOST_SLOTS);
		if (allocate(fd, nslots) && map_file(starts, fd, nslots))
			return true;
	}
	close(fd);
	return false;
}

/* Makes a new note, with the server's mode of files; false, and errno, if that is not possible. */
static bool
make_file(Starts *starts, const char *path)
{
	Header header;
	int fd;

	if (unlink(path) < 0 && errno != ENOENT)
		return false;
	fd = BasicOpenFile(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | PG_BINARY);
	if (fd < 0)
		return false;
	if (!stores_in_place(fd) || !make_header(fd, &header) || !allocate(fd, SLOTS_AT_ONCE) ||
		!map_file(starts, fd, SLOTS_AT_ONCE))
	{
		drop_file(fd);
		return false;
	}
	memcpy(starts->map, &header, sizeof(header));
	return true;
}

/* There is no note, or not for all: says so, once, with errno. */
static void
warn(Starts *starts)
{
	starts->retry_at = now_ms() + RETRY;
	if (starts->warned)
		return;
	starts->warned = true;
	ereport(WARNING,
			(errcode_for_file_access(),
			 errmsg("could not keep a note in %s of which messages are started: %m", PG_STAT_TMP_DIR),
			 errdetail("After a crash, messages that were only claimed are in doubt as well.")));
}

/* Removes the notes of databases that are no more. */
static void
remove_stale(void)
{
	DIR *dir = AllocateDir(PG_STAT_TMP_DIR);
	struct dirent *entry;

	if (dir == NULL)
		return;
	while ((entry = ReadDirExtended(dir, PG_STAT_TMP_DIR, LOG)) != NULL)
	{
		char path[MAXPGPATH];
		Oid database;

		if (sscanf(entry->d_name, "sms_gateway.%u.starts", &database) != 1 ||
			SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database)))
			continue;
		make_path(path, database);
		unlink(path);
	}
	FreeDir(dir);
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
		hash_create("sms_gateway starts", starts->nslots, &info, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = starts->nslots - 1; i >= 0; i--)
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

/* Makes the file, if it is not there yet; false if there is no note. */
static bool
have_file(Starts *starts)
{
	char path[MAXPGPATH];

	if (starts->map != MAP_FAILED)
		return true;
	if (now_ms() < starts->retry_at)
		return false;
	make_path(path, MyDatabaseId);
	if (!make_file(starts, path))
	{
		warn(starts);
		return false;
	}
	for (int i = SLOTS_AT_ONCE - 1; i >= 0; i--)
		starts->spare[starts->nspare++] = i;
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
	char path[MAXPGPATH];

	starts->context = context;
	starts->map = MAP_FAILED;
	starts->spare = MemoryContextAlloc(context, MOST_SLOTS * sizeof(int));
	make_path(path, MyDatabaseId);
	if (take_old_file(starts, path))
		read_old(starts);
	remove_stale();
	return starts;
}

/* Ends the use of the note, which stays: what is in it is for the next engine. */
void
starts_close(Starts *starts)
{
	if (starts == NULL || starts->map == MAP_FAILED)
		return;
	munmap(starts->map, size_of(MOST_SLOTS));
	close(starts->fd);
	ReleaseExternalFD();
	starts->map = MAP_FAILED;
}

/* Removes the note of this database, which has no outbox any more. */
void
starts_remove(void)
{
	char path[MAXPGPATH];

	make_path(path, MyDatabaseId);
	unlink(path);
}

/* Has the file grow; false if it cannot. */
static bool
grow(Starts *starts)
{
	int more = Min(SLOTS_AT_ONCE, MOST_SLOTS - starts->nslots);

	if (more == 0 || now_ms() < starts->retry_at)
		return false;
	if (!allocate(starts->fd, starts->nslots + more))
	{
		warn(starts);
		return false;
	}
	for (int i = starts->nslots + more - 1; i >= starts->nslots; i--)
		starts->spare[starts->nspare++] = i;
	starts->nslots += more;
	return true;
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
	free_slot(starts, (int) (((char *) item->start - starts->map - HEADER_SIZE) / SLOT_SIZE));
	item->start = NULL;
}
