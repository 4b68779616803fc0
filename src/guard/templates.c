/*
 * templates.c
 *		What a provider has registered for a brandname, and whether a text fits that.
 *
 * A list is kept for each gateway, brandname and credentials: a role with a user mapping of its own has
 * another account.  A new list is a new row, and the last one counts, so nobody waits for anybody's transaction.
 */
#include "postgres.h"

#include "base/encoding.h"
#include "catalog/pg_type.h"
#include "db/scope.h"
#include "db/sql.h"
#include "guard/templates.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "text/template.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static Statement templates_fresh = {
	.sql = "SELECT templates FROM (SELECT templates, fetched_at FROM @sms_gateway_templates "
		   "WHERE gateway = $1 AND credentials = $2 AND brandname = $3 ORDER BY id DESC LIMIT 1) l "
		   "WHERE fetched_at > now() - interval '1 day'",
	.args = {NAMEOID, INT8OID, TEXTOID},
};

static Statement templates_insert = {
	.sql = "INSERT INTO @sms_gateway_templates (gateway, credentials, brandname, role, templates) "
		   "VALUES ($1, $2, $3, $4, $5::jsonb) RETURNING id",
	.args = {NAMEOID, INT8OID, TEXTOID, OIDOID, TEXTOID},
};

/* Older lists of the same, and what nobody has asked for in a month: credentials change. */
static Statement templates_delete = {
	.sql = "WITH old AS MATERIALIZED (SELECT t.id FROM @sms_gateway_templates t WHERE t.id < $4 AND "
		   "((t.gateway = $1 AND t.credentials = $2 AND t.brandname = $3) "
		   "OR t.fetched_at < now() - interval '30 days') LIMIT 1000 FOR UPDATE SKIP LOCKED) "
		   "DELETE FROM @sms_gateway_templates t USING old o WHERE t.id = o.id",
	.args = {NAMEOID, INT8OID, TEXTOID, INT8OID},
};

static Statement templates_texts = {
	.sql = "SELECT t.e->>'content', t.e->>'template_id' FROM (SELECT templates FROM @sms_gateway_templates "
		   "WHERE gateway = $1 AND credentials = $2 AND brandname = $3 ORDER BY id DESC LIMIT 1) l, "
		   "jsonb_array_elements(l.templates) t (e)",
	.args = {NAMEOID, INT8OID, TEXTOID},
};
enum
{
	TEXTS_CONTENT,
	TEXTS_ID,
};

/* The list that is kept for a gateway and a brandname (UTF-8), as JSON in the database's encoding; NULL if none is, or it is a day old. */
char *
templates_kept(const Gateway *gateway, const char *brandname)
{
	MemoryContext caller = CurrentMemoryContext;
	OwnerScope scope;
	NameData name;
	Datum values[] = {name_datum(&name, gateway->name), Int64GetDatum((int64) gateway->credentials),
					  CStringGetTextDatum(from_utf8(brandname))};
	char *list = NULL;

	scope_enter(&scope);
	if (sql_run(&templates_fresh, values) > 0)
		list = MemoryContextStrdup(caller, sql_json(0, 0));
	sql_done();
	scope_leave(&scope);
	return list;
}

/* Keeps a list, JSON in the database's encoding, for a gateway and a brandname (UTF-8). */
void
templates_keep(const Gateway *gateway, const char *brandname, const char *list)
{
	OwnerScope scope;
	NameData name;
	Datum values[] = {name_datum(&name, gateway->name), Int64GetDatum((int64) gateway->credentials),
					  CStringGetTextDatum(from_utf8(brandname)), ObjectIdGetDatum(gateway->role),
					  CStringGetTextDatum(list)};

	scope_enter(&scope);
	sql_run(&templates_insert, values);
	values[3] = Int64GetDatum(sql_int64(0, 0));
	sql_done();
	sql_run(&templates_delete, values);
	sql_done();
	scope_leave(&scope);
}

/* Where a text parts from the template that it comes nearest to. */
typedef struct Nearest
{
	TemplateMiss miss;
	char *id; /* NULL: there are no templates */
} Nearest;

/* Does the text (UTF-8) fit one of the rows that templates_texts has read, or are there none? */
static bool
fits_one(int64 n, const char *text, Nearest *nearest)
{
	nearest->id = NULL;
	for (int64 i = 0; i < n; i++)
	{
		char *template = to_utf8_composed(sql_text((int) i, TEXTS_CONTENT), "template");
		TemplateMiss miss;
		bool fits;

		CHECK_FOR_INTERRUPTS();
		if (!template_fits(template, text, &fits, &miss))
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		if (fits)
			return true;
		if (nearest->id == NULL || miss.fits > nearest->miss.fits)
		{
			char *id = sql_text((int) i, TEXTS_ID);

			nearest->miss = miss;
			nearest->id = id != NULL ? id : pstrdup("?");
		}
	}
	return n == 0;
}

/* Tells that a text fits no template, as a warning or an error. */
static void
tell_nearest(const Gateway *gateway, const char *brandname, const Nearest *nearest, bool refuse)
{
	const TemplateMiss *miss = &nearest->miss;
	char *found =
		miss->found[0] ? psprintf("\"%s\"", from_utf8(miss->found)) : pstrdup("the end of the text");
	char *expected =
		miss->expected[0] ? psprintf("\"%s\"", from_utf8(miss->expected)) : pstrdup("the end of the text");

	ereport(
		refuse ? ERROR : WARNING,
		(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		 errmsg("the text fits no template of brandname \"%s\"", from_utf8(brandname)),
		 errdetail("The nearest is template %s. Behind %zu characters it goes on with %s, the text with %s.",
				   nearest->id, miss->at, expected, found),
		 errdetail_log("The nearest is template %s, up to character %zu of the text.", nearest->id, miss->at),
		 errhint("sms_templates('%s') shows them, and with refresh => true reads them anew.",
				 gateway->name)));
}

/*
 * Holds a message's text against the templates that are registered for its brandname, where the gateway's option
 * check_templates asks for that: raises 22023, or warns, if it fits none.  Where no list is kept, or it is empty,
 * nothing is known.
 */
void
templates_check(const Gateway *gateway, const Prepared *prepared)
{
	const Provider *provider = gateway->provider;
	const char *how = gateway_setting(provider, gateway->settings, provider->templates_option);
	const char *brandname = NULL;
	const Message *message = &prepared->message;
	const char *text;
	char *with_code = NULL;
	OwnerScope scope;
	NameData name;
	Nearest nearest;
	Datum values[3];
	bool fits;

	if (how == NULL || strcmp(how, "off") == 0)
		return;
	text = provider->templated(prepared->settings, message, &brandname);
	if (text == NULL || brandname == NULL)
		return;
	if (message->call == CALL_OTP)
	{
		char code[16] = {0};

		memset(code, '0', Min(message->length, (int) sizeof(code) - 1));
		with_code = text_replace(text, OTP_PLACE, code);
		text = with_code != NULL ? pstrdup(with_code) : text;
		free(with_code);
	}
	values[0] = name_datum(&name, gateway->name);
	values[1] = Int64GetDatum((int64) gateway->credentials);
	values[2] = CStringGetTextDatum(from_utf8(brandname));
	scope_enter(&scope);
	fits = fits_one(sql_run(&templates_texts, values), text, &nearest);
	if (!fits)
		tell_nearest(gateway, brandname, &nearest, strcmp(how, "refuse") == 0);
	sql_done();
	scope_leave(&scope);
}
