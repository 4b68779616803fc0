/*
 * settings.c
 *		The settings (GUCs) of this extension, with their units and bounds.
 */
#include "postgres.h"

#include <limits.h>

#include "base/extension.h"
#include "base/settings.h"
#include "common/string.h"
#include "datatype/timestamp.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/varlena.h"

/* Initial values are those of the definitions below, as the server wants it; texts may be NULL. */
bool guc_enabled = true;
char *guc_databases = NULL;
int guc_max_databases = 128;
char *guc_default_gateway = NULL;
char *guc_place = NULL;
int guc_max_in_flight = 1000;
int guc_batch_size = 1000;
int guc_retry_initial = 1000;
int guc_retry_max = 15 * 60 * 1000;
int guc_retention = 0;
bool guc_log_http = false;

/* 30 is 30 seconds, and who writes that means days. */
static bool
check_retention(int *value, void **extra, GucSource source)
{
	(void) extra;
	(void) source;
	if (*value == 0 || *value >= SECS_PER_HOUR)
		return true;
	GUC_check_errdetail("It is at least one hour.");
	GUC_check_errhint("Give it a unit, as in 30d; without one it is in seconds. 0 keeps messages for good.");
	return false;
}

/* Splits a list of names, each as it is written, in double quotes where a comma or blank is in it; NIL: all. */
static bool
split_databases(const char *value, List **names)
{
	return SplitGUCList(pstrdup(value != NULL ? value : ""), ',', names);
}

/*
 * While the server starts, a value that is refused is replaced by the default, and the default is all
 * databases.  So it is taken then, and serves none.
 */
static bool
check_databases(char **value, void **extra, GucSource source)
{
	List *names;

	(void) extra;
	(void) source;
	if (split_databases(*value, &names))
		return true;
	if (process_shared_preload_libraries_in_progress)
	{
		ereport(WARNING, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						  errmsg("sms_gateway.databases is no list of names: no outbox is drained"),
						  errdetail("The value is \"%s\".", *value),
						  errhint("Separate names by commas, and reload.")));
		return true;
	}
	GUC_check_errdetail("It is no list of names.");
	GUC_check_errhint("Separate names by commas; put one that holds a comma or a blank into double quotes.");
	return false;
}

/*
 * Returns the names of sms_gateway.databases, exactly as they are meant, NIL for all databases; false,
 * for none, if that is no list.
 */
bool
settings_databases(List **names)
{
	return split_databases(guc_databases, names);
}

/* It is written into databases of any encoding. */
static bool
check_place(char **value, void **extra, GucSource source)
{
	(void) extra;
	(void) source;
	if (pg_is_ascii(*value))
		return true;
	GUC_check_errdetail("It has characters other than ASCII.");
	return false;
}

/*
 * Defines all settings; called once, when the library is loaded.  From then on the server refuses
 * others of this prefix.
 */
void
settings_define(void)
{
	DefineCustomBoolVariable("sms_gateway.enabled",
							 "Sends messages; off holds them in the outbox and refuses sms_send.",
							 "Switch it off before a standby is promoted to be a copy.", &guc_enabled, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("sms_gateway.databases", "Databases whose outbox a background worker drains.",
							   "A comma-separated list; empty: all that have the extension.", &guc_databases,
							   "", PGC_SIGHUP, GUC_LIST_INPUT, check_databases, NULL, NULL);
	/* Where the library is not preloaded, no memory is shared, and nothing depends on this. */
	DefineCustomIntVariable("sms_gateway.max_databases", "Databases whose outbox may have a worker.",
							"Workers take turns where max_worker_processes has no room for all.",
							&guc_max_databases, 128, 1, 10000,
							process_shared_preload_libraries_in_progress ? PGC_POSTMASTER : PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomStringVariable("sms_gateway.default_gateway", "Gateway of messages that name none.",
							   "Empty: the only one that can send the message.", &guc_default_gateway, "",
							   PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomStringVariable("sms_gateway.place", "Name of the place where this server runs.",
							   "A copy of its files has another one, and sends nothing. Empty: the machine "
							   "and the data directory tell places apart.",
							   &guc_place, "", PGC_SIGHUP, 0, check_place, NULL, NULL);
	DefineCustomIntVariable("sms_gateway.max_in_flight",
							"Requests of a worker that may be under way at once, over all gateways.",
							"The server option max_in_flight limits each gateway. An eighth more is kept for "
							"gateways that have few requests under way.",
							&guc_max_in_flight, 1000, 1, 10000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sms_gateway.batch_size", "Messages that are claimed at once.", NULL,
							&guc_batch_size, 1000, 1, 10000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"sms_gateway.retry_initial", "Wait before the second attempt; it doubles with each attempt.", NULL,
		&guc_retry_initial, 1000, 10, 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("sms_gateway.retry_max", "Longest wait between two attempts.", NULL,
							&guc_retry_max, 15 * 60 * 1000, 10, 24 * 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable(
		"sms_gateway.retention", "Time after which ended messages are deleted; 0 keeps them.",
		"At least an hour. Uncertain messages stay for 30 days at least; queued ones are never deleted.",
		&guc_retention, 0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, check_retention, NULL, NULL);
	DefineCustomBoolVariable("sms_gateway.log_http",
							 "Writes to the server's log what libcurl tells of each request.",
							 "Connections, TLS and headers; without credentials, queries and bodies.",
							 &guc_log_http, false, PGC_SUSET, 0, NULL, NULL, NULL);
	MarkGUCPrefixReserved(EXTENSION_NAME);
}
