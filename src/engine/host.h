/*
 * host.h
 *		Who runs the engine: a worker for good, or a session until all is drained.
 *
 * The two differ in whose transactions a round's are, in whom an error reaches, and in
 * when they end.  All else is the engine's.
 */
#ifndef SMS_ENGINE_HOST_H
#define SMS_ENGINE_HOST_H

#include "postgres.h"

#include "base/wait_event.h"

typedef struct EngineHost
{
	/* At which level is reported that the outbox is another library's, or another database's. */
	int held_level;

	/* Does the engine end when nothing is due or on its way? */
	bool ends_when_done;

	/* When it is leaving, may requests under way take as long as they have?  Else all ends within some seconds. */
	bool awaits_answers;

	/* What it waits for, as pg_stat_activity tells it. */
	WaitReason waits_as;

	/* Begins the transaction of a round, if none is open. */
	void (*begin)(void);

	/* Commits it.  Whoever worked in it, the caller is "user" with "security" again afterwards. */
	void (*commit)(Oid user, int security);

	/*
	 * NULL, or: takes an error of a transaction's work, which is a subtransaction then, and its own goes on.  It is to be
	 * raised when the engine has ended, and leaving() is true from then on.
	 */
	void (*keep)(ErrorData *error);

	/*
	 * In a PG_CATCH block: the transaction has met an error.  Throws it again; or reports it,
	 * aborts the transaction, and returns: then the round is tried again after a while.
	 */
	void (*failed)(void);

	/*
	 * In a PG_CATCH block: the commit has failed, or in a worker the transaction, and that is told already.
	 * Aborts the transaction.
	 */
	void (*commit_failed)(void);

	/* The transaction is over, one way or the other. */
	void (*ended)(void);

	/* Reads the configuration if it changed, and there is no other chance to; true if so. */
	bool (*reload)(void);

	/* Was it told to end?  Then nothing new is started, and what is under way may end … */
	bool (*leaving)(void);

	/* … within so many ms, of the last answer where those are awaited. */
	double (*leave_within)(void);

	/*
	 * Asked before each wait, and told whether the engine is idle: is this process to go because another
	 * database needs it?  If the engine is not idle, it lets what is under way come to its end first.
	 */
	bool (*yields)(bool idle);

	/* Asked only when leaving: does somebody wait for it, so that it ends at once? */
	bool (*must_hurry)(void);
} EngineHost;

#endif /* SMS_ENGINE_HOST_H */
