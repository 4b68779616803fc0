/*
 * encoding.c
 *		Between the database's encoding and UTF-8, which is all that providers see.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/encoding.h"
#include "catalog/namespace.h"
#include "common/string.h"
#include "common/unicode_norm.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "text/text.h"
#include "utils/memutils.h"

/* Characters that are composed at once; the worst 1,024 take some 10 ms. */
#define STRETCH 1024

/*
 * Converts text of the database into UTF-8.  Returns palloc'd text, or the text itself where nothing
 * is to be converted; NULL for NULL.  Raises 22021 if it cannot be converted, as in an SQL_ASCII
 * database that holds anything else than UTF-8; "what" names the text in that error.
 */
char *
to_utf8(const char *text, const char *what)
{
	if (text == NULL || GetDatabaseEncoding() == PG_UTF8)
		return unconstify(char *, text);
	if (GetDatabaseEncoding() != PG_SQL_ASCII)
		return pg_server_to_any(text, strlen(text), PG_UTF8);
	if (!pg_verify_mbstr(PG_UTF8, text, strlen(text), true))
		ereport(ERROR, (errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE), errmsg("%s is not valid UTF-8", what),
						errhint("Gateways take UTF-8; a database in SQL_ASCII has to hold it as such.")));
	return unconstify(char *, text);
}

/*
 * The same for text that is told and not sent: what cannot be converted, in an SQL_ASCII database, becomes '?', and no
 * error is raised for it.
 */
char *
to_utf8_told(const char *text)
{
	char *told;

	if (text == NULL || GetDatabaseEncoding() != PG_SQL_ASCII ||
		pg_verify_mbstr(PG_UTF8, text, strlen(text), true))
		return to_utf8(text, "text");
	told = palloc(strlen(text) * 3 + 1);
	utf8_copy(told, strlen(text) * 3 + 1, text, strlen(text));
	return told;
}

/*
 * Appends a stretch of UTF-8, composed; returns where the next one begins.  The
 * server's normalization sorts marks in time that grows with the square of their
 * number, and cannot be interrupted meanwhile: so it gets no more than a stretch.
 */
static const char *
append_composed(StringInfo out, const char *text)
{
	pg_wchar characters[STRETCH + 1];
	const char *end = text;
	int n = 0;

	CHECK_FOR_INTERRUPTS();
	while (*end != '\0' && n < STRETCH)
	{
		const pg_wchar next[] = {utf8_to_unicode((const unsigned char *) end), 0};

		/* A good place to end: before what never composes with what is there. */
		if (n >= STRETCH / 2 && unicode_is_normalized_quickcheck(UNICODE_NFC, next) == UNICODE_NORM_QC_YES)
			break;
		characters[n++] = next[0];
		end += pg_encoding_mblen(PG_UTF8, end);
	}
	characters[n] = 0;
	if (unicode_is_normalized_quickcheck(UNICODE_NFC, characters) == UNICODE_NORM_QC_YES)
		appendBinaryStringInfo(out, text, (int) (end - text));
	else
	{
		pg_wchar *composed = unicode_normalize(UNICODE_NFC, characters);

		for (const pg_wchar *c = composed; *c != 0; c++)
		{
			unsigned char utf8[MAX_MULTIBYTE_CHAR_LEN];

			unicode_to_utf8(*c, utf8);
			appendBinaryStringInfo(out, (char *) utf8, pg_encoding_mblen(PG_UTF8, (char *) utf8));
		}
		pfree(composed);
	}
	return end;
}

/*
 * Converts text that goes to a phone into UTF-8 as to_utf8() does, and composes
 * letters with their marks (normalization form C of UAX #15).  Left apart, each mark
 * would be billed like another letter, some handsets would show it beside its letter,
 * and the text would not match that of a registered template.  Text that is not
 * composed comes from databases in WIN1258, which has no other form, and from macOS.
 */
char *
to_utf8_composed(const char *text, const char *what)
{
	char *utf8 = to_utf8(text, what);
	StringInfoData composed;

	if (utf8 == NULL || pg_is_ascii(utf8))
		return utf8;
	initStringInfo(&composed);
	for (const char *rest = utf8; *rest != '\0';)
		rest = append_composed(&composed, rest);
	return composed.data;
}

/* The conversion from UTF-8 into the database's encoding, once it was looked for. */
static struct
{
	bool known;
	bool exists;
	FmgrInfo function;
} conversion;

/*
 * Looks the conversion up that from_utf8() needs, once in a process.  That reads the catalogs, so it
 * takes a transaction; whoever calls from_utf8() where none is open has to call this before.
 */
void
encoding_prepare(void)
{
	Oid proc;

	if (conversion.known || GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII)
		return;
	proc = FindDefaultConversionProc(PG_UTF8, GetDatabaseEncoding());
	if (OidIsValid(proc))
		fmgr_info_cxt(proc, &conversion.function, TopMemoryContext);
	conversion.exists = OidIsValid(proc);
	conversion.known = true;
}

/*
 * Converts as much as goes of len bytes of UTF-8 into out, which ends with a zero then.  Returns the
 * number of bytes that were converted.
 */
static int
convert(const char *text, size_t len, char *out)
{
	if (!conversion.exists)
		return 0;
	return DatumGetInt32(FunctionCall6(&conversion.function, Int32GetDatum(PG_UTF8),
									   Int32GetDatum(GetDatabaseEncoding()), CStringGetDatum(text),
									   CStringGetDatum(out), Int32GetDatum((int) len), BoolGetDatum(true)));
}

/*
 * Converts UTF-8, which the caller knows to be valid, into the database's encoding; a
 * character that this cannot hold becomes '?'.  Returns palloc'd text, NULL for NULL.  Outside a
 * transaction it relies on encoding_prepare(), without which only ASCII is left.
 */
char *
from_utf8(const char *text)
{
	size_t len;
	char *out;
	size_t used = 0;

	if (text == NULL)
		return NULL;
	if (GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII || pg_is_ascii(text))
		return pstrdup(text);
	if (IsTransactionState())
		encoding_prepare();
	len = strlen(text);
	out = palloc0(len * MAX_CONVERSION_GROWTH + 1);
	while (len > 0)
	{
		unsigned c;
		int n = convert(text, len, out + used);

		used += strlen(out + used);
		text += n;
		len -= n;
		/* It stopped at a character that it cannot convert: that goes by itself. */
		if (len > 0)
		{
			n = Max(utf8_decode(text, len, &c), 1);
			out[used++] = n == 1 && (unsigned char) *text < 0x80 ? *text : '?';
			out[used] = '\0';
			text += n;
			len -= n;
		}
	}
	return out;
}
