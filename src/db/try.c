/*
 * try.c
 *		Work that may fail, and may take too long, in a subtransaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "db/limit.h"
#include "db/sql.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/*
 * Was it this process that was told to stop what it does?  An error of the same SQLSTATE that
 * somebody's code raised, as dblink passes on what it is told, is not that.
 */
static bool
is_interrupt(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_QUERY_CANCELED && error->funcname != NULL &&
		   strcmp(error->funcname, "ProcessInterrupts") == 0;
}

/* As which function an error says that work took too long. */
static const char took_too_long[] = "sql_try";

/* Is it an error of sql_try(), that work took too long? */
bool
sql_is_late(const ErrorData *error)
{
	return error->funcname == took_too_long;
}

/* Makes the error with which work was canceled one that says why. */
static void
explain_late(ErrorData *error, double limit)
{
	error->funcname = took_too_long;
	error->message = psprintf("it takes longer than %.0f ms", limit);
}

/*
 * Does some work in a subtransaction, which takes "limit" ms at most, unless that is 0.  Returns NULL if it succeeded,
 * else its error, which has undone it and is the caller's to FreeErrorData(), before the transaction ends.
 * Raises only that this process is interrupted.
 */
ErrorData *
sql_try(void (*work)(void *), void *arg, double limit)
{
	MemoryContext caller = CurrentMemoryContext;
	/* A statement that fails leaves its executor behind. */
	MemoryContext context = AllocSetContextCreate(caller, "sms_gateway statement", ALLOCSET_DEFAULT_SIZES);
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;
	TimeLimit outer;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	limit_begin(&outer, limit);
	PG_TRY();
	{
		work(arg);
		(void) limit_end(&outer);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		bool late = limit_end(&outer);

		/* A copy that is thrown again is pointed to until it is reported: no context of ours lives as long. */
		MemoryContextSwitchTo(TopTransactionContext);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (is_interrupt(error) && !late)
			ReThrowError(error);
		if (is_interrupt(error))
			explain_late(error, limit);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	CurrentResourceOwner = owner;
	return error;
}
