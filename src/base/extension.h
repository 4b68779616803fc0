/*
 * extension.h
 *		The extension's name, and what is named after it.
 */
#ifndef SMS_EXTENSION_H
#define SMS_EXTENSION_H

#define EXTENSION_NAME "sms_gateway"

/* Advisory locks of SQL have class 1 or 2; nobody can take ours from SQL. */
#define OUR_LOCK_CLASS 7

#endif /* SMS_EXTENSION_H */
