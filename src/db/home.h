/*
 * home.h
 *		The extension in this database, and whether its outbox is at home here.
 */
#ifndef SMS_HOME_H
#define SMS_HOME_H

#include "postgres.h"

#define HOME_SECRET_SIZE 32

extern bool home_is_ours(void);
extern void home_require(void);
extern void home_forget(void);
extern bool home_is_unwritten(void);
extern bool home_is_moved(bool unmarked);
extern void home_complain(int elevel);
extern const char *home_copied(bool told);
extern int64 home_origin(void);
extern const uint8 *home_secret(void);
extern const uint8 *home_hiding_key(void);
extern Oid home_relation(const char *name);
extern Oid home_relation_or_none(const char *name);
extern bool home_find_extension(Oid *extension, Oid *schema, char **version);

#endif /* SMS_HOME_H */
