/*
 * forget.c
 *		Erasing what is stored of a phone: in every table of the extension that has a number, or a text with one.
 *
 * The outbox has no index of phones: its entries are at random places, and measured, it doubles the WAL and adds a fifth
 * to the worker's time for each message, and to each INSERT more than that.  Numbers are erased seldom, and reading the
 * table once takes a second for some millions of rows.  Where an owner has made an index, it is used.
 */
#include "postgres.h"

#include "base/compat.h"
#include "catalog/pg_type.h"
#include "db/creator.h"
#include "db/home.h"
#include "db/sql.h"
#include "guard/mac.h"
#include "miscadmin.h"
#include "outbox/cleanup.h"
#include "outbox/forget.h"
#include "outbox/lease.h"
#include "text/phone.h"
#include "utils/array.h"
#include "utils/builtins.h"

#define VIETNAM_CODE "84" /* of gateways that have no other country_code */
#define AT_ONCE      1000 /* messages that are locked and deleted by one statement */
#define FORMS        2    /* of a number: as it is, and as it was until 2018 */
#define COUNTED_BY   3    /* counters of a phone: for messages, codes, and tries */
#define SHORTEST     8    /* digits of a number that no version refused; fewer could be anything in a text */
#define FORGOTTEN    "(forgotten)"

/* What number is meant. */
typedef struct Forgotten
{
	char forms[FORMS][MSISDN_SIZE];
	int nforms;
	bool literal;  /* it could not be read, and is searched for as it stands */
	Datum phones;  /* the forms, as text[] */
	Datum pattern; /* what matches it in a text, in any spelling */
	Datum likely;  /* text[]: what a text with it is LIKE */
} Forgotten;

static Statement forget_country_codes = {
	.sql = "SELECT DISTINCT coalesce((SELECT x.option_value FROM pg_options_to_table(s.srvoptions) x "
		   "WHERE x.option_name = 'country_code'), '" VIETNAM_CODE "') FROM pg_foreign_server s "
		   "JOIN pg_depend d ON d.classid = 'pg_foreign_data_wrapper'::regclass AND d.objid = s.srvfdw "
		   "AND d.deptype = 'e' JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass "
		   "AND e.oid = d.refobjid WHERE e.extname = 'sms_gateway'",
};

static Statement forget_find = {
	.sql = "SELECT o.id FROM @sms_outbox o WHERE o.phone = ANY ($1)",
	.args = {TEXTARRAYOID},
};

/* By their ids, in their order: who forgets the same phone at once waits, and both end. */
static Statement forget_lock = {
	.sql = "SELECT o.id, " CREATOR_COLUMNS " FROM @sms_outbox o "
		   "WHERE o.id = ANY ($1) AND o.phone = ANY ($2) FOR UPDATE",
	.args = {INT8ARRAYOID, TEXTARRAYOID},
};
enum
{
	MESSAGE_ID,
	MESSAGE_CREATOR,
};

/*
 * Those of unknown messages, or of messages that are gone, are known by their text, of which LIKE sorts out most.  The
 * subquery is hashed: a test phone may have tens of thousands of messages.
 */
static Statement forget_callbacks = {
	.sql = "DELETE FROM @sms_gateway_callback c WHERE c.message IN (SELECT unnest($1)) "
		   "OR c.report::text LIKE ANY ($2) AND c.report::text ~ $3",
	.args = {INT8ARRAYOID, TEXTARRAYOID, TEXTOID},
};

static Statement forget_codes = {
	.sql = "DELETE FROM @sms_gateway_otp c WHERE c.phone = ANY ($1)",
	.args = {TEXTARRAYOID},
};

static Statement forget_counters = {
	.sql = "DELETE FROM @sms_gateway_usage u WHERE u.subject = ANY ($1)",
	.args = {TEXTARRAYOID},
};

/* The next two keep what they say but for the number. */
static Statement forget_pauses = {
	.sql = "UPDATE @sms_gateway_state p SET reason = regexp_replace(p.reason, $1, '" FORGOTTEN "', 'g') "
		   "WHERE p.reason ~ $1",
	.args = {TEXTOID},
};

static Statement forget_refused = {
	.sql = "UPDATE @sms_gateway_refused r SET reason = regexp_replace(r.reason, $1, '" FORGOTTEN "', 'g') "
		   "WHERE r.reason ~ $1",
	.args = {TEXTOID},
};

/* ------------------------------------------------------------------------
 * Which number it is
 * ------------------------------------------------------------------------ */

pg_noreturn static void
refuse_number(const char *phone, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid phone number"),
					errdetail("The number is \"%s\". %s", phone, detail), errdetail_log("%s", detail),
					errhint("Write it with a plus sign and its country code, as +84 901 234 567.")));
}

/*
 * Reads a number with one country code; false, and why in *status, if it is none.  What another code has made of
 * it before must be the same.
 */
static bool
read_with_code(const char *phone, const char *code, Forgotten *number, PhoneStatus *status)
{
	char msisdn[MSISDN_SIZE];
	PhoneStatus found = phone_normalise(phone, code, msisdn);

	if (found != PHONE_OK)
	{
		*status = found;
		return false;
	}
	if (phone_kind(msisdn) == PHONE_OLD)
		phone_convert_old(msisdn);
	if (number->nforms > 0 && strcmp(msisdn, number->forms[0]) != 0)
		refuse_number(phone, "The gateways here have different country codes.");
	strlcpy(number->forms[0], msisdn, MSISDN_SIZE);
	number->nforms = 1;
	return true;
}

/* What could not be read, as a number that an earlier version has taken: digits, as they stand. */
static void
take_literally(const char *phone, PhoneStatus status, Forgotten *number)
{
	size_t n = strlen(phone);

	if (n < SHORTEST || n >= MSISDN_SIZE || strspn(phone, "0123456789") != n)
		refuse_number(phone, phone_status_text(status));
	strlcpy(number->forms[0], phone, MSISDN_SIZE);
	number->nforms = 1;
	number->literal = true;
}

/* Puts texts into a text[]. */
static Datum
text_array(Datum *texts, int n)
{
	return PointerGetDatum(construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/*
 * Makes what finds a number in a text: with the country code of Vietnam, or a 0 in its place, or neither; and not in
 * a longer number.
 */
static void
make_patterns(Forgotten *number)
{
	bool national = !number->literal && phone_kind(number->forms[0]) != PHONE_FOREIGN;
	const char *own[FORMS]; /* without the country code */
	Datum likely[FORMS];

	for (int i = 0; i < number->nforms; i++)
	{
		own[i] = number->forms[i] + (national ? strlen(VIETNAM_CODE) : 0);
		likely[i] = CStringGetTextDatum(psprintf("%%%s%%", own[i]));
	}
	number->likely = text_array(likely, number->nforms);
	number->pattern = CStringGetTextDatum(
		psprintf("(?<![0-9])[+]?%s(%s%s%s)(?![0-9])", national ? "((00)?" VIETNAM_CODE "|0)?" : "(00)?",
				 own[0], number->nforms > 1 ? "|" : "", number->nforms > 1 ? own[1] : ""));
}

/* Reads a number as the gateways here would.  Raises 22023 if it cannot be one, or could be more than one. */
static void
read_number(const char *phone, Forgotten *number)
{
	Datum texts[FORMS];
	PhoneStatus status = PHONE_EMPTY;
	int ncodes = (int) sql_run(&forget_country_codes, NULL);
	char **codes = palloc(sizeof(char *) * (ncodes + 1));

	for (int i = 0; i < ncodes; i++)
		codes[i] = sql_text(i, 0);
	sql_done();
	if (ncodes == 0)
		codes[ncodes++] = VIETNAM_CODE;
	memset(number, 0, sizeof(*number));
	for (int i = 0; i < ncodes; i++)
		(void) read_with_code(phone, codes[i], number, &status);
	if (number->nforms == 0)
		take_literally(phone, status, number);
	else if (phone_old_form(number->forms[0], number->forms[1]))
		number->nforms++;
	for (int i = 0; i < number->nforms; i++)
		texts[i] = CStringGetTextDatum(number->forms[i]);
	number->phones = text_array(texts, number->nforms);
	make_patterns(number);
}

/* ------------------------------------------------------------------------
 * Its messages
 * ------------------------------------------------------------------------ */

/* Raises 55006 if messages to it are on their way, as of now.  In a copy nothing is, whatever leases it has brought. */
static void
refuse_on_their_way(const Forgotten *number)
{
	int64 first;
	int n = home_is_ours() ? lease_count_to(number->phones, &first) : 0;

	if (n == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg_plural("%d message to this phone is on its way",
						   "%d messages to this phone are on their way", (unsigned long) n, n),
			 errdetail("The first is message %lld.", (long long) first),
			 errhint("Try again when they have been sent; sms_wait() waits for that. Where no worker runs, "
					 "CALL sms_drain() settles what was being sent.")));
}

/* Locks and deletes some messages, those that are still there.  Returns how many. */
static int
forget_page(const Forgotten *number, const Datum *ids, int n)
{
	Datum values[] = {sql_id_array(ids, n), number->phones};
	Old *olds = palloc0(sizeof(Old) * n);
	int found = (int) sql_run(&forget_lock, values);

	for (int i = 0; i < found; i++)
	{
		olds[i].id = sql_int64(i, MESSAGE_ID);
		olds[i].creator = creator_read(i, MESSAGE_CREATOR);
	}
	sql_done();
	refuse_on_their_way(number);
	if (!cleanup_delete(olds, found))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("messages to this phone cannot be deleted"),
				 errdetail("Triggers on sms_outbox must not run for who queued them, and a foreign key "
						   "refers to it.")));
	pfree(olds);
	return found;
}

/* Deletes all its messages.  Puts their ids into *ids; returns how many they were. */
static int64
forget_messages(const Forgotten *number, Datum *id_array)
{
	Datum phones = number->phones;
	int n = (int) sql_run(&forget_find, &phones);
	Datum *ids = palloc(sizeof(Datum) * (n + 1));
	int64 deleted = 0;

	for (int i = 0; i < n; i++)
		ids[i] = Int64GetDatum(sql_int64(i, MESSAGE_ID));
	sql_done();
	for (int i = 0; i < n; i += AT_ONCE)
		deleted += forget_page(number, ids + i, Min(n - i, AT_ONCE));
	*id_array = sql_id_array(ids, n);
	return deleted;
}

/* ------------------------------------------------------------------------
 * The rest
 * ------------------------------------------------------------------------ */

/* Deletes what counts its messages, codes and tries. */
static int64
forget_usage(const Forgotten *number)
{
	static const char *const kinds[COUNTED_BY] = {"phone", "otp", "check"};
	Datum texts[FORMS * COUNTED_BY];
	Datum subjects;
	int n = 0;

	for (int i = 0; i < number->nforms; i++)
	{
		char hidden[HIDDEN_PHONE_SIZE];

		mac_hide_phone(number->forms[i], hidden);
		for (int k = 0; k < COUNTED_BY; k++)
			texts[n++] = CStringGetTextDatum(psprintf("%s %s", kinds[k], hidden));
	}
	subjects = text_array(texts, n);
	return sql_run(&forget_counters, &subjects);
}

/* Raises 42501 unless the owner of the outbox, as whom this runs, owns the other tables too, and so sees all of their rows. */
static void
prove_all_are_seen(void)
{
	static const char *const tables[] = {"sms_gateway_callback", "sms_gateway_otp", "sms_gateway_usage",
										 "sms_gateway_state", "sms_gateway_refused"};

	for (int i = 0; i < (int) lengthof(tables); i++)
	{
		if (!compat_owns_table(home_relation(tables[i]), GetUserId()))
			ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
							errmsg("the owner of table sms_outbox must own table %s too", tables[i]),
							errdetail("It has rows that would not be erased.")));
	}
}

/*
 * Erases what is stored of a phone, for role.  Returns how many rows of which table were deleted, or changed, as JSON.
 * Raises 42501 unless role owns the outbox, 22023 if the number cannot be read, 55006 if a message to it is on
 * its way; and what users' foreign keys and triggers raise.
 */
char *
forget_phone(const char *phone, Oid role)
{
	Forgotten number;
	Datum values[3];
	int64 messages;
	int64 callbacks;
	int64 codes;
	int64 counters;
	int64 pauses;

	if (!compat_owns_table(home_relation("sms_outbox"), role))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of table sms_outbox")));
	prove_all_are_seen();
	read_number(phone, &number);
	messages = forget_messages(&number, &values[0]);
	values[1] = number.likely;
	values[2] = number.pattern;
	callbacks = sql_run(&forget_callbacks, values);
	codes = sql_run(&forget_codes, &number.phones);
	counters = forget_usage(&number);
	pauses = sql_run(&forget_pauses, &number.pattern) + sql_run(&forget_refused, &number.pattern);
	/* Nobody is to believe that a misspelt number is forgotten. */
	if (number.literal && messages + callbacks + codes + counters + pauses == 0)
		refuse_number(phone, "It is not one that the gateways here take, and nothing is stored of it.");
	return psprintf(
		"{\"messages\": %lld, \"reports\": %lld, \"codes\": %lld, \"counters\": %lld, \"reasons\": %lld}",
		(long long) messages, (long long) callbacks, (long long) codes, (long long) counters,
		(long long) pauses);
}
