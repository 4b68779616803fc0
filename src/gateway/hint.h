/*
 * hint.h
 *		Hints that name the commands with which a gateway is made usable.
 */
#ifndef SMS_HINT_H
#define SMS_HINT_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "provider/provider.h"

extern char *hint_list(const char *subject, const List *names);
extern char *hint_create_server(unsigned calls);
extern char *hint_alter_server(const char *server, const OptionDef *option, bool given);
extern char *hint_grant(const char *server, Oid role);
extern char *hint_create_mapping(const char *server, Oid role, const Provider *provider);
extern char *hint_alter_mapping(const char *server, Oid user, const OptionDef *option, bool given);

#endif /* SMS_HINT_H */
