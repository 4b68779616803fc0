/*
 * fulldisk.c
 *		Preloaded into a server, it makes the disk full for tables and indexes as long as the file
 *		that FULLDISK_FILE names exists: files below base/ do not grow (ENOSPC).  What they
 *		have they keep, and can be written, as on a real full disk.  FULLDISK_PART names another part
 *		of the data directory than "/base/".
 */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* Would this file grow, and may it not? */
static int
refuse(int fd, off_t end)
{
	const char *flag = getenv("FULLDISK_FILE");
	const char *part = getenv("FULLDISK_PART");
	char link[64];
	char path[PATH_MAX];
	struct stat file;
	ssize_t len;

	if (flag == NULL || access(flag, F_OK) != 0 || fstat(fd, &file) != 0 || end <= file.st_size)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0)
		return 0;
	path[len] = '\0';
	return strstr(path, part != NULL ? part : "/base/") != NULL;
}

ssize_t
pwrite64(int fd, const void *data, size_t size, off_t offset)
{
	static ssize_t (*next)(int, const void *, size_t, off_t) = NULL;

	if (next == NULL)
		next = (ssize_t(*)(int, const void *, size_t, off_t)) dlsym(RTLD_NEXT, "pwrite64");
	if (refuse(fd, offset + (off_t) size))
	{
		errno = ENOSPC;
		return -1;
	}
	return next(fd, data, size, offset);
}

ssize_t
pwrite(int fd, const void *data, size_t size, off_t offset)
{
	return pwrite64(fd, data, size, offset);
}

/* PostgreSQL 16 and later. */
ssize_t
pwritev64(int fd, const struct iovec *parts, int n, off_t offset)
{
	static ssize_t (*next)(int, const struct iovec *, int, off_t) = NULL;
	off_t size = 0;

	if (next == NULL)
		next = (ssize_t(*)(int, const struct iovec *, int, off_t)) dlsym(RTLD_NEXT, "pwritev64");
	for (int i = 0; i < n; i++)
		size += (off_t) parts[i].iov_len;
	if (refuse(fd, offset + size))
	{
		errno = ENOSPC;
		return -1;
	}
	return next(fd, parts, n, offset);
}

ssize_t
pwritev(int fd, const struct iovec *parts, int n, off_t offset)
{
	return pwritev64(fd, parts, n, offset);
}

int
posix_fallocate64(int fd, off_t offset, off_t size)
{
	static int (*next)(int, off_t, off_t) = NULL;

	if (next == NULL)
		next = (int (*)(int, off_t, off_t)) dlsym(RTLD_NEXT, "posix_fallocate64");
	return refuse(fd, offset + size) ? ENOSPC : next(fd, offset, size);
}

int
posix_fallocate(int fd, off_t offset, off_t size)
{
	return posix_fallocate64(fd, offset, size);
}
