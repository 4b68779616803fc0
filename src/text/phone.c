/*
 * phone.c
 *		Phone numbers, by E.164 and Vietnam's numbering plan.
 */
#include <string.h>

#include "text/phone.h"

/*
 * Puts a phone number into MSISDN form: country code first, digits only.
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
	size_t ndigits = 0;
	size_t cclen = strlen(country_code);
	const char *national;
	bool plus = false;

	for (const char *p = phone; *p; p++)
	{
		if (*p >= '0' && *p <= '9')
		{
			if (ndigits == sizeof(digits) - 1)
				return PHONE_BAD_LENGTH;
			digits[ndigits++] = *p;
		}
		else if (*p == '+' && ndigits == 0 && !plus)
			plus = true;
		else if (strchr(" .-()", *p) == NULL)
			return PHONE_BAD_CHARACTER;
	}
	digits[ndigits] = '\0';
	if (ndigits == 0)
		return PHONE_EMPTY;

	if (plus || strncmp(digits, "00", 2) == 0)
		national = plus ? digits : digits + 2;
	else if (digits[0] == '0')
	{
		if (cclen + ndigits - 1 > MSISDN_MAX_DIGITS)
			return PHONE_BAD_LENGTH;
		memmove(digits + cclen, digits + 1, ndigits);
		memcpy(digits, country_code, cclen);
		national = digits;
	}
	else if (strncmp(digits, country_code, cclen) == 0)
		national = digits;
	else
		return PHONE_NO_PREFIX;

	ndigits = strlen(national);
	if (ndigits < 8 || ndigits > MSISDN_MAX_DIGITS || national[0] == '0')
		return PHONE_BAD_LENGTH;

	/* Vietnam: 9 digits behind the country code, 10 for some fixed lines. */
	if (strncmp(national, "84", 2) == 0 && (ndigits < 11 || ndigits > 12 || national[2] == '0'))
		return PHONE_BAD_LENGTH;

	memcpy(msisdn, national, ndigits + 1);
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
