/*
 * cascade.h
 *		What else happens when messages are deleted.
 */
#ifndef SMS_CASCADE_H
#define SMS_CASCADE_H

extern bool cascade_is_trusted(Oid runner);

#endif /* SMS_CASCADE_H */
