/*
 * extension.h
 *		What tells this extension from others in the server.
 */
#ifndef SMS_EXTENSION_H
#define SMS_EXTENSION_H

#define EXTENSION_NAME "sms_gateway"

/*
 * The fourth field of our advisory locks' tags.  It tells them from those that users take from SQL,
 * which have 1 or 2 there: nobody can take ours, or meet one by chance.  Other extensions count from
 * 3 on (Citus up to 15, pg_auto_failover from 10) or from 100: this is far from all of them.
 */
#define OUR_LOCK_CLASS 0x534D /* "SM" */

#endif /* SMS_EXTENSION_H */
