/*
 * compat.h
 *		Every difference between PostgreSQL 15 and 18 that this project meets: no
 *		other file asks for the server's version.
 */
#ifndef SMS_COMPAT_H
#define SMS_COMPAT_H

#include "access/heapam.h"
#include "access/heapam_xlog.h"
#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_foreign_server.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

/*
 * Stands before the declaration of a function that does not return.  18 brought it,
 * in place of an attribute that stands behind.
 */
#if PG_VERSION_NUM < 180000
#define pg_noreturn __attribute__((noreturn))
#endif

/*
 * Marks the library as one for this server.  Since 18 it says its name and version,
 * both literals, which pg_get_loaded_modules() shows.
 */
#if PG_VERSION_NUM >= 180000
#define COMPAT_MODULE_MAGIC(module, release) PG_MODULE_MAGIC_EXT(.name = module, .version = release)
#else
#define COMPAT_MODULE_MAGIC(module, release) PG_MODULE_MAGIC
#endif

/* Is there a transaction_timeout to be set?  Since 17. */
#define COMPAT_HAS_TRANSACTION_TIMEOUT (PG_VERSION_NUM >= 170000)

/*
 * Returns a set for so many events that lives as long as the process, unless it is freed.
 * Until 16 such sets belong to memory contexts, since 17 to resource owners, or to none.
 */
static inline WaitEventSet *
compat_create_wait_event_set(int events)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, events);
#else
	return CreateWaitEventSet(TopMemoryContext, events);
#endif
}

/*
 * Returns what tells pg_stat_activity that a process waits for "name".  Until 16 all waits of
 * extensions have one name.  Since 17 this may look into shared memory, so it must not be called
 * while the library is preloaded, and raises XX000 when the server has no room for another name.
 */
static inline uint32
compat_wait_event(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	(void) name;
	return PG_WAIT_EXTENSION;
#endif
}

/* May the role use the foreign server?  Since 16 one function asks for objects of all types. */
static inline bool
compat_has_server_usage(Oid server, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ForeignServerRelationId, server, role, ACL_USAGE) == ACLCHECK_OK;
#else
	return pg_foreign_server_aclcheck(server, role, ACL_USAGE) == ACLCHECK_OK;
#endif
}

/* Does the role own the table, itself, as a member of a role that does, or as a superuser? */
static inline bool
compat_owns_table(Oid table, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, table, role);
#else
	return pg_class_ownercheck(table, role);
#endif
}

/* Does this process hold a lock, in just this mode? */
static inline bool
compat_lock_held(const LOCKTAG *tag, LOCKMODE mode)
{
#if PG_VERSION_NUM >= 170000
	return LockHeldByMe(tag, mode, false);
#else
	return LockHeldByMe(tag, mode);
#endif
}

/* Does the role own the database, itself, as a member of a role that does, or as a superuser? */
static inline bool
compat_owns_database(Oid database, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, database, role);
#else
	return pg_database_ownercheck(database, role);
#endif
}

/* The number of this process's slot in shared memory, an index of ProcGlobal->allProcs. */
#if PG_VERSION_NUM >= 170000
#define compat_my_proc_number() MyProcNumber
#else
#define compat_my_proc_number() MyProc->pgprocno
#endif

/* Runs a started query to its end.  18 dropped an argument that had always the same value. */
#if PG_VERSION_NUM >= 180000
#define compat_executor_run(query) ExecutorRun(query, ForwardScanDirection, 0)
#else
#define compat_executor_run(query) ExecutorRun(query, ForwardScanDirection, 0, true)
#endif

/* Has this transaction a table of this database locked in a mode?  17 can ask for stronger ones, too. */
static inline bool
compat_holds_relation(Oid relation, LOCKMODE mode)
{
	LOCKTAG tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relation);
#if PG_VERSION_NUM >= 170000
	return LockHeldByMe(&tag, mode, true);
#else
	return LockHeldByMe(&tag, mode);
#endif
}

/* Enters a row into its table's indexes, as an INSERT does.  16 brought another argument. */
#if PG_VERSION_NUM >= 160000
#define compat_insert_index_entries(target, slot, estate)                                                    \
	ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL, false)
#else
#define compat_insert_index_entries(target, slot, estate)                                                    \
	ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL)
#endif

/* How a row is frozen.  16 gave that another name. */
#if PG_VERSION_NUM >= 160000
typedef HeapTupleFreeze CompatFreeze;
#else
typedef xl_heap_freeze_tuple CompatFreeze;
#endif

/*
 * Freezes a row that this transaction has inserted, with the WAL record that VACUUM writes: it stays
 * whatever becomes of the transaction.  The caller has the buffer locked exclusively.  Nobody on a standby can
 * have a conflict with that.
 */
static inline void
compat_freeze_row(Relation table, Buffer buffer, OffsetNumber offset)
{
	HeapTupleHeader row =
		(HeapTupleHeader) PageGetItem(BufferGetPage(buffer), PageGetItemId(BufferGetPage(buffer), offset));
	CompatFreeze frozen = {
		.xmax = InvalidTransactionId,
		.t_infomask2 = row->t_infomask2,
		.t_infomask = row->t_infomask | HEAP_XMIN_FROZEN | HEAP_XMAX_INVALID,
		.offset = offset,
	};

#if PG_VERSION_NUM >= 170000
	START_CRIT_SECTION();
	heap_freeze_prepared_tuples(buffer, &frozen, 1);
	MarkBufferDirty(buffer);
	if (RelationNeedsWAL(table))
		log_heap_prune_and_freeze(table, buffer, InvalidTransactionId, false, PRUNE_VACUUM_SCAN, &frozen, 1,
								  NULL, 0, NULL, 0, NULL, 0);
	END_CRIT_SECTION();
#elif PG_VERSION_NUM >= 160000
	heap_freeze_execute_prepared(table, buffer, InvalidTransactionId, &frozen, 1);
#else
	START_CRIT_SECTION();
	heap_execute_freeze_tuple(row, &frozen);
	MarkBufferDirty(buffer);
	if (RelationNeedsWAL(table))
		PageSetLSN(BufferGetPage(buffer),
				   log_heap_freeze(table, buffer, table->rd_rel->relfrozenxid, &frozen, 1));
	END_CRIT_SECTION();
#endif
}

/* The process of a virtual transaction; 0: it has none, or is over. */
static inline int
compat_pid_of(VirtualTransactionId transaction)
{
#if PG_VERSION_NUM >= 170000
	PGPROC *proc = ProcNumberGetProc(transaction.procNumber);
#else
	PGPROC *proc = BackendIdGetProc(transaction.backendId);
#endif

	return proc != NULL ? proc->pid : 0;
}

#endif /* SMS_COMPAT_H */
