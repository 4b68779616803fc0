/*
 * wait_event.c
 *		Names for the waits of the extension, where the server has names for them
 *		(since 17; before, all are "Extension").
 */
#include "postgres.h"

#include "base/compat.h"
#include "base/wait_event.h"

static const char *const names[] = {
	[WAIT_WORKER] = "SmsGatewayMain",
	[WAIT_LAUNCHER] = "SmsGatewayLauncher",
	[WAIT_DRAIN] = "SmsGatewayDrain",
	[WAIT_TURN] = "SmsGatewayTurn",
	[WAIT_ANSWER] = "SmsGatewayAnswer",
	[WAIT_IDLE] = "SmsGatewayWait",
	[WAIT_WORKER_EXIT] = "SmsGatewayWorkerExit",
};

/*
 * Returns what WaitLatch() and its like are to be given.  The server is asked once a process, at
 * the first wait of a kind: then it raises XX000 if extensions have used up the names it has room for.
 */
uint32
wait_event(WaitReason reason)
{
	static uint32 events[lengthof(names)];

	if (events[reason] == 0)
		events[reason] = compat_wait_event(names[reason]);
	return events[reason];
}
