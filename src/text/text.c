/*
 * text.c
 *		UTF-8, how many parts a text takes, and Vietnamese without diacritics.
 *
 * Sources: 3GPP TS 23.038 (GSM 03.38) for the default alphabet and its extension
 * table, 3GPP TS 23.040 for the 6 octets that a concatenation header takes from
 * each part (160 -> 153 septets, 70 -> 67 UCS-2 units).
 */
#include <stdlib.h>
#include <string.h>

#include "text/text.h"

#define GSM7_SINGLE 160
#define GSM7_PART   153
#define UCS2_SINGLE 70
#define UCS2_PART   67

/*
 * The code points above ASCII of the default alphabet, in ascending order.
 * Position 0x09 is the capital U+00C7; the small one is not in the alphabet.
 */
static const unsigned short gsm7_beyond_ascii[] = {
	0x00A1, 0x00A3, 0x00A4, 0x00A5, 0x00A7, 0x00BF, 0x00C4, 0x00C5, 0x00C6, 0x00C7, 0x00C9, 0x00D1, 0x00D6,
	0x00D8, 0x00DC, 0x00DF, 0x00E0, 0x00E4, 0x00E5, 0x00E6, 0x00E8, 0x00E9, 0x00EC, 0x00F1, 0x00F2, 0x00F6,
	0x00F8, 0x00F9, 0x00FC, 0x0393, 0x0394, 0x0398, 0x039B, 0x039E, 0x03A0, 0x03A3, 0x03A6, 0x03A8, 0x03A9,
};

/*
 * Reads one UTF-8 sequence (RFC 3629: shortest form, no surrogates, at most
 * U+10FFFF).  Returns its length in bytes, or 0 if it is not valid.
 */
int
utf8_decode(const char *text, size_t len, unsigned *codepoint)
{
	static const unsigned smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned char *s = (const unsigned char *) text;
	unsigned c;
	int n;

	if (len == 0)
		return 0;
	if (s[0] < 0x80)
	{
		*codepoint = s[0];
		return 1;
	}
	n = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
	if (s[0] < 0xC2 || s[0] > 0xF4 || len < (size_t) n)
		return 0;
	c = s[0] & (0xFF >> (n + 1));
	for (int i = 1; i < n; i++)
	{
		if ((s[i] & 0xC0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3F);
	}
	if (c < smallest[n] || (c >= 0xD800 && c <= 0xDFFF) || c > 0x10FFFF)
		return 0;
	*codepoint = c;
	return n;
}

/* How many characters a text has, that is valid. */
size_t
utf8_characters(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += (*text & 0xC0) != 0x80;
	return n;
}

/*
 * Copies text from the network into a fixed buffer as valid UTF-8 without
 * NUL or other control characters: whatever is not valid becomes '?', control
 * characters become blanks, and a text too long is cut between characters.
 */
void
utf8_copy(char *dst, size_t size, const char *src, size_t len)
{
	size_t used = 0;

	while (len > 0)
	{
		unsigned c;
		int n;

		while (len > 0 && used + 1 < size && *src >= 0x20 && *src < 0x7F)
		{
			dst[used++] = *src++;
			len--;
		}
		if (len == 0)
			break;
		n = utf8_decode(src, len, &c);

		if (used + (n > 0 ? n : 1) >= size)
			break;
		if (n == 0)
			dst[used++] = '?';
		else if (c < 0x20 || c == 0x7F)
			dst[used++] = ' ';
		else
		{
			memcpy(dst + used, src, n);
			used += n;
		}
		src += n > 0 ? n : 1;
		len -= n > 0 ? n : 1;
	}
	dst[used] = '\0';
}

static int
compare_code(const void *a, const void *b)
{
	return (int) *(const unsigned short *) a - (int) *(const unsigned short *) b;
}

/* Septets that a code point takes in GSM-7: 1, 2 (extension table), or 0. */
static int
gsm7_septets(unsigned c)
{
	unsigned short key = (unsigned short) c;

	if (c < 0x80)
	{
		if (c == '\n' || c == '\r')
			return 1;
		if (c == '\f' || (c > 0 && strchr("^{}\\[~]|", (int) c)))
			return 2;
		return (c < 0x20 || c == '`' || c == 0x7F) ? 0 : 1;
	}
	if (c == 0x20AC)
		return 2;
	if (c > 0xFFFF)
		return 0;
	return bsearch(&key, gsm7_beyond_ascii, sizeof(gsm7_beyond_ascii) / sizeof(gsm7_beyond_ascii[0]),
				   sizeof(key), compare_code)
			   ? 1
			   : 0;
}

/* Units that a code point takes in the given alphabet. */
static int
units_of(unsigned c, bool ucs2)
{
	int septets;

	if (ucs2)
		return c > 0xFFFF ? 2 : 1;
	septets = gsm7_septets(c);
	return septets > 0 ? septets : 1;
}

/*
 * Measures a text.  Returns false if it is not valid UTF-8.
 *
 * Neither an escaped GSM-7 character nor a surrogate pair may be split between
 * two parts, so parts are filled one character after the other.
 */
bool
text_shape(const char *text, size_t len, TextCoding coding, TextShape *shape)
{
	int part_size;
	int room = 0;

	memset(shape, 0, sizeof(*shape));
	shape->ucs2 = coding == CODING_UCS2;
	for (size_t at = 0; at < len;)
	{
		unsigned c;
		int n = utf8_decode(text + at, len - at, &c);

		if (n == 0)
			return false;
		if (coding == CODING_BY_TEXT ? gsm7_septets(c) == 0 : coding == CODING_BY_ASCII && c >= 0x80)
			shape->ucs2 = true;
		shape->characters++;
		at += n;
	}

	part_size = shape->ucs2 ? UCS2_PART : GSM7_PART;
	for (size_t at = 0; at < len;)
	{
		unsigned c;
		int units;

		at += utf8_decode(text + at, len - at, &c);
		units = units_of(c, shape->ucs2);
		if (room < units)
		{
			shape->parts++;
			room = part_size;
		}
		room -= units;
		shape->units += units;
	}
	if (shape->units > 0 && shape->units <= (shape->ucs2 ? UCS2_SINGLE : GSM7_SINGLE))
		shape->parts = 1;
	return true;
}

/*
 * The letter of ASCII below a precomposed letter of Vietnamese (Unicode blocks
 * Latin-1 Supplement, Latin Extended-A, -B and Additional); 0 for any other character.
 */
static char
base_letter(unsigned c)
{
	/* U+1EA0 to U+1EF9: capital and small letter in turn */
	static const char additional[] = "AaAaAaAaAaAaAaAaAaAaAaAa"
									 "EeEeEeEeEeEeEeEe"
									 "IiIi"
									 "OoOoOoOoOoOoOoOoOoOoOoOo"
									 "UuUuUuUuUuUuUu"
									 "YyYyYyYy";
	static const struct
	{
		unsigned short code;
		char base;
	} others[] = {
		{0xC0, 'A'},  {0xC1, 'A'},  {0xC2, 'A'},  {0xC3, 'A'},  {0xC8, 'E'},  {0xC9, 'E'},  {0xCA, 'E'},
		{0xCC, 'I'},  {0xCD, 'I'},  {0xD2, 'O'},  {0xD3, 'O'},  {0xD4, 'O'},  {0xD5, 'O'},  {0xD9, 'U'},
		{0xDA, 'U'},  {0xDD, 'Y'},  {0xE0, 'a'},  {0xE1, 'a'},  {0xE2, 'a'},  {0xE3, 'a'},  {0xE8, 'e'},
		{0xE9, 'e'},  {0xEA, 'e'},  {0xEC, 'i'},  {0xED, 'i'},  {0xF2, 'o'},  {0xF3, 'o'},  {0xF4, 'o'},
		{0xF5, 'o'},  {0xF9, 'u'},  {0xFA, 'u'},  {0xFD, 'y'},  {0x102, 'A'}, {0x103, 'a'}, {0x110, 'D'},
		{0x111, 'd'}, {0x128, 'I'}, {0x129, 'i'}, {0x168, 'U'}, {0x169, 'u'}, {0x1A0, 'O'}, {0x1A1, 'o'},
		{0x1AF, 'U'}, {0x1B0, 'u'},
	};

	if (c >= 0x1EA0 && c <= 0x1EF9)
		return additional[c - 0x1EA0];
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
	{
		if (others[i].code == c)
			return others[i].base;
	}
	return 0;
}

/* Is it a combining mark that Vietnamese puts on a vowel? */
static bool
is_vietnamese_mark(unsigned c)
{
	static const unsigned short marks[] = {
		0x300, 0x301, 0x302, 0x303, 0x306, 0x309, 0x31B, 0x323, 0x340, 0x341,
	};

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
	{
		if (marks[i] == c)
			return true;
	}
	return false;
}

/*
 * What stands in ASCII for a mark or a blank that word processors put into texts, at most as long in bytes as that is
 * in UTF-8; "" for what cannot be seen; NULL for any other character.
 */
static const char *
plain_mark(unsigned c)
{
	static const struct
	{
		unsigned short first;
		unsigned short last;
		const char *plain;
	} marks[] = {
		{0x00A0, 0x00A0, " "},  /* no-break space */
		{0x00AB, 0x00AB, "\""}, /* guillemets */
		{0x00AD, 0x00AD, ""},   /* soft hyphen */
		{0x00B4, 0x00B4, "'"},  /* acute accent */
		{0x00B7, 0x00B7, "-"},  /* middle dot */
		{0x00BB, 0x00BB, "\""}, {0x02B9, 0x02BC, "'"},  {0x02C6, 0x02C6, "^"},   {0x02DC, 0x02DC, "~"},
		{0x2000, 0x200A, " "},                         /* spaces of various widths */
		{0x200B, 0x200F, ""},                          /* zero width, and direction */
		{0x2010, 0x2015, "-"},                         /* hyphens and dashes */
		{0x2018, 0x201B, "'"},                         /* quotation marks */
		{0x201C, 0x201F, "\""}, {0x2022, 0x2023, "-"}, /* bullets */
		{0x2024, 0x2024, "."},  {0x2025, 0x2025, ".."}, {0x2026, 0x2026, "..."}, {0x2027, 0x2027, "-"},
		{0x2028, 0x2029, "\n"}, /* line and paragraph */
		{0x202A, 0x202E, ""},   {0x202F, 0x202F, " "},  {0x2032, 0x2032, "'"},   {0x2033, 0x2033, "\""},
		{0x2039, 0x203A, "'"},  {0x2043, 0x2043, "-"},  {0x2044, 0x2044, "/"},   {0x205F, 0x205F, " "},
		{0x2060, 0x2064, ""},   {0x2066, 0x2069, ""},   {0x20AB, 0x20AB, "d"}, /* dong */
		{0x2212, 0x2212, "-"},                                                 /* minus */
		{0x3000, 0x3000, " "},  {0xFE0E, 0xFE0F, ""},   {0xFEFF, 0xFEFF, ""},  /* byte-order mark */
	};

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++)
	{
		if (c >= marks[i].first && c <= marks[i].last)
			return marks[i].plain;
	}
	return NULL;
}

static bool
is_utf8(const char *text, size_t len)
{
	unsigned c;

	for (size_t at = 0; at < len;)
	{
		int n = utf8_decode(text + at, len - at, &c);

		if (n == 0)
			return false;
		at += n;
	}
	return true;
}

/*
 * Takes the diacritics off Vietnamese letters, in place, whatever the normalisation form, and makes
 * typographic marks and spaces plain; all other characters stay.  Returns false, with the text
 * unchanged, if it is not valid UTF-8.
 */
bool
text_unaccent(char *text)
{
	size_t len = strlen(text);
	size_t used = 0;
	bool after_vowel = false;
	unsigned c;

	if (!is_utf8(text, len))
		return false;
	for (size_t at = 0; at < len;)
	{
		int n = utf8_decode(text + at, len - at, &c);
		char base = base_letter(c);
		const char *plain = plain_mark(c);

		if (after_vowel && is_vietnamese_mark(c))
		{
			at += n;
			continue;
		}
		if (base != 0)
			text[used++] = base;
		else if (plain != NULL)
		{
			memcpy(text + used, plain, strlen(plain));
			used += strlen(plain);
		}
		else
		{
			memmove(text + used, text + at, n);
			used += n;
		}
		after_vowel =
			(base != 0 && c != 0x110 && c != 0x111) || (c < 0x80 && strchr("AEIOUYaeiouy", (int) c) && c > 0);
		at += n;
	}
	text[used] = '\0';
	return true;
}

/*
 * Makes each CR LF, and each CR alone, one newline, in place.  Returns the first other control
 * character that the text has, 0 if it has none.
 */
int
text_tidy_lines(char *text)
{
	char *to = text;
	int control = 0;

	for (const char *from = text; *from; from++)
	{
		char c = *from;

		if (c == '\r')
		{
			c = '\n';
			if (from[1] == '\n')
				from++;
		}
		if (control == 0 && ((unsigned char) c < 0x20 || c == 0x7F) && c != '\n')
			control = (unsigned char) c;
		*to++ = c;
	}
	*to = '\0';
	return control;
}

/*
 * Writes text with each "place" replaced by a value.  Returns text from malloc,
 * NULL when memory is out.
 */
char *
text_replace(const char *text, const char *place, const char *value)
{
	size_t place_len = strlen(place);
	size_t value_len = strlen(value);
	size_t size = strlen(text) + 1;
	char *copy;
	char *to;
	const char *at;

	for (at = text; (at = strstr(at, place)) != NULL; at += place_len)
		size += value_len;
	copy = to = malloc(size);
	if (copy == NULL)
		return NULL;
	for (; (at = strstr(text, place)) != NULL; text = at + place_len)
	{
		memcpy(to, text, at - text);
		to += at - text;
		memcpy(to, value, value_len);
		to += value_len;
	}
	strcpy(to, text);
	return copy;
}
