/*
 * encoding.h
 *		Between the database's encoding and UTF-8.
 */
#ifndef SMS_ENCODING_H
#define SMS_ENCODING_H

extern void encoding_prepare(void);
extern char *to_utf8(const char *text, const char *what);
extern char *to_utf8_told(const char *text);
extern char *to_utf8_composed(const char *text, const char *what);
extern char *from_utf8(const char *text);

#endif /* SMS_ENCODING_H */
