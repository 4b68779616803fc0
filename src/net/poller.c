/*
 * poller.c
 *		The one place where a process waits for the network.
 *
 * Nothing can be taken out of a WaitEventSet, so the descriptors are in an epoll of
 * our own.  That epoll, the process's latch and the postmaster's death are in one
 * long-lived WaitEventSet: a wait ends at once for a signal as well as for an answer.
 */
#include "postgres.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/compat.h"
#include "net/poller.h"
#include "portability/instr_time.h"
#include "storage/fd.h"

#define EVENTS_AT_ONCE    256
#define OTHER_DESCRIPTORS 192   /* what PostgreSQL itself may open beside those that are open */
#define REST              15000 /* ms between two looks for connections that rest */
#define MOST_RESTS        2     /* looks that one may rest for */
#define FEW_DESCRIPTORS   16    /* so many are always tried */

/* What is known of a descriptor. */
typedef struct Watch
{
	bool ours;       /* from poller_open() */
	bool talkative;  /* its peer may send what nobody asked for */
	bool wanted;     /* somebody waits for it */
	bool ended;      /* was shut down, as nobody waited for it; it is not closed yet */
	int rests;       /* how many times it was found to rest, one after the other */
	uint32_t events; /* as epoll has it; 0: it has not */
} Watch;

struct NetPoller
{
	int epoll_fd;
	WaitEventSet *wait_set;
	Watch *watches; /* by descriptor; from malloc */
	int nwatches;
	int nopen;  /* from poller_open() */
	int nended; /* of them */
	instr_time rests_seen;
	instr_time timer_start;
	long timer_ms;                            /* after timer_start; -1: none */
	struct epoll_event ready[EVENTS_AT_ONCE]; /* of the last wait */
	int nready;
	int next; /* of "ready", to be handed out */
};

/* Returns a new epoll descriptor, which fd.c counts; raises 53000 when none is left, or the error of errno. */
static int
open_epoll(void)
{
	int fd;

	if (!AcquireExternalFD())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						errmsg("no file descriptor is left for HTTP requests")));
	fd = epoll_create1(EPOLL_CLOEXEC);
	if (fd < 0)
	{
		ReleaseExternalFD();
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not create an epoll descriptor: %m")));
	}
	return fd;
}

/*
 * Makes a poller; it lives as long as the process.  On an error, of memory or descriptors that are
 * out, nothing of it is left.
 */
NetPoller *
poller_create(void)
{
	NetPoller *poller = MemoryContextAllocZero(TopMemoryContext, sizeof(NetPoller));

	poller->epoll_fd = -1;
	poller->timer_ms = -1;
	PG_TRY();
	{
		poller->epoll_fd = open_epoll();
		poller->wait_set = compat_create_wait_event_set(3);
		AddWaitEventToSet(poller->wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(poller->wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		AddWaitEventToSet(poller->wait_set, WL_SOCKET_READABLE, poller->epoll_fd, NULL, NULL);
	}
	PG_CATCH();
	{
		if (poller->wait_set != NULL)
			FreeWaitEventSet(poller->wait_set);
		if (poller->epoll_fd >= 0)
		{
			close(poller->epoll_fd);
			ReleaseExternalFD();
		}
		pfree(poller);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return poller;
}

/* How many descriptors of this process are open, but for sockets of ours. */
static int
count_others(const NetPoller *poller)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = -3; /* two of them are no descriptors, and one is of this look */

	if (dir == NULL)
		return 64;
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n - poller->nopen;
}

/*
 * Makes room for so many descriptors: raises this process's soft limit if it may.  Returns how many
 * fit under the limit, beside those that PostgreSQL has and may yet open (with io_uring, a process has
 * hundreds from the start).
 */
int
poller_reserve(NetPoller *poller, int descriptors)
{
	struct rlimit limit;
	rlim_t others = (rlim_t) count_others(poller) + OTHER_DESCRIPTORS;
	rlim_t wanted = (rlim_t) descriptors + others;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return descriptors;
	if (limit.rlim_cur < wanted)
	{
		limit.rlim_cur = limit.rlim_max == RLIM_INFINITY ? wanted : Min(wanted, limit.rlim_max);
		setrlimit(RLIMIT_NOFILE, &limit);
		getrlimit(RLIMIT_NOFILE, &limit);
	}
	if (limit.rlim_cur >= wanted)
		return descriptors;
	if (limit.rlim_cur > others + FEW_DESCRIPTORS)
		return (int) (limit.rlim_cur - others);
	return Min(descriptors, FEW_DESCRIPTORS);
}

/* Is no descriptor left, of this process's or of the machine's? */
bool
poller_starved(NetPoller *poller)
{
	int fd = fcntl(poller->epoll_fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return true;
	close(fd);
	return false;
}

/* The entry of a descriptor; NULL when memory is out. */
static Watch *
watch_of(NetPoller *poller, int fd)
{
	if (fd >= poller->nwatches)
	{
		int n = Max(64, 2 * (fd + 1));
		Watch *longer = realloc(poller->watches, n * sizeof(Watch));

		if (longer == NULL)
			return NULL;
		memset(longer + poller->nwatches, 0, (n - poller->nwatches) * sizeof(Watch));
		poller->watches = longer;
		poller->nwatches = n;
	}
	return &poller->watches[fd];
}

/* Takes a descriptor out of epoll. */
static void
unwatch(NetPoller *poller, int fd)
{
	epoll_ctl(poller->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	poller->watches[fd].events = 0;
}

/*
 * Ends a connection that nobody uses, so that whoever would use it again sees at once that it is none:
 * a TLS connection with its last words unread looks alive.
 */
static void
end_idle(NetPoller *poller, int fd)
{
	char unread[4096];

	unwatch(poller, fd);
	poller->watches[fd].ended = true;
	poller->nended++;
	shutdown(fd, SHUT_RDWR);
	while (recv(fd, unread, sizeof(unread), MSG_DONTWAIT) > 0)
		;
}

/*
 * Something has become of a connection that nobody waits for.  One that its peer closes, or that says
 * something unasked (which is its end), is ended; of a talkative one only the end counts.
 */
static void
see_idle(NetPoller *poller, int fd, uint32_t events)
{
	Watch *watch = &poller->watches[fd];
	uint32_t ends = EPOLLRDHUP | EPOLLHUP | EPOLLERR | (watch->talkative ? 0 : EPOLLIN);
	struct epoll_event event = {.events = ends & ~(EPOLLHUP | EPOLLERR), .data.fd = fd};

	if (!watch->ours)
		unwatch(poller, fd);
	else if ((events & ends) || epoll_ctl(poller->epoll_fd, EPOLL_CTL_MOD, fd, &event) < 0)
		end_idle(poller, fd);
	else
		watch->events = event.events;
}

/*
 * Opens a socket, which poller_close() is to close: so its end is known for certain, and it may stay in
 * epoll while nobody waits for it.  talkative: its peer may say something while nobody waits, and goes on
 * (HTTP/2).  The other arguments are those of socket().  Returns the descriptor, or -1 and errno.
 */
int
poller_open(NetPoller *poller, int family, int type, int protocol, bool talkative)
{
	int fd = socket(family, type | SOCK_CLOEXEC, protocol);
	Watch *watch;

	if (fd < 0)
		return -1;
	watch = watch_of(poller, fd);
	if (watch == NULL)
	{
		close(fd);
		errno = ENOMEM;
		return -1;
	}
	*watch = (Watch){.ours = true, .talkative = talkative};
	poller->nopen++;
	return fd;
}

/* Closes a socket that poller_open() opened, which takes it out of epoll; returns what close() does. */
int
poller_close(NetPoller *poller, int fd)
{
	poller->nended -= poller->watches[fd].ended;
	poller->watches[fd] = (Watch){0};
	poller->nopen--;
	return close(fd);
}

/*
 * Sets for which of POLLER_IN and POLLER_OUT a descriptor is watched; 0: it is no longer.  Returns false
 * when that cannot be done.
 *
 * libcurl takes its interest in a connection back after each answer and renews it with the next
 * request.  A socket of ours stays in epoll between the two: that spares two system calls a request.
 */
bool
poller_watch(NetPoller *poller, int fd, int events)
{
	struct epoll_event event = {0};
	Watch *watch = watch_of(poller, fd);

	if (watch == NULL)
		return false;
	watch->wanted = events != 0;
	watch->rests = 0;
	if (!watch->wanted)
	{
		if (!watch->ours)
			unwatch(poller, fd);
		return true;
	}
	event.data.fd = fd;
	event.events = (events & POLLER_IN ? EPOLLIN | EPOLLRDHUP : 0) | (events & POLLER_OUT ? EPOLLOUT : 0);
	if (event.events == watch->events)
		return true;
	if (epoll_ctl(poller->epoll_fd, watch->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0)
		return false;
	watch->events = event.events;
	return true;
}

/* Sets the timer, of which there is one, to so many milliseconds from now; -1: to none. */
void
poller_set_timer(NetPoller *poller, long ms)
{
	poller->timer_ms = ms;
	INSTR_TIME_SET_CURRENT(poller->timer_start);
}

/* Milliseconds until the timer is due; -1: none is set. */
static long
timer_left(const NetPoller *poller)
{
	instr_time now;

	if (poller->timer_ms < 0)
		return -1;
	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, poller->timer_start);
	return Max(poller->timer_ms - (long) INSTR_TIME_GET_MILLISEC(now), 0);
}

/*
 * Asks epoll what is ready, without a wait.  Connections that have ended unused are gone afterwards, all
 * of them: whoever chooses one to use must find those that live.
 */
static void
look(NetPoller *poller)
{
	bool again;

	do
	{
		again = false;
		poller->nready = Max(epoll_wait(poller->epoll_fd, poller->ready, EVENTS_AT_ONCE, 0), 0);
		poller->next = 0;
		for (int i = 0; i < poller->nready; i++)
		{
			if (poller->watches[poller->ready[i].data.fd].wanted)
				continue;
			see_idle(poller, poller->ready[i].data.fd, poller->ready[i].events);
			again = poller->nready == EVENTS_AT_ONCE;
		}
	} while (again);
}

/* Milliseconds until connections are looked for that rest; -1: there are none. */
static long
rest_left(const NetPoller *poller)
{
	instr_time now;

	if (poller->nopen == poller->nended)
		return -1;
	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, poller->rests_seen);
	return Max(REST - (long) INSTR_TIME_GET_MILLISEC(now), 0);
}

/* Ends connections that have rested for long, if it is time to look for them. */
static void
end_resting(NetPoller *poller)
{
	if (rest_left(poller) != 0)
		return;
	INSTR_TIME_SET_CURRENT(poller->rests_seen);
	for (int fd = 0; fd < poller->nwatches; fd++)
	{
		Watch *watch = &poller->watches[fd];

		if (watch->ours && !watch->wanted && !watch->ended && ++watch->rests > MOST_RESTS)
			end_idle(poller, fd);
	}
}

/* Are there sockets from poller_open(), and have all of them ended? */
bool
poller_all_ended(const NetPoller *poller)
{
	return poller->nopen > 0 && poller->nopen == poller->nended;
}

/*
 * Waits until a descriptor is ready, the timer is due, the latch is set, which it leaves set, or
 * timeout_ms have passed (-1: without end).  Then poller_next() and poller_timer_due() tell which.  The
 * process ends with the postmaster.  wait_event: as for WaitLatch().
 */
void
poller_wait(NetPoller *poller, long timeout_ms, uint32 wait_event)
{
	WaitEvent events[3];
	long left;
	long rest;

	look(poller);
	end_resting(poller);
	left = timer_left(poller);
	if (poller->nready > 0 || left == 0 || timeout_ms == 0)
		return;
	if (left < 0 || (timeout_ms >= 0 && timeout_ms < left))
		left = timeout_ms;
	rest = rest_left(poller);
	if (left < 0 || (rest >= 0 && rest < left))
		left = rest;
	WaitEventSetWait(poller->wait_set, left, events, lengthof(events), wait_event);
	look(poller);
}

/*
 * Tells the next descriptor that the last wait found ready, and for what.  Returns false when there is
 * none left.  In between, descriptors may be watched, closed and so on: those that nobody waits for any
 * more are left out.
 */
bool
poller_next(NetPoller *poller, int *fd, int *events)
{
	while (poller->next < poller->nready)
	{
		const struct epoll_event *ready = &poller->ready[poller->next++];

		if (!poller->watches[ready->data.fd].wanted)
			continue;
		*fd = ready->data.fd;
		*events = (ready->events & (EPOLLIN | EPOLLRDHUP) ? POLLER_IN : 0) |
				  (ready->events & EPOLLOUT ? POLLER_OUT : 0) |
				  (ready->events & (EPOLLERR | EPOLLHUP) ? POLLER_ERR : 0);
		return true;
	}
	return false;
}

/* Is the timer due?  If so it is taken back. */
bool
poller_timer_due(NetPoller *poller)
{
	if (timer_left(poller) != 0)
		return false;
	poller->timer_ms = -1;
	return true;
}
