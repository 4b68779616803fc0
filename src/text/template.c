/*
 * template.c
 *		Does a text fit a template as providers register them?
 *
 * A template is text, in which {P1,20} stands for at most 20 characters of any kind; the rest is as it is, to
 * the case and the blank.  What can be reached in the text after each piece of the template is a set of positions, so
 * the time is bounded by the template's length times the text's, however many parameters there are.
 */
#include <stdlib.h>
#include <string.h>

#include "text/template.h"
#include "text/text.h"

#define MOST 100000 /* characters: longer than any text */

/* Where one can be in a text after a piece of a template. */
typedef struct Reached
{
	unsigned char *here; /* a flag for each byte, and one for the end */
	size_t first;
	size_t last;
} Reached;

/* Reads a parameter that begins here; returns its length, 0 if there is none. */
static size_t
read_parameter(const char *template, size_t *most)
{
	const char *at = template;
	const char *digits;

	if (*at++ != '{' || *at++ != 'P')
		return 0;
	for (digits = at; *at >= '0' && *at <= '9'; at++)
		;
	if (at == digits)
		return 0;
	while (*at == ' ')
		at++;
	if (*at++ != ',')
		return 0;
	while (*at == ' ')
		at++;
	*most = 0;
	for (digits = at; *at >= '0' && *at <= '9'; at++)
		*most = *most < MOST ? *most * 10 + (size_t) (*at - '0') : MOST;
	return at != digits && *at == '}' ? (size_t) (at + 1 - template) : 0;
}

/* The length of what is to stand in the text as it stands here. */
static size_t
literal_length(const char *template)
{
	size_t len = 0;
	size_t most;

	while (template[len] != '\0' && read_parameter(template + len, &most) == 0)
		len++;
	return len;
}

/* At most so many characters of any kind. */
static void
pass_parameter(Reached *reached, const char *text, size_t n, size_t most)
{
	bool open = false;
	size_t left = 0;
	size_t last = reached->first;

	for (size_t i = reached->first; i <= n; i++)
	{
		if (i < n && ((unsigned char) text[i] & 0xC0) == 0x80)
			continue; /* inside a character */
		if (i <= reached->last && reached->here[i])
		{
			open = true;
			left = most;
		}
		else if (open)
		{
			open = left > 0;
			left -= open;
			reached->here[i] = open;
		}
		if (open)
			last = i;
		else if (i > reached->last)
			break;
	}
	reached->last = last;
}

/* A text's characters before a byte. */
static size_t
characters_before(const char *text, size_t at)
{
	size_t n = 0;

	for (size_t i = 0; i < at; i++)
		n += ((unsigned char) text[i] & 0xC0) != 0x80;
	return n;
}

/*
 * Exactly these bytes.  Returns the number of them that the text has at the position where it has most of them, which
 * (the last such one) is *at then; the positions reached are those behind all of them.
 */
static size_t
pass_literal(Reached *reached, const char *text, size_t n, const char *literal, size_t len, size_t *at)
{
	size_t best = 0;
	size_t first = n + 1;
	size_t last = 0;

	*at = reached->last;
	/* From behind, as what is reached is marked where it has been looked at. */
	for (size_t i = reached->last + 1; i-- > reached->first;)
	{
		size_t same = 0;

		if (!reached->here[i])
			continue;
		reached->here[i] = 0;
		while (same < len && i + same < n && text[i + same] == literal[same])
			same++;
		if (same > best)
		{
			best = same;
			*at = i;
		}
		if (same < len)
			continue;
		reached->here[i + len] = 1;
		first = i + len;
		last = last > i + len ? last : i + len;
	}
	reached->first = first;
	reached->last = last;
	return best;
}

/* Says where they part: behind so many bytes of the text. */
static void
tell(TemplateMiss *miss, const char *text, size_t n, size_t at, const char *expected, size_t len)
{
	/* Not inside a character, of which the first bytes may be the same. */
	while (at > 0 && at < n && ((unsigned char) text[at] & 0xC0) == 0x80)
	{
		at--;
		expected--;
		len++;
	}
	miss->at = characters_before(text, at);
	utf8_copy(miss->expected, sizeof(miss->expected), expected, len);
	utf8_copy(miss->found, sizeof(miss->found), text + at, n - at);
}

/*
 * Sets *fits: does a text fit a template?  If not, the miss says where they part, at the text's best try.  Both are
 * UTF-8.  Returns false when memory is out.
 */
bool
template_fits(const char *template, const char *text, bool *fits, TemplateMiss *miss)
{
	size_t n = strlen(text);
	Reached reached = {calloc(n + 1, 1), 0, 0};

	if (reached.here == NULL)
		return false;
	memset(miss, 0, sizeof(*miss));
	reached.here[0] = 1;
	*fits = true;
	while (*fits && *template != '\0')
	{
		size_t most;
		size_t len = read_parameter(template, &most);
		size_t same;
		size_t at;

		if (len > 0)
			pass_parameter(&reached, text, n, most);
		else
		{
			len = literal_length(template);
			same = pass_literal(&reached, text, n, template, len, &at);
			miss->fits += same;
			*fits = same == len;
			if (!*fits)
				tell(miss, text, n, at + same, template + same, len - same);
		}
		template += len;
	}
	if (*fits && !(reached.last == n && reached.here[n]))
	{
		*fits = false;
		tell(miss, text, n, reached.last, "", 0);
	}
	free(reached.here);
	return true;
}
