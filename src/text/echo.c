/*
 * echo.c
 *		Hides in what a provider has answered whatever it repeats of what it was sent.
 *
 * Providers have been seen to tell in an error what they were sent: as it was, escaped for a URL or for JSON, once or
 * twice, in capitals, cut off.  So all escapes are undone, at any depth, in the answer and in what is looked for alike,
 * and the two are compared; what is found is replaced in the answer as it came, which stays the JSON that it was.
 *
 * What could be there by chance is replaced only where it cannot be anything else: an id by which a message is asked for
 * has to survive a one-time password of four digits.
 *
 * Time and memory grow with the size of the answer, whatever is in it.  Almost every answer repeats nothing, and is told
 * by one look at each of its bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/echo.h"

#define MIN_FOUND  4 /* bytes; of a shorter needle nothing is hidden: it is found everywhere */
#define MAX_DIGITS 17
#define MIN_DIGITS 8

/* From how many bytes on each kind is hidden also within other words; cut off, at the end of a word. */
static const size_t min_within[ECHO_KINDS] = {[ECHO_SECRET] = 6, [ECHO_TEXT] = 8, [ECHO_CODE] = SIZE_MAX};
static const size_t min_cut[ECHO_KINDS] = {[ECHO_SECRET] = 8, [ECHO_TEXT] = 12, [ECHO_CODE] = SIZE_MAX};

/* What is known of a byte of the answer. */
#define MARK_SURE  1 /* it is of an echo */
#define MARK_LOOSE 2 /* … unless it is of an id */
#define MARK_KEY   4 /* … even if it is of a key of JSON */

/* A text without its escapes; from[i] is where byte i begins in the text as it was. */
typedef struct Plain
{
	unsigned char *text;
	uint32_t *from;
	size_t len;
} Plain;

static bool
is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static bool
is_alnum(int c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
}

static int
hex_digit(int c)
{
	if (is_digit(c))
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The same for a letter in both cases, and for all that stands for a blank. */
static unsigned char
fold(unsigned char c)
{
	if (c >= 'A' && c <= 'Z')
		return c + 0x20;
	return c < 0x20 || c == '+' ? ' ' : c;
}

static void push(Plain *plain, unsigned char c, uint32_t from);

static void
append(Plain *plain, unsigned char c, uint32_t from)
{
	plain->text[plain->len] = c;
	plain->from[plain->len++] = from;
}

/* Appends a UTF-16 unit that stood as \uXXXX; the second half of a pair joins the first. */
static void
push_unit(Plain *plain, unsigned unit, uint32_t from)
{
	const unsigned char *end = plain->text + plain->len;

	if (unit >= 0xDC00 && unit < 0xE000 && plain->len >= 3 && end[-3] == 0xED && end[-2] >= 0xA0 &&
		end[-2] < 0xB0)
	{
		unsigned c = 0x10000 + (((end[-2] & 0xFu) << 6 | (end[-1] & 0x3Fu)) << 10) + (unit - 0xDC00);

		plain->len -= 3;
		from = plain->from[plain->len];
		append(plain, 0xF0 | c >> 18, from);
		append(plain, 0x80 | (c >> 12 & 0x3F), from);
		append(plain, 0x80 | (c >> 6 & 0x3F), from);
		append(plain, 0x80 | (c & 0x3F), from);
	}
	else if (unit < 0x80)
		push(plain, unit, from);
	else if (unit < 0x800)
	{
		append(plain, 0xC0 | unit >> 6, from);
		append(plain, 0x80 | (unit & 0x3F), from);
	}
	else
	{
		append(plain, 0xE0 | unit >> 12, from);
		append(plain, 0x80 | (unit >> 6 & 0x3F), from);
		append(plain, 0x80 | (unit & 0x3F), from);
	}
}

/* The value of n hexadecimal digits that end the text; -1 if these are none. */
static int
last_hex(const Plain *plain, size_t n)
{
	int value = 0;

	for (size_t i = plain->len - n; i < plain->len; i++)
	{
		if (hex_digit(plain->text[i]) < 0)
			return -1;
		value = value * 16 + hex_digit(plain->text[i]);
	}
	return value;
}

/*
 * Appends a byte.  Where it ends an escape, what that stands for takes its place, and may end another one: an escaped
 * text comes out as the text itself does.  A run of backslashes counts as one.
 */
static void
push(Plain *plain, unsigned char c, uint32_t from)
{
	const unsigned char *end = plain->text + plain->len;

	c = fold(c);
	if (plain->len > 0 && end[-1] == '\\')
	{
		if (c == '\\')
			return;
		if (strchr("/\"'nrt", c) != NULL)
		{
			from = plain->from[--plain->len];
			c = c == 'n' || c == 'r' || c == 't' ? ' ' : c;
		}
	}
	append(plain, c, from);
	if (hex_digit(c) < 0)
		return;
	if (plain->len >= 3 && plain->text[plain->len - 3] == '%' && last_hex(plain, 2) >= 0)
	{
		int byte = last_hex(plain, 2);

		plain->len -= 3;
		push(plain, byte, plain->from[plain->len]);
	}
	else if (plain->len >= 6 && plain->text[plain->len - 6] == '\\' && plain->text[plain->len - 5] == 'u' &&
			 last_hex(plain, 4) >= 0)
	{
		int unit = last_hex(plain, 4);

		plain->len -= 6;
		push_unit(plain, unit, plain->from[plain->len]);
	}
}

/* Undoes all escapes; false when memory is out. */
static bool
make_plain(Plain *plain, const char *text, size_t len)
{
	plain->len = 0;
	plain->text = malloc(len + 1);
	plain->from = malloc((len + 1) * sizeof(uint32_t));
	if (plain->text == NULL || plain->from == NULL)
		return false;
	for (size_t i = 0; i < len; i++)
		push(plain, text[i], i);
	plain->from[plain->len] = len;
	return true;
}

static void
free_plain(Plain *plain)
{
	free(plain->text);
	free(plain->from);
}

/* Does a word end, or begin, between two bytes of a text, of which one may be beyond it? */
static bool
is_edge(const Plain *plain, size_t at)
{
	return at == 0 || at >= plain->len || !is_alnum(plain->text[at - 1]) || !is_alnum(plain->text[at]);
}

static void
mark_bytes(unsigned char *marks, const Plain *plain, size_t begin, size_t end, int mark)
{
	for (size_t i = plain->from[begin]; i < plain->from[end]; i++)
		marks[i] |= mark;
}

/* A needle was found: marks it as far as what stands beside it says that it is one. */
static void
mark_found(unsigned char *marks, const Plain *plain, size_t begin, size_t end, EchoKind kind, bool word)
{
	bool alone = is_edge(plain, begin) && is_edge(plain, end);

	if (end - begin >= min_within[kind] || (kind == ECHO_CODE && alone && end - begin >= 6))
		mark_bytes(marks, plain, begin, end, MARK_SURE | (kind == ECHO_SECRET && !word ? MARK_KEY : 0));
	else if (alone || (kind == ECHO_CODE && (begin == 0 || !is_digit(plain->text[begin - 1])) &&
					   (end == plain->len || !is_digit(plain->text[end]))))
		mark_bytes(marks, plain, begin, end, MARK_LOOSE);
}

/* Looks for a needle by the algorithm of Knuth, Morris and Pratt; false when memory is out. */
static bool
find_needle(unsigned char *marks, const Plain *plain, const char *text, EchoKind kind)
{
	Plain needle;
	size_t *shorter = NULL; /* of what is a beginning of the needle, the longest end that is one, too */
	bool ok = make_plain(&needle, text, strlen(text));
	bool word = true;
	size_t k = 0;

	ok = ok && (shorter = calloc(needle.len + 1, sizeof(size_t))) != NULL;
	for (size_t i = 0; ok && i < needle.len; i++)
		word = word && needle.text[i] >= 'a' && needle.text[i] <= 'z';
	for (size_t i = 1; ok && i < needle.len; i++)
	{
		while (k > 0 && needle.text[k] != needle.text[i])
			k = shorter[k];
		k += needle.text[k] == needle.text[i];
		shorter[i + 1] = k;
	}
	k = 0;
	for (size_t i = 0; ok && needle.len >= MIN_FOUND && i < plain->len; i++)
	{
		if (k >= min_cut[kind] && needle.text[k] != plain->text[i] && is_edge(plain, i))
			mark_bytes(marks, plain, i - k, i, MARK_SURE);
		while (k > 0 && needle.text[k] != plain->text[i])
			k = shorter[k];
		k += needle.text[k] == plain->text[i];
		if (k == needle.len)
		{
			mark_found(marks, plain, i + 1 - k, i + 1, kind, word);
			k = shorter[k];
		}
	}
	if (ok && k >= MIN_FOUND)
		mark_bytes(marks, plain, plain->len - k, plain->len, MARK_SURE);
	free(shorter);
	free_plain(&needle);
	return ok;
}

static int
compare_phones(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* Are these digits one of the phones, as it is written abroad or in Vietnam?  Phones are sorted. */
static bool
is_phone(const char *const *phones, int nphones, const unsigned char *digits, size_t len)
{
	char number[MAX_DIGITS + 3];
	const char *key = number;

	if (len < MIN_DIGITS || len > MAX_DIGITS)
		return false;
	memcpy(number, "84", 2);
	memcpy(number + 2, digits, len);
	number[len + 2] = '\0';
	if (digits[0] != '0')
		key = number + 2;
	else if (digits[1] == '0')
		key = number + 4;
	else
		memmove(number + 2, number + 3, len);
	return bsearch(&key, phones, nphones, sizeof(*phones), compare_phones) != NULL;
}

/* How many digits begin here. */
static size_t
digits_at(const unsigned char *text, size_t len)
{
	size_t n = 0;

	while (n < len && is_digit(text[n]))
		n++;
	return n;
}

/* Looks for the phones; false when memory is out. */
static bool
find_phones(unsigned char *marks, const Plain *plain, const EchoNeedles *needles)
{
	const char **sorted;

	if (needles->nphones == 0)
		return true;
	sorted = malloc(needles->nphones * sizeof(*sorted));
	if (sorted == NULL)
		return false;
	memcpy(sorted, needles->phones, needles->nphones * sizeof(*sorted));
	qsort(sorted, needles->nphones, sizeof(*sorted), compare_phones);
	for (size_t i = 0; i < plain->len; i++)
	{
		size_t n = digits_at(plain->text + i, plain->len - i);

		if (is_phone(sorted, needles->nphones, plain->text + i, n))
			mark_bytes(marks, plain, i, i + n, MARK_LOOSE);
		i += n;
	}
	free(sorted);
	return true;
}

/* Which marks count in a value: what may be a part of an id is hidden only if it is all of it. */
static int
marks_of_value(const char *text, const unsigned char *marks, size_t len)
{
	bool id = true;
	bool all = true;

	for (size_t i = 0; i < len; i++)
	{
		id = id && (is_alnum((unsigned char) text[i]) || memchr("._:-", text[i], 4) != NULL);
		all = all && (marks[i] != 0 || (unsigned char) text[i] <= ' ');
	}
	return id && !all ? MARK_SURE : MARK_SURE | MARK_LOOSE;
}

/* Copies a part of the answer with the marked bytes hidden; returns where the copy ends.  It is never longer. */
static char *
copy_hidden(char *to, const char *text, const unsigned char *marks, size_t len, int count)
{
	for (size_t i = 0; i < len;)
	{
		if (!(marks[i] & count))
		{
			*to++ = text[i++];
			continue;
		}
		/* What goes beyond the end of the value may leave less than three bytes of it. */
		for (int n = 0; i < len && (marks[i] & count); i++)
		{
			if (n++ < 3)
				*to++ = '*';
		}
	}
	return to;
}

/* How long the string of JSON is that begins with these quotes, without those that end it. */
static size_t
string_length(const char *text, size_t len)
{
	size_t n = 1;

	while (n < len && text[n] != '"')
		n += text[n] == '\\' && n + 1 < len ? 2 : 1;
	return n;
}

/* Is what follows a string of JSON a colon? */
static bool
is_key(const char *text, size_t len)
{
	size_t i = 1;

	while (i < len && strchr(" \t\r\n", text[i]) != NULL)
		i++;
	return i < len && text[i] == ':';
}

/* Hides what is marked in JSON, which it stays, though it may be broken; returns the new length. */
static size_t
hide_in_json(char *text, const unsigned char *marks, size_t len)
{
	static const char structure[] = "{}[],: \t\r\n";
	char *to = text;
	size_t n;

	for (size_t i = 0; i < len; i += n)
	{
		const char *at = text + i;

		if (*at == '"')
		{
			n = string_length(at, len - i);
			*to++ = '"';
			to = copy_hidden(to, at + 1, marks + i + 1, n - 1,
							 is_key(at + n, len - i - n) ? MARK_KEY
														 : marks_of_value(at + 1, marks + i + 1, n - 1));
			if (i + n < len)
				*to++ = text[i + n++];
		}
		else if (*at == '\0' || strchr(structure, *at) != NULL)
		{
			n = 1;
			*to++ = *at;
		}
		else
		{
			int count;
			bool hidden = false;

			for (n = 1; i + n < len && at[n] != '"' && (at[n] == '\0' || strchr(structure, at[n]) == NULL);)
				n++;
			count = marks_of_value(at, marks + i, n);
			for (size_t k = 0; k < n; k++)
				hidden = hidden || (marks[i + k] & count);
			hidden = hidden && n >= 4;
			memmove(to, hidden ? "\"**\"" : at, hidden ? 4 : n);
			to += hidden ? 4 : n;
		}
	}
	return to - text;
}

/* The answer with all that it repeats; returns its new length. */
static size_t
hide(char *text, size_t len, const EchoNeedles *needles)
{
	Plain plain;
	unsigned char *marks = calloc(len + 1, 1);
	bool ok = make_plain(&plain, text, len) && marks != NULL && find_phones(marks, &plain, needles);
	size_t begin = 0;

	for (int i = 0; ok && i < needles->n; i++)
		ok = find_needle(marks, &plain, needles->text[i], needles->kind[i]);
	while (begin < len && strchr("\xEF\xBB\xBF \t\r\n", text[begin]) != NULL)
		begin++;
	if (!ok)
		len = 0;
	else if (begin < len && (text[begin] == '{' || text[begin] == '['))
		len = hide_in_json(text, marks, len);
	else
		len = copy_hidden(text, text, marks, len, marks_of_value(text, marks, len)) - text;
	text[len] = '\0';
	free(marks);
	free_plain(&plain);
	return len;
}

/* Does a needle begin here, or could it?  "text" has MIN_FOUND bytes. */
static bool
may_begin(const char *text, const char *needle)
{
	for (int i = 0; i < MIN_FOUND; i++)
	{
		if (fold(text[i]) != fold(needle[i]))
			return false;
	}
	return true;
}

/* Is there anything in an answer that has to be looked at more closely?  Made to be fast. */
static bool
may_repeat(const char *text, size_t len, const EchoNeedles *needles)
{
	uint32_t first[256] = {0}; /* which needles begin with a byte */

	if (needles->nphones > 1 || memchr(text, '\\', len) != NULL || memchr(text, '%', len) != NULL)
		return true;
	for (int i = 0; i < needles->n; i++)
	{
		const unsigned char *needle = (const unsigned char *) needles->text[i];

		if (strchr("\\%", needle[0]) || strchr("\\%", needle[1]) || strchr("\\%", needle[2]) ||
			strchr("\\%", needle[3]))
			return true;
		first[fold(needle[0])] |= UINT32_C(1) << i;
		if (fold(needle[0]) >= 'a' && fold(needle[0]) <= 'z')
			first[fold(needle[0]) - 0x20] |= UINT32_C(1) << i;
		for (int c = 0; fold(needle[0]) == ' ' && c <= '+'; c++)
			first[c] |= fold(c) == ' ' ? UINT32_C(1) << i : 0;
	}
	for (size_t i = 0; i + MIN_FOUND <= len; i++)
	{
		uint32_t some = first[(unsigned char) text[i]];

		for (int k = 0; some != 0; k++, some >>= 1)
		{
			if ((some & 1) && may_begin(text + i, needles->text[k]))
				return true;
		}
	}
	for (size_t i = 0; needles->nphones > 0 && i + MIN_DIGITS <= len; i++)
	{
		size_t n = is_digit(text[i]) ? digits_at((const unsigned char *) text + i, len - i) : 0;

		if (is_phone(needles->phones, 1, (const unsigned char *) text + i, n))
			return true;
		i += n;
	}
	return false;
}

/* Adds what must not be repeated; nothing if it is NULL or too short to be told from chance. */
void
echo_add(EchoNeedles *needles, EchoKind kind, const char *text)
{
	if (text == NULL || strnlen(text, MIN_FOUND) < MIN_FOUND || needles->n == ECHO_MAX)
		return;
	needles->kind[needles->n] = kind;
	needles->text[needles->n++] = text;
}

/*
 * Hides, in place, what an answer repeats of what was sent; behind it is a byte for the zero that ends it.  Returns the
 * new length, which is not larger; 0 when memory is out.
 */
size_t
echo_hide(char *text, size_t len, const EchoNeedles *needles)
{
	if (len < MIN_FOUND || len >= UINT32_MAX || !may_repeat(text, len, needles))
		return len;
	return hide(text, len, needles);
}

/* Was something hidden in a text?  An id with that names nothing any more. */
bool
echo_is_hidden(const char *text)
{
	return strstr(text, "***") != NULL || strcmp(text, "**") == 0;
}
