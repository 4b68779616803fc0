/*
 * text.h
 *		Texts: UTF-8, the size of a text in the alphabets of GSM 03.38, Vietnamese
 *		without diacritics.
 *
 * Pure C: no PostgreSQL, no network.  All text is UTF-8.
 */
#ifndef SMS_TEXT_H
#define SMS_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* The alphabet that a text has to go in. */
typedef enum TextCoding
{
	CODING_BY_TEXT,  /* GSM-7 if it can hold the text */
	CODING_BY_ASCII, /* GSM-7 if the text is ASCII: where Vietnam's providers draw the line */
	CODING_GSM7,     /* what it cannot hold goes as one other character */
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

extern bool text_shape(const char *text, size_t len, TextCoding coding, TextShape *shape);
extern bool text_unaccent(char *text);
extern int text_tidy_lines(char *text);
extern char *text_replace(const char *text, const char *place, const char *value);
extern int utf8_decode(const char *text, size_t len, unsigned *codepoint);
extern size_t utf8_characters(const char *text);
extern void utf8_copy(char *dst, size_t size, const char *src, size_t len);

#endif /* SMS_TEXT_H */
