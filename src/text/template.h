/*
 * template.h
 *		Does a text fit a template as providers register them?
 */
#ifndef SMS_TEMPLATE_H
#define SMS_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

/* Where a text and a template part. */
typedef struct TemplateMiss
{
	size_t fits;       /* bytes of the template's own words that the text has */
	size_t at;         /* so many characters into the text … */
	char expected[96]; /* … this is expected; empty: the end of the text */
	char found[96];    /* … and this stands there; empty: the end of the text */
} TemplateMiss;

extern bool template_fits(const char *template, const char *text, bool *fits, TemplateMiss *miss);

#endif /* SMS_TEMPLATE_H */
