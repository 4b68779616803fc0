/*
 * phone.c
 *		Phone numbers, by E.164 and Vietnam's numbering plan.
 */
#include <string.h>

#include "text/phone.h"

#define MSISDN_MAX_DIGITS (MSISDN_SIZE - 1)

/* Vietnam: 9 digits behind the country code, 10 for some fixed lines. */
static bool
is_vietnamese_length(const char *msisdn, size_t ndigits)
{
	return (ndigits == 11 || ndigits == 12) && msisdn[2] != '0';
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
	if (strncmp(international, "84", 2) == 0 && !is_vietnamese_length(international, ndigits))
		return PHONE_BAD_LENGTH;
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
		case PHONE_OK:
			break;
	}
	return "";
}
