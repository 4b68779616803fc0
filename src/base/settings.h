/*
 * settings.h
 *		The settings (GUCs) of this extension: sms_gateway.…
 */
#ifndef SMS_SETTINGS_H
#define SMS_SETTINGS_H

#include "postgres.h"

#include "nodes/pg_list.h"

extern bool guc_enabled;          /* off: nothing is sent */
extern char *guc_databases;       /* a list, which settings_databases() reads */
extern int guc_max_databases;     /* that have a worker; as of the server's start */
extern char *guc_default_gateway; /* empty: none */
extern char *guc_place;           /* empty: machine and data directory tell places apart */
extern int guc_max_in_flight;     /* requests at once, all gateways */
extern int guc_batch_size;        /* messages claimed at once */
extern int guc_retry_initial;     /* ms */
extern int guc_retry_max;         /* ms */
extern int guc_retention;         /* s that an ended message stays; 0: for good */
extern bool guc_log_http;         /* libcurl's words about each request go to the server's log */

extern void settings_define(void);
extern bool settings_databases(List **names);

#endif /* SMS_SETTINGS_H */
