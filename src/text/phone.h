/*
 * phone.h
 *		Phone numbers in the form in which providers take them.
 *
 * Pure C: no PostgreSQL, no network.
 */
#ifndef SMS_PHONE_H
#define SMS_PHONE_H

#include <stdbool.h>
#include <stddef.h>

#define MSISDN_SIZE 16 /* E.164 allows 15 digits */

typedef enum PhoneStatus
{
	PHONE_OK,
	PHONE_EMPTY,
	PHONE_BAD_CHARACTER,
	PHONE_NO_PREFIX,
	PHONE_BAD_LENGTH,
	PHONE_NOBODYS,
} PhoneStatus;

/* What can be reached at an MSISDN. */
typedef enum PhoneKind
{
	PHONE_MOBILE,
	PHONE_LANDLINE, /* of Vietnam: takes calls, no texts */
	PHONE_OLD,      /* a mobile of Vietnam as it was written until 2018 */
	PHONE_FOREIGN,  /* of another country than Vietnam, whose numbering plan is not looked at */
} PhoneKind;

extern PhoneStatus phone_normalise(const char *phone, const char *country_code, char msisdn[MSISDN_SIZE]);
extern PhoneKind phone_kind(const char *msisdn);
extern void phone_convert_old(char msisdn[MSISDN_SIZE]);
extern bool phone_old_form(const char *msisdn, char old[MSISDN_SIZE]);
extern bool phone_ends_alike(const char *listed, const char *msisdn);
extern const char *phone_status_text(PhoneStatus status);

#endif /* SMS_PHONE_H */
