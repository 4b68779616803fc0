/*
 * forget.h
 *		Erasing what is stored of a phone.
 */
#ifndef SMS_FORGET_H
#define SMS_FORGET_H

#include "postgres.h"

extern char *forget_phone(const char *phone, Oid role);

#endif /* SMS_FORGET_H */
