/*
 * details.h
 *		The column "details" of a message: a JSON object of what has no column.
 *
 * Apart from json.h because json-c and PostgreSQL both want the name json_object.
 */
#ifndef SMS_DETAILS_H
#define SMS_DETAILS_H

extern char *details_with_token(const char *details, const char *token);
extern char *details_with_failure(const char *details, const char *gateway, const char *code,
								  const char *message, const char *fallback);

#endif /* SMS_DETAILS_H */
