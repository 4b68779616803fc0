/*
 * message.h
 *		What a text message is, apart from any provider: phone numbers, the size
 *		of a text in the alphabets of GSM 03.38, Vietnamese without diacritics.
 *
 * Pure C: no PostgreSQL, no network.  All text is UTF-8.
 */
#ifndef SMS_MESSAGE_H
#define SMS_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>

/* E.164 allows 15 digits. */
#define MSISDN_MAX_DIGITS 15
#define MSISDN_SIZE       (MSISDN_MAX_DIGITS + 1)

typedef enum PhoneStatus
{
	PHONE_OK,
	PHONE_EMPTY,
	PHONE_BAD_CHARACTER,
	PHONE_NO_PREFIX,
	PHONE_BAD_LENGTH,
} PhoneStatus;

/* The alphabet that a text has to go in. */
typedef enum TextCoding
{
	CODING_BY_TEXT, /* GSM-7 if it can hold the text */
	CODING_GSM7,    /* what it cannot hold goes as one other character */
	CODING_UCS2,
} TextCoding;

/*
 * How a text travels: in the 7-bit default alphabet or as UCS-2.
 */
typedef struct TextShape
{
	bool ucs2;
	int characters; /* code points */
	int units;      /* septets (GSM-7) or 16-bit units (UCS-2) */
	int parts;      /* billed messages; 0 for an empty text */
} TextShape;

extern PhoneStatus phone_normalise(const char *phone, const char *country_code, char msisdn[MSISDN_SIZE]);
extern const char *phone_status_text(PhoneStatus status);
extern bool text_shape(const char *text, size_t len, TextCoding coding, TextShape *shape);
extern bool text_unaccent(char *text);
extern int utf8_decode(const char *text, size_t len, unsigned *codepoint);
extern void utf8_copy(char *dst, size_t size, const char *src, size_t len);

#endif /* SMS_MESSAGE_H */
