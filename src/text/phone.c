/*
 * phone.c
 *		Phone numbers, by E.164 and Vietnam's numbering plan.
 */
#include <string.h>

#include "text/phone.h"

#define MSISDN_MAX_DIGITS (MSISDN_SIZE - 1)

#define VIETNAM "84"

/*
 * The prefixes of mobiles that had 11 digits, and what they became in 2018, without the 0 in front.
 * Source: the Ministry of Information and Communications' plan of conversion.
 */
static const struct
{
	const char *old;
	const char *now;
} conversions[] = {
	{"162", "32"}, {"163", "33"}, {"164", "34"}, {"165", "35"}, {"166", "36"}, {"167", "37"}, {"168", "38"},
	{"169", "39"}, {"120", "70"}, {"121", "79"}, {"122", "77"}, {"126", "76"}, {"128", "78"}, {"123", "83"},
	{"124", "84"}, {"125", "85"}, {"127", "81"}, {"129", "82"}, {"186", "56"}, {"188", "58"}, {"199", "59"},
};

/* What an old prefix, at the start of a number without country code, became; NULL if it is none. */
static const char *
new_prefix(const char *national)
{
	for (size_t i = 0; i < sizeof(conversions) / sizeof(conversions[0]); i++)
	{
		if (strncmp(national, conversions[i].old, 3) == 0)
			return conversions[i].now;
	}
	return NULL;
}

static bool
is_vietnamese(const char *msisdn)
{
	return strncmp(msisdn, VIETNAM, 2) == 0;
}

/*
 * Is a number of Vietnam, behind its country code, one that somebody can have?  Mobiles have 9 digits, the first of
 * them 3, 5, 7, 8 or 9; landlines 2 and 9 more; old mobiles 3 of an old prefix and 7 more.
 */
static PhoneStatus
check_vietnamese(const char *national)
{
	size_t n = strlen(national);

	if (national[0] == '2')
		return n == 10 ? PHONE_OK : PHONE_BAD_LENGTH;
	if (national[0] == '1')
	{
		if (n != 10)
			return PHONE_BAD_LENGTH;
		return new_prefix(national) != NULL ? PHONE_OK : PHONE_NOBODYS;
	}
	if (n != 9)
		return PHONE_BAD_LENGTH;
	return strchr("35789", national[0]) != NULL ? PHONE_OK : PHONE_NOBODYS;
}

/* What can be reached at an MSISDN that phone_normalise() has written? */
PhoneKind
phone_kind(const char *msisdn)
{
	if (!is_vietnamese(msisdn))
		return PHONE_FOREIGN;
	switch (msisdn[2])
	{
		case '2':
			return PHONE_LANDLINE;
		case '1':
			return PHONE_OLD;
		default:
			return PHONE_MOBILE;
	}
}

/* Writes an MSISDN that is PHONE_OLD as it is today, in place. */
void
phone_convert_old(char msisdn[MSISDN_SIZE])
{
	const char *prefix = new_prefix(msisdn + 2);

	memcpy(msisdn + 2, prefix, 2);
	memmove(msisdn + 4, msisdn + 5, strlen(msisdn + 5) + 1);
}

/* Writes how an MSISDN of today was written until 2018, if it has changed then; false if not. */
bool
phone_old_form(const char *msisdn, char old[MSISDN_SIZE])
{
	if (!is_vietnamese(msisdn) || strlen(msisdn) != 11)
		return false;
	for (size_t i = 0; i < sizeof(conversions) / sizeof(conversions[0]); i++)
	{
		if (strncmp(msisdn + 2, conversions[i].now, 2) != 0)
			continue;
		memcpy(old, VIETNAM, 2);
		memcpy(old + 2, conversions[i].old, 3);
		memcpy(old + 5, msisdn + 4, strlen(msisdn + 4) + 1);
		return true;
	}
	return false;
}

/*
 * Reads what a user wrote into "digits" (of MSISDN_SIZE + 2): its digits, ended by NUL.
 * *plus: there is a + in front of them.
 */
static PhoneStatus
read_digits(const char *phone, char *digits, size_t *ndigits, bool *plus)
{
	size_t n = 0;

	*plus = false;
	for (const char *p = phone; *p; p++)
	{
		if (*p >= '0' && *p <= '9')
		{
			if (n == MSISDN_SIZE + 1)
				return PHONE_BAD_LENGTH;
			digits[n++] = *p;
		}
		else if (*p == '+' && n == 0 && !*plus)
			*plus = true;
		else if (strchr(" .-()", *p) == NULL)
			return PHONE_BAD_CHARACTER;
	}
	digits[n] = '\0';
	*ndigits = n;
	return n > 0 ? PHONE_OK : PHONE_EMPTY;
}

/*
 * Puts a phone number into MSISDN form: country code first, digits only.  "msisdn" is
 * written only where PHONE_OK is returned.
 *
 * Blanks, dots, hyphens and parentheses are taken as decoration.  "+" or "00"
 * starts an international number, "0" a national one, which gets country_code;
 * a number that starts with country_code stands as it is.  Anything else is
 * refused rather than guessed at: a wrong guess texts a stranger.
 */
PhoneStatus
phone_normalise(const char *phone, const char *country_code, char msisdn[MSISDN_SIZE])
{
	char digits[MSISDN_SIZE + 2];
	size_t ndigits;
	size_t cclen = strlen(country_code);
	const char *international;
	bool plus;
	PhoneStatus status = read_digits(phone, digits, &ndigits, &plus);

	if (status != PHONE_OK)
		return status;

	if (plus || strncmp(digits, "00", 2) == 0)
		international = plus ? digits : digits + 2;
	else if (digits[0] == '0')
	{
		if (cclen + ndigits - 1 > MSISDN_MAX_DIGITS)
			return PHONE_BAD_LENGTH;
		memmove(digits + cclen, digits + 1, ndigits);
		memcpy(digits, country_code, cclen);
		international = digits;
	}
	else if (strncmp(digits, country_code, cclen) == 0)
		international = digits;
	else
		return PHONE_NO_PREFIX;

	ndigits = strlen(international);
	if (ndigits < 8 || ndigits > MSISDN_MAX_DIGITS || international[0] == '0')
		return PHONE_BAD_LENGTH;
	status = is_vietnamese(international) ? check_vietnamese(international + 2) : PHONE_OK;
	if (status != PHONE_OK)
		return status;
	memcpy(msisdn, international, ndigits + 1);
	return PHONE_OK;
}

/* Why a number was refused, as the DETAIL of an error. */
const char *
phone_status_text(PhoneStatus status)
{
	switch (status)
	{
		case PHONE_EMPTY:
			return "It holds no digit.";
		case PHONE_BAD_CHARACTER:
			return "It holds a character that is neither a digit nor one of \"+ .-()\".";
		case PHONE_NO_PREFIX:
			return "It starts neither with 0, nor with +, nor with the country code.";
		case PHONE_BAD_LENGTH:
			return "The number of digits is not that of a phone number.";
		case PHONE_NOBODYS:
			return "Nobody has a number that begins like this.";
		case PHONE_OK:
			break;
	}
	return "";
}

/* Takes a phone as a provider writes it, 84… or 0…, and an MSISDN; are they one? */
bool
phone_ends_alike(const char *listed, const char *msisdn)
{
	size_t length = strlen(msisdn);
	size_t listed_length = strlen(listed);
	size_t n = length < 9 ? length : 9;

	return listed_length >= n && strcmp(listed + listed_length - n, msisdn + length - n) == 0;
}
