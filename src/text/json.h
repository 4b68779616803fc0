/*
 * json.h
 *		Reading JSON from the network, and writing it, on top of json-c.
 *
 * Pure C; nothing here raises an error.
 */
#ifndef SMS_JSON_H
#define SMS_JSON_H

#include <stdbool.h>
#include <stddef.h>

struct json_object; /* json-c's; its header and PostgreSQL's do not go together */

extern struct json_object *json_read_object(const char *text, size_t len);
extern struct json_object *json_read_value(const char *text);
extern struct json_object *json_field(struct json_object *object, const char *name);
extern bool json_text(struct json_object *object, const char *name, char *dst, size_t size);
extern void json_put_text(struct json_object *object, const char *name, const char *value);
extern void json_put_texts(struct json_object *object, const char *name, const char *const *values, int n);
extern void json_put_raw(struct json_object *object, const char *name, const char *json);
extern char *json_write(struct json_object *object);

#endif /* SMS_JSON_H */
