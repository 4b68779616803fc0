/*
 * json.c
 *		What the providers share in reading and writing JSON.
 *
 * Real servers do not keep to their documentation: a byte-order mark in front,
 * numbers where strings are promised, keys in another spelling or with blanks
 * around them.  All of that is absorbed here, once.
 */
#include <ctype.h>
#include <json-c/json.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/json.h"
#include "text/text.h"

/* Deeper nesting is no answer of a gateway but an attack on the parser. */
#define JSON_MAX_DEPTH 32
/* A parser that has read more than this is not kept for the next text. */
#define KEEP_PARSER 16384

/* The parser of this process, ready for another text; NULL when memory is out.  Making one costs as much as most answers. */
static struct json_tokener **
take_parser(void)
{
	static struct json_tokener *parser = NULL;

	if (parser == NULL)
		parser = json_tokener_new_ex(JSON_MAX_DEPTH);
	else
		json_tokener_reset(parser);
	return &parser;
}

/*
 * Reads a text that must be one JSON object and nothing else but blanks.
 * Returns NULL if it is not; else the caller gives it back with json_object_put().
 */
struct json_object *
json_read_object(const char *text, size_t len)
{
	struct json_tokener **parser;
	struct json_object *object;
	size_t end;

	if (len >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
	{
		text += 3;
		len -= 3;
	}
	if (len == 0 || len > INT_MAX || *(parser = take_parser()) == NULL)
		return NULL;

	object = json_tokener_parse_ex(*parser, text, (int) len);
	end = json_tokener_get_parse_end(*parser);
	if (json_tokener_get_error(*parser) != json_tokener_success)
		end = 0;
	if (len > KEEP_PARSER)
	{
		json_tokener_free(*parser);
		*parser = NULL;
	}

	while (end > 0 && end < len && isspace((unsigned char) text[end]))
		end++;
	if (object != NULL && (end != len || !json_object_is_type(object, json_type_object)))
	{
		json_object_put(object);
		object = NULL;
	}
	return object;
}

/* Reads JSON that PostgreSQL has written; NULL for NULL. */
struct json_object *
json_read_value(const char *text)
{
	return text != NULL ? json_tokener_parse(text) : NULL;
}

/* Are two keys the same but for case, blanks and underscores? */
static bool
same_key(const char *a, const char *b)
{
	for (;; a++, b++)
	{
		while (*a == '_' || isspace((unsigned char) *a))
			a++;
		while (*b == '_' || isspace((unsigned char) *b))
			b++;
		if (tolower((unsigned char) *a) != tolower((unsigned char) *b))
			return false;
		if (*a == '\0')
			return true;
	}
}

/*
 * Finds a field by its name in any spelling: idOmniMess, id_omni_mess,
 * " idOmniMess ".  Returns NULL if it is absent or null.
 */
struct json_object *
json_field(struct json_object *object, const char *name)
{
	struct json_object *value;

	if (!json_object_is_type(object, json_type_object))
		return NULL;
	if (json_object_object_get_ex(object, name, &value))
		return value;

	json_object_object_foreach (object, key, candidate)
	{
		if (same_key(key, name))
			return candidate;
	}
	return NULL;
}

/*
 * Reads a scalar field as text, without blanks around it; a number that is
 * whole is written without a fraction.  Returns false, and an empty text, if
 * the field is absent, null, an array or an object.
 */
bool
json_text(struct json_object *object, const char *name, char *dst, size_t size)
{
	struct json_object *value = json_field(object, name);
	const char *text;
	size_t len;
	char whole[32];

	dst[0] = '\0';
	if (value == NULL || json_object_is_type(value, json_type_array) ||
		json_object_is_type(value, json_type_object))
		return false;

	if (json_object_is_type(value, json_type_double) && fabs(json_object_get_double(value)) < 1e15 &&
		floor(json_object_get_double(value)) == json_object_get_double(value))
	{
		snprintf(whole, sizeof(whole), "%.0f", json_object_get_double(value));
		text = whole;
		len = strlen(whole);
	}
	else
	{
		text = json_object_get_string(value);
		len = json_object_is_type(value, json_type_string) ? (size_t) json_object_get_string_len(value)
														   : strlen(text);
	}
	while (len > 0 && isspace((unsigned char) *text))
	{
		text++;
		len--;
	}
	while (len > 0 && isspace((unsigned char) text[len - 1]))
		len--;
	utf8_copy(dst, size, text, len);
	return true;
}

/*
 * Adds a string field; nothing if value is NULL.  The name is a literal, or
 * lives as long as the object: it is not copied.
 */
void
json_put_text(struct json_object *object, const char *name, const char *value)
{
	if (value != NULL)
		json_object_object_add_ex(object, name, json_object_new_string(value),
								  JSON_C_OBJECT_ADD_CONSTANT_KEY);
}

/* Adds an array of n strings; the name is as for json_put_text(). */
void
json_put_texts(struct json_object *object, const char *name, const char *const *values, int n)
{
	struct json_object *array = json_object_new_array_ext(n);

	for (int i = 0; i < n; i++)
		json_object_array_add(array, json_object_new_string(values[i]));
	json_object_object_add_ex(object, name, array, JSON_C_OBJECT_ADD_CONSTANT_KEY);
}

/*
 * Adds a field whose value is JSON already, to the letter: parsing it and
 * writing it again would clip large numbers.
 */
void
json_put_raw(struct json_object *object, const char *name, const char *json)
{
	struct json_object *raw;

	if (json == NULL)
		return;
	raw = json_object_new_object();
	json_object_set_serializer(raw, json_object_userdata_to_json_string, strdup(json),
							   json_object_free_userdata);
	json_object_object_add_ex(object, name, raw, JSON_C_OBJECT_ADD_CONSTANT_KEY);
}

/*
 * Writes an object and gives it back.  Returns text from malloc, or NULL if
 * memory is out.
 */
char *
json_write(struct json_object *object)
{
	const char *text =
		json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	char *copy = text != NULL ? strdup(text) : NULL;

	json_object_put(object);
	return copy;
}
