/*
 * clockshift.c
 *		Shifts the wall clock of a program (LD_PRELOAD) by the seconds in a file that
 *		CLOCKSHIFT_FILE names: an int64, mapped, so that a jump counts at once in all
 *		processes.  The monotonic clock stays.  It takes no lock: libfaketime does, and hangs
 *		when a signal handler asks for the time, as PostgreSQL's do.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *shift = NULL;

__attribute__((constructor)) static void
map_shift(void)
{
	const char *name = getenv("CLOCKSHIFT_FILE");
	int fd = name != NULL ? open(name, O_RDONLY | O_CLOEXEC) : -1;
	void *page = fd >= 0 ? mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (fd >= 0)
		close(fd);
	if (page != MAP_FAILED)
		shift = page;
}

int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	int result = (int) syscall(SYS_clock_gettime, clock, ts);

	if (result == 0 && shift != NULL && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		ts->tv_sec += *shift;
	return result;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec ts;
	int result = clock_gettime(CLOCK_REALTIME, &ts);

	(void) zone;
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return result;
}

time_t
time(time_t *where)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (where != NULL)
		*where = ts.tv_sec;
	return ts.tv_sec;
}
