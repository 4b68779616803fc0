/*
 * place.c
 *		Where this server runs, and how it came to its timeline: what tells a copy of its files from the
 *		original, beside which it may have been started.
 *
 * A copy of the files has the system identifier, the databases and the timeline of the original.  It is in another
 * place, and these are the signs:
 *
 * - The file PG_VERSION of the data directory.  initdb makes it, and nothing writes it again: so its inode lives as
 *   long as the data directory does, through restarts, reboots, renames, and moves of the disk to another machine.
 *   pg_basebackup, cp -a, tar and rsync make another one.  The time of its birth cannot be copied, and stays where
 *   inode numbers are given anew at each mount: where both times are known, they alone count.
 * - The file system, where its number is made of what is written on the disk.  Snapshots of btrfs and clones of ZFS
 *   have the inodes and times of the original, but numbers of their own.  On XFS and others it is the device's, which
 *   may change when the machine starts anew, so there it says nothing.
 * - The path of the data directory, if another one is at the path where the original was, with the same identifier:
 *   a snapshot mounted beside the original.  Where nothing is, it was renamed.
 * - /etc/machine-id: a snapshot of a disk may run on another machine.  Where it lies on overlayfs it came with a
 *   container's image and says nothing of the machine: many have the same one, and a new image another one.
 * - Citus' group of this node: a new node may be a copy of another one.  Who joins a cluster had group 0, and is no
 *   copy.
 *
 * One sign that differs is enough; one that is not known on both sides is none.  Snapshots brought back in the same
 * place on the same disk, and machines and containers cloned with all they have, show no sign.
 * sms_gateway.place is for those, and for those whose places move, as a disk that two machines share.
 *
 * A new timeline is either a standby that was promoted, which goes on where its primary ended, or a backup that was
 * restored, which may miss what the original has sent since.  Only who asks for a promotion (pg_ctl promote,
 * pg_promote()) makes PromoteIsTriggered() true; recovery that comes to the end of an archive or to a target does
 * not.  As the server forgets that at its next start, it is noted in a file.  Who promotes a server that waits at a
 * target of recovery has restored it as well; the history of timelines keeps targets.  pg_createsubscriber runs a
 * standby up to a target, and has it write for a while before it gets an identifier of its own.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "base/extension.h"
#include "base/settings.h"
#include "catalog/pg_namespace.h"
#include "common/hashfn.h"
#include "common/string.h"
#include "db/place.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* File systems, by statfs(2). */
#define OVERLAYFS 0x794c7630
#define EXT4      0xef53
#define BTRFS     0x9123683e
#define ZFS       0x2fc12fc1

#define MACHINE_ID   "/etc/machine-id"
#define MACHINE_SIZE 32 /* hexadecimal digits */
#define NOTE         "pg_stat/" EXTENSION_NAME ".promoted"

/* The hash of the machine's id, which is nobody's business; 0 if it has none of its own. */
static int64
read_machine(void)
{
	char id[MACHINE_SIZE + 1] = "";
	struct statfs filesystem;
	FILE *file;
	size_t n;

	if (statfs(MACHINE_ID, &filesystem) != 0 || filesystem.f_type == OVERLAYFS)
		return 0;
	file = AllocateFile(MACHINE_ID, "r");
	if (file == NULL)
		return 0;
	n = fread(id, 1, MACHINE_SIZE, file);
	FreeFile(file);
	if (n != MACHINE_SIZE || strspn(id, "0123456789abcdef") != MACHINE_SIZE)
		return 0; /* "uninitialized", in an image that was not started yet */
	return (int64) hash_bytes_extended((unsigned char *) id, MACHINE_SIZE, 0);
}

/* Where the data directory is, and the file that was made with it. */
static void
read_directory(Place *place)
{
	static char directory[MAXPGPATH];
	char *path = realpath(DataDir, NULL);
	struct statx status;
	struct statfs filesystem;

	/* It is written into databases of any encoding. */
	if (path != NULL && pg_is_ascii(path) && strlcpy(directory, path, sizeof(directory)) < sizeof(directory))
		place->directory = directory;
	free(path);
	if (statfs(".", &filesystem) == 0 &&
		(filesystem.f_type == EXT4 || filesystem.f_type == BTRFS || filesystem.f_type == ZFS))
		memcpy(&place->filesystem, &filesystem.f_fsid, sizeof(place->filesystem));

	if (statx(AT_FDCWD, "PG_VERSION", 0, STATX_INO | STATX_BTIME, &status) != 0)
		return;
	place->file = (int64) status.stx_ino;
	if ((status.stx_mask & STATX_BTIME) != 0 && status.stx_btime.tv_sec > 0)
		place->born = time_t_to_timestamptz(status.stx_btime.tv_sec) + status.stx_btime.tv_nsec / 1000;
}

/*
 * Citus' group of this node.  Who has locked that table, as who installs or drops Citus has, is not waited
 * for: then the group is what it was.
 */
static int32
read_citus_group(void)
{
	static int32 group = PLACE_NO_GROUP;
	Oid oid = get_relname_relid("pg_dist_local_group", PG_CATALOG_NAMESPACE);
	AttrNumber column = OidIsValid(oid) ? get_attnum(oid, "groupid") : InvalidAttrNumber;
	Relation table;
	Snapshot snapshot;
	SysScanDesc scan;
	HeapTuple tuple;

	if (column == InvalidAttrNumber)
		return group = PLACE_NO_GROUP;
	if (!ConditionalLockRelationOid(oid, AccessShareLock))
		return group;
	table = try_table_open(oid, NoLock);
	if (table == NULL)
		return group = PLACE_NO_GROUP;
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(table, InvalidOid, false, snapshot, 0, NULL);
	tuple = systable_getnext(scan);
	group = PLACE_NO_GROUP;
	if (HeapTupleIsValid(tuple))
	{
		bool isnull;
		Datum value = heap_getattr(tuple, column, RelationGetDescr(table), &isnull);

		group = isnull ? PLACE_NO_GROUP : DatumGetInt32(value);
	}
	systable_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(table, AccessShareLock);
	return group;
}

/* The part of a place that stays as it is while the server runs. */
static const Place *
fixed_part(void)
{
	static Place place;
	static bool known = false;

	if (!known)
	{
		place.machine = read_machine();
		read_directory(&place);
		known = true;
	}
	return &place;
}

/* Where this server runs; inside a transaction, and not during recovery.  The name is the setting's. */
Place
place_here(void)
{
	Place here = *fixed_part();

	here.timeline = GetWALInsertionTimeLine();
	here.name = guc_place != NULL && guc_place[0] != '\0' ? guc_place : NULL;
	here.citus_group = read_citus_group();
	return here;
}

static bool
another_file(const Place *was, const Place *is)
{
	if (was->filesystem != 0 && is->filesystem != 0 && was->filesystem != is->filesystem)
		return true;
	if (was->born != 0 && is->born != 0)
		return was->born != is->born;
	return was->file != 0 && is->file != 0 && was->file != is->file;
}

/* Is there, where the data directory was, another one with the identifier of this one? */
static bool
original_is_there(const Place *was, const Place *is)
{
	struct stat there;
	struct stat here;
	uint64 identifier = 0; /* a control file begins with it */
	FILE *file;

	if (was->directory == NULL || is->directory == NULL || strcmp(was->directory, is->directory) == 0 ||
		stat(psprintf("%s/PG_VERSION", was->directory), &there) != 0 || stat("PG_VERSION", &here) != 0 ||
		(there.st_dev == here.st_dev && there.st_ino == here.st_ino))
		return false;
	file = AllocateFile(psprintf("%s/global/pg_control", was->directory), "r");
	if (file == NULL)
		return false;
	if (fread(&identifier, sizeof(identifier), 1, file) != 1)
		identifier = 0;
	FreeFile(file);
	return identifier == GetSystemIdentifier();
}

/* Is this another node of a Citus cluster, and not one that has just joined? */
static bool
another_group(const Place *was, const Place *is)
{
	return was->citus_group > 0 && is->citus_group != PLACE_NO_GROUP && was->citus_group != is->citus_group;
}

/*
 * What tells one place from another, as a sentence, palloc'd; NULL if nothing does.  After a promotion only the Citus
 * group is compared ("was" has nothing else then).
 */
char *
place_difference(const Place *was, const Place *is)
{
	if (another_group(was, is))
		return pstrdup("This is another node of a Citus cluster.");
	if (was->name != NULL && is->name != NULL)
		return strcmp(was->name, is->name) == 0
				   ? NULL
				   : psprintf("This is place \"%s\", and the outbox belongs to place \"%s\".", is->name,
							  was->name);
	if (was->machine != 0 && is->machine != 0 && was->machine != is->machine)
		return pstrdup("This is another machine than the one that the outbox belongs to.");
	if (another_file(was, is))
		return pstrdup("The files of this server were copied, or restored.");
	if (original_is_there(was, is))
		return pstrdup("The files of this server are a snapshot of those beside it.");
	return NULL;
}

/* ------------------------------------------------------------------------
 * Promotions
 * ------------------------------------------------------------------------ */

/*
 * Did no recovery since a timeline end at a target?  By the history of the timelines, a line of which says where
 * and why one ended.
 */
static bool
came_without_target(uint32 from)
{
	char path[MAXPGPATH];
	char line[MAXPGPATH];
	FILE *file;
	bool ok = true;

	TLHistoryFilePath(path, GetWALInsertionTimeLine());
	file = AllocateFile(path, "r");
	if (file == NULL)
		return true;
	while (ok && fgets(line, sizeof(line), file) != NULL)
	{
		unsigned int timeline;

		if (sscanf(line, "%u", &timeline) == 1 && timeline >= from)
			ok = strstr(line, "\tno recovery target specified") != NULL;
	}
	FreeFile(file);
	return ok;
}

/* What the note says when it is this server that was promoted to its timeline: copies have the note, too. */
static char *
note_text(void)
{
	const Place *place = fixed_part();

	return psprintf("promoted to timeline %u: %llx %llx %lld\n", GetWALInsertionTimeLine(),
					(unsigned long long) place->machine, (unsigned long long) place->file,
					(long long) place->born);
}

static bool
is_noted(const char *text)
{
	char found[256] = "";
	FILE *file = AllocateFile(NOTE, "r");

	if (file == NULL)
		return false;
	if (fgets(found, sizeof(found), file) == NULL)
		found[0] = '\0';
	FreeFile(file);
	return strcmp(found, text) == 0;
}

/* Writes the note; where that fails, the log says so, and only this run of the server knows. */
static void
write_note(const char *text)
{
	char *path = psprintf("%s.%d", NOTE, MyProcPid);
	FILE *file = AllocateFile(path, "w");
	bool ok;

	if (file == NULL)
	{
		ereport(LOG, (errcode_for_file_access(), errmsg("could not create file \"%s\": %m", path)));
		return;
	}
	ok = fputs(text, file) >= 0;
	if ((FreeFile(file) != 0) || !ok)
		ereport(LOG, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", path)));
	else if (durable_rename(path, NOTE, LOG) == 0)
		return;
	unlink(path);
}

/* If this server is a standby that was promoted since it started, notes that for its next start. */
void
place_note_promotion(void)
{
	char *text;

	if (!PromoteIsTriggered())
		return;
	text = note_text();
	if (!is_noted(text))
		write_note(text);
}

/*
 * Is the timeline this server is on that of a standby which was promoted, and no backup that was restored, since it was
 * on another one?  Not during recovery.
 */
bool
place_was_promoted(uint32 from)
{
	if (!came_without_target(from))
		return false;
	place_note_promotion();
	return PromoteIsTriggered() || is_noted(note_text());
}
