/*
 * refusal.c
 *		Fills and raises refusals.
 */
#include "postgres.h"

#include "gateway/refusal.h"
#include "mb/pg_wchar.h"

/*
 * Cuts a text that filled its buffer where a character ends: half of one would not be
 * text of the database's encoding, and the outbox keeps some of these.
 */
static void
cut_at_character(char *text, size_t size)
{
	int len = (int) strlen(text);

	if (len == (int) size - 1)
		text[pg_mbcliplen(text, len, len)] = '\0';
}

/*
 * Fills a refusal: the SQLSTATE and texts of the error that it would be, without a
 * detail.  "hint" may be NULL.  Texts that are too long are cut.  Always returns
 * false, for "return refusal_fill(...)".
 */
bool
refusal_fill(Refusal *refusal, int sqlstate, const char *hint, const char *format, ...)
{
	va_list args;

	refusal->sqlstate = sqlstate;
	refusal->detail[0] = '\0';
	refusal->detail_log[0] = '\0';
	strlcpy(refusal->hint, hint != NULL ? hint : "", sizeof(refusal->hint));
	cut_at_character(refusal->hint, sizeof(refusal->hint));
	va_start(args, format);
	vsnprintf(refusal->message, sizeof(refusal->message), format, args);
	va_end(args);
	cut_at_character(refusal->message, sizeof(refusal->message));
	return false;
}

/* Adds a detail to a refusal that was filled.  Always returns false. */
bool
refusal_detail(Refusal *refusal, const char *detail)
{
	strlcpy(refusal->detail, detail, sizeof(refusal->detail));
	cut_at_character(refusal->detail, sizeof(refusal->detail));
	return false;
}

/* The same, where the detail names a phone: that is for the caller, and the server's log has another one. */
bool
refusal_details(Refusal *refusal, const char *detail, const char *for_log)
{
	refusal_detail(refusal, detail);
	strlcpy(refusal->detail_log, for_log, sizeof(refusal->detail_log));
	cut_at_character(refusal->detail_log, sizeof(refusal->detail_log));
	return false;
}

/* Raises a refusal as an ERROR, of the SQLSTATE that it was filled with. */
void
refusal_raise(const Refusal *refusal)
{
	ereport(ERROR, (errcode(refusal->sqlstate), errmsg("%s", refusal->message),
					refusal->detail[0] ? errdetail("%s", refusal->detail) : 0,
					refusal->detail_log[0] ? errdetail_log("%s", refusal->detail_log) : 0,
					refusal->hint[0] ? errhint("%s", refusal->hint) : 0));
}
