/*
 * write.h
 *		What is known of messages is written onto their rows, many at once.
 */
#ifndef SMS_WRITE_H
#define SMS_WRITE_H

#include "db/sql.h"
#include "outbox/item.h"

/* What to write: rows that a statement reads, each of what is known of one message. */
typedef struct Writing
{
	Statement *statement; /* that writes them; it finds them by the columns' first, the message's id */
	const char *name;     /* as which it reads them */
	const SqlColumn *columns;
	int ncolumns;
	/* fills in the values of a row; nulls are false, and status_type is that of the values */
	void (*put)(const RowWrite *row, Oid status_type, Datum *values, bool *nulls);
	void (*before)(void); /* reads them all, before they are written; or NULL */
	/* Another message of the gateway has the row's request_id: writes something else; or NULL */
	void (*clash)(RowWrite *row);
} Writing;

/* Blanks the text of a message "o" that ends, where it has to be: the columns of an UPDATE's SET. */
#define BLANK(condition)                                                                                     \
	"content = CASE WHEN " condition " THEN NULL ELSE o.content END, "                                       \
	"list_param = CASE WHEN " condition " THEN NULL ELSE o.list_param END"
#define REDACTED "@sms_gateway_redacts(o.gateway, o.kind)"

extern void write_rows(const Writing *writing, dlist_head *rows);
extern void write_text(Datum *value, bool *isnull, const char *text);
extern void write_time(Datum *value, bool *isnull, TimestampTz time);

#endif /* SMS_WRITE_H */
