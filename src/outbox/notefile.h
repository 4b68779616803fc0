/*
 * notefile.h
 *		The file of the note of starts: a header and slots, mapped.
 */
#ifndef SMS_NOTEFILE_H
#define SMS_NOTEFILE_H

#include "postgres.h"

#include "pgstat.h"

#define NOTEFILE_DIR         PG_STAT_TMP_DIR
#define NOTEFILE_HEADER_SIZE 4096
#define NOTEFILE_SLOT_SIZE   1280
#define NOTEFILE_MOST_SLOTS  16384

typedef struct NoteFile
{
	int fd;
	char *map;  /* NULL: there is no file */
	int nslots; /* so many may be touched */
} NoteFile;

/* The slot of a number, below nslots; and the number of a slot. */
static inline void *
notefile_slot(const NoteFile *file, int i)
{
	return file->map + NOTEFILE_HEADER_SIZE + (size_t) i * NOTEFILE_SLOT_SIZE;
}

static inline int
notefile_number(const NoteFile *file, const void *slot)
{
	return (int) (((const char *) slot - file->map - NOTEFILE_HEADER_SIZE) / NOTEFILE_SLOT_SIZE);
}

extern bool notefile_take(NoteFile *file);
extern bool notefile_make(NoteFile *file);
extern int notefile_grow(NoteFile *file);
extern void notefile_close(NoteFile *file);
extern void notefile_remove(void);
extern void notefile_remove_stale(void);

#endif /* SMS_NOTEFILE_H */
