/*
 * notefile.c
 *		The file of the note of starts (starts.c): a header and slots, mapped.
 *
 * A store into a mapped file has no way to fail but SIGBUS.  So space is allocated before anything is
 * touched, and only file systems are trusted on which that is enough: local ones that write in place.
 *
 * The header holds only if it is, byte for byte, what this server would write now: the same boot of the
 * machine, cluster, timeline and database, and the very same file, by device and inode, which a copy of the data
 * directory does not have.
 *
 * The file is in pg_stat_tmp, which is there for files of extensions that no base backup or pg_rewind is to
 * take along, and which may be a memory file system.
 */
#include "postgres.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "access/xlog.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "outbox/notefile.h"
#include "storage/fd.h"
#include "storage/lmgr.h"
#include "utils/syscache.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

#define MAGIC         "smsnote1"
#define FILE_NAME     NOTEFILE_DIR "/sms_gateway.%u.starts" /* of the database's oid */
#define SLOTS_AT_ONCE 256                                   /* that the file grows by */

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

StaticAssertDecl(sizeof(Header) <= NOTEFILE_HEADER_SIZE, "the header has room");

static size_t
size_of(int nslots)
{
	return NOTEFILE_HEADER_SIZE + (size_t) nslots * NOTEFILE_SLOT_SIZE;
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
	header->slot_size = NOTEFILE_SLOT_SIZE;
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
map_file(NoteFile *file, int fd, int nslots)
{
	void *map = mmap(NULL, size_of(NOTEFILE_MOST_SLOTS), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (map == MAP_FAILED)
		return false;
	file->map = map;
	file->fd = fd;
	file->nslots = nslots;
	ReserveExternalFD();
	return true;
}

/* Removes a file that cannot be used, with what space it has got; keeps errno. */
static void
drop_file(int fd, const char *path)
{
	int save_errno = errno;

	unlink(path);
	close(fd);
	errno = save_errno;
}

/* Takes over the file that another engine of this database has left; false if there is none that holds. */
bool
notefile_take(NoteFile *file)
{
	char path[MAXPGPATH];
	Header header;
	Header found;
	struct stat status;
	int fd;

	make_path(path, MyDatabaseId);
	fd = BasicOpenFile(path, O_RDWR | O_CLOEXEC | PG_BINARY);
	if (fd < 0)
		return false;
	if (fstat(fd, &status) == 0 && status.st_size >= (off_t) size_of(1) && make_header(fd, &header) &&
		pread(fd, &found, sizeof(found), 0) == sizeof(found) &&
		memcmp(&found, &header, sizeof(header)) == 0 && stores_in_place(fd))
	{
		int nslots =
			(int) Min((status.st_size - NOTEFILE_HEADER_SIZE) / NOTEFILE_SLOT_SIZE, NOTEFILE_MOST_SLOTS);

		if (allocate(fd, nslots) && map_file(file, fd, nslots))
			return true;
	}
	close(fd);
	return false;
}

/* Makes a new file, with the server's mode of files; false, and errno, if that is not possible. */
bool
notefile_make(NoteFile *file)
{
	char path[MAXPGPATH];
	Header header;
	int fd;

	make_path(path, MyDatabaseId);
	if (unlink(path) < 0 && errno != ENOENT)
		return false;
	fd = BasicOpenFile(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | PG_BINARY);
	if (fd < 0)
		return false;
	if (!stores_in_place(fd) || !make_header(fd, &header) || !allocate(fd, SLOTS_AT_ONCE) ||
		!map_file(file, fd, SLOTS_AT_ONCE))
	{
		drop_file(fd, path);
		return false;
	}
	memcpy(file->map, &header, sizeof(header));
	return true;
}

/* Has the file grow, if that is possible; returns by how many slots, 0, and errno, if it is not. */
int
notefile_grow(NoteFile *file)
{
	int more = Min(SLOTS_AT_ONCE, NOTEFILE_MOST_SLOTS - file->nslots);

	if (!allocate(file->fd, file->nslots + more))
	{
		int save_errno = errno;

		/* What it has got of that is nobody's: nothing has touched it yet. */
		if (ftruncate(file->fd, size_of(file->nslots)) < 0)
			ereport(LOG, (errcode_for_file_access(), errmsg("could not shorten a note of starts: %m")));
		errno = save_errno;
		return 0;
	}
	file->nslots += more;
	return more;
}

/* Ends the use of the file, which stays; does nothing if there is none. */
void
notefile_close(NoteFile *file)
{
	if (file->map == NULL)
		return;
	munmap(file->map, size_of(NOTEFILE_MOST_SLOTS));
	close(file->fd);
	ReleaseExternalFD();
	file->map = NULL;
}

/* Removes the file of this database, if there is one. */
void
notefile_remove(void)
{
	char path[MAXPGPATH];

	make_path(path, MyDatabaseId);
	unlink(path);
}

/* In a transaction: removes the files of databases that are no more; the next engine does, if pg_database is locked. */
void
notefile_remove_stale(void)
{
	DIR *dir;
	struct dirent *entry;

	if (!ConditionalLockRelationOid(DatabaseRelationId, AccessShareLock))
		return;
	dir = AllocateDir(NOTEFILE_DIR);
	while (dir != NULL && (entry = ReadDirExtended(dir, NOTEFILE_DIR, LOG)) != NULL)
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
	UnlockRelationOid(DatabaseRelationId, AccessShareLock);
}
