/*
 * echo.h
 *		Hides in what a provider has answered whatever it repeats of what it was sent.
 *
 * Pure C: no PostgreSQL, no network.  All text is UTF-8.
 */
#ifndef SMS_ECHO_H
#define SMS_ECHO_H

#include <stdbool.h>
#include <stddef.h>

/* What must not be repeated, and so how sure a finding has to be. */
typedef enum EchoKind
{
	ECHO_SECRET, /* credentials, tokens */
	ECHO_TEXT,   /* of a message */
	ECHO_CODE,   /* a one-time password: few characters, which occur by chance */
	ECHO_KINDS
} EchoKind;

#define ECHO_MAX 32 /* needles */

/* What a request held.  The texts live as long as this does. */
typedef struct EchoNeedles
{
	int n;
	EchoKind kind[ECHO_MAX];
	const char *text[ECHO_MAX];
	const char *const *phones; /* MSISDNs */
	int nphones;
} EchoNeedles;

extern void echo_add(EchoNeedles *needles, EchoKind kind, const char *text);
extern size_t echo_hide(char *text, size_t len, const EchoNeedles *needles);
extern bool echo_is_hidden(const char *text);

#endif /* SMS_ECHO_H */
