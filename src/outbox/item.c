/*
 * item.c
 *		A claimed message: from its row to what is sent.
 */
#include "postgres.h"

#include "base/bounds.h"
#include "base/encoding.h"
#include "catalog/pg_type.h"
#include "db/home.h"
#include "db/sql.h"
#include "gateway/choose.h"
#include "guard/mac.h"
#include "guard/otp.h"
#include "outbox/item.h"
#include "outbox/request_id.h"
#include "text/details.h"
#include "provider/table.h"
#include "text/text.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define ITEM_SIZE      6144 /* bytes; a usual message and its answer fit in */
#define SPARE_CONTEXTS 1024 /* as many as a round claims */

/*
 * Contexts of messages, empty, to be used again: making and freeing one for each message costs more
 * than filling it.  They belong to this process, not to a transaction or an engine.
 */
static struct
{
	MemoryContext contexts[SPARE_CONTEXTS];
	int n;
} spare;

static MemoryContext
take_context(MemoryContext parent)
{
	if (spare.n > 0)
	{
		MemoryContext context = spare.contexts[--spare.n];

		MemoryContextSetParent(context, parent);
		return context;
	}
	return AllocSetContextCreate(parent, "sms_gateway message", 0, ITEM_SIZE, ITEM_SIZE);
}

/* Gives a message back, with all that was allocated for it. */
void
item_free(OutboxItem *item)
{
	MemoryContext context = item->context;

	if (spare.n == SPARE_CONTEXTS)
	{
		MemoryContextDelete(context);
		return;
	}
	MemoryContextReset(context);
	MemoryContextSetParent(context, TopMemoryContext);
	spare.contexts[spare.n++] = context;
}

/* Writes {1,3} as "1,3", palloc'd; a NULL element as nothing, which is then refused. */
char *
item_join_routerule(ArrayType *array)
{
	Datum *elements;
	bool *nulls;
	int n;
	StringInfoData joined;

	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	initStringInfo(&joined);
	for (int i = 0; i < n; i++)
		appendStringInfo(&joined, "%s%s", i > 0 ? "," : "", nulls[i] ? "" : TextDatumGetCString(elements[i]));
	return joined.data;
}

/*
 * Adds what is made for this sending alone: the token for its callback, and a
 * one-time password, of which only a hash is kept.
 */
static void
complete_item(OutboxItem *item)
{
	Prepared *prepared = &item->prepared;
	const Provider *provider = item->gateway->provider;
	const char *callback = gateway_setting(provider, prepared->settings, provider->callback_option);

	if (callback != NULL && strstr(callback, TOKEN_PLACE) != NULL)
	{
		mac_token(item->row.id, prepared->token, sizeof(prepared->token));
		prepared->message.token = prepared->token;
	}
	/* Of a message that is in doubt, the code that may have arrived is the last one: nothing is sent now. */
	if (prepared->message.call == CALL_OTP && item->claimed_at == 0)
	{
		const char *asked = item->gateway->name;
		char told[256];

		/* Whoever asked for it checks it through the gateway that he asked, or through the one that sent it. */
		if (details_first_gateway(item->details, told, sizeof(told)))
			asked = from_utf8(told);
		if (item->gateway->otp_is_local)
			prepared->message.code = otp_make(prepared->message.length, prepared->message.digits_only);
		item->otp = otp_keep(asked, item->gateway->name, prepared->phone, prepared->message.code,
							 prepared->message.ttl);
	}
}

/* Has each attempt to send a message a new one-time password, made here? */
bool
item_makes_code(const OutboxItem *item)
{
	return item->gateway != NULL && item->prepared.message.call == CALL_OTP && item->gateway->otp_is_local;
}

/*
 * May an earlier request of this very message have been accepted?  Also where this database has adopted it: the one it
 * came from may have sent it.
 */
static bool
may_have_been_sent(const OutboxItem *item)
{
	const char *id = item->prepared.message.request_id;

	/* With a code that was made here, each attempt is another message. */
	if (item_makes_code(item))
		return false;
	return item->unsure_since != 0 ||
		   (id != NULL && request_id_is_ours(id) && !request_id_is_from(id, home_origin()));
}

/* What was read of a message, and is needed until it is prepared. */
typedef struct Unprepared
{
	OutboxItem *item;
	Draft draft;
	char *created_by;
	const char *too_long; /* a column that has not been read, as it is too long; NULL: none */
} Unprepared;

/* Columns that are read, and how long their values may be: the trigger sees to that, but not of rows that were restored. */
static const struct
{
	int column;
	int most;
	const char *name;
} item_bounds[] = {
	{ITEM_PHONE, BOUND_PHONE, "phone"},
	{ITEM_CONTENT, BOUND_CONTENT, "content"},
	{ITEM_TEMPLATE_CODE, BOUND_TEMPLATE_CODE, "template_code"},
	{ITEM_LIST_PARAM, BOUND_LIST_PARAM, "list_param"},
	{ITEM_ROUTERULE, BOUND_ROUTERULE, "routerule"},
	{ITEM_OPTIONS, BOUND_OPTIONS, "options"},
	{ITEM_REQUEST_ID, BOUND_REQUEST_ID, "request_id"},
	{ITEM_DETAILS, BOUND_RESULT, "details"},
	{ITEM_KIND, BOUND_KIND, "kind"},
};

/* The name of a column of a row of ITEM_COLUMNS that is too long to be read; NULL: none is. */
static const char *
find_too_long(int row)
{
	for (int i = 0; i < (int) lengthof(item_bounds); i++)
	{
		bool isnull;
		Datum value = sql_datum(row, item_bounds[i].column, &isnull);

		if (!isnull && bound_exceeded(value, item_bounds[i].most))
			return item_bounds[i].name;
	}
	return NULL;
}

/*
 * May a message go through a gateway, whatever it is called?  Its owner is trusted with every message of the role, or is
 * the one whose server was chosen when it was queued.  Fills the refusal if not.
 */
bool
item_may_go_through(const OutboxItem *item, const Gateway *gateway, Refusal *refusal)
{
	char *mark = gateway_owner_mark(gateway->owner, gateway->role);

	return mark == NULL || details_chose_owner(item->details, mark) || gateway_refuse_owner(gateway, refusal);
}

/* Who makes a server under the name of one that was dropped does not fail its messages by granting it to nobody. */
static void
hold_for_stranger(const OutboxItem *item, Refusal *refusal)
{
	const Provider *provider;
	const ForeignServer *server = gateway_server(item->gateway_name, &provider);
	Gateway stranger = {.name = item->gateway_name, .role = item->row.role};

	if (server == NULL)
		return;
	stranger.owner = server->owner;
	item_may_go_through(item, &stranger, refusal);
}

/* Finds what a message is to be sent with, or why it cannot be. */
static void
prepare_item(const Unprepared *read)
{
	OutboxItem *item = read->item;
	Refusal refusal;
	const char *told;
	Gateway *gateway = NULL;

	memset(&refusal, 0, sizeof(refusal));
	if (read->too_long != NULL)
		refusal_fill(&refusal, ERRCODE_INVALID_PARAMETER_VALUE, NULL, "%s is too long", read->too_long);
	else if (OidIsValid(item->row.role))
		gateway = gateway_get(item->gateway_name, item->row.role, &refusal);
	else
	{
		refusal.sqlstate = ERRCODE_UNDEFINED_OBJECT;
		snprintf(refusal.message, sizeof(refusal.message),
				 "the role that queued it, then called \"%s\", does not exist", read->created_by);
	}
	if (gateway == NULL && refusal.sqlstate == ERRCODE_INSUFFICIENT_PRIVILEGE)
		hold_for_stranger(item, &refusal);
	if (gateway != NULL && item_may_go_through(item, gateway, &refusal) &&
		gateway_prepare(gateway, &read->draft, &item->prepared, &refusal))
	{
		item->gateway = gateway;
		item->prepared.message.unsure = may_have_been_sent(item);
		if (item->prepared.message.request_id != NULL)
			item->prepared.message.request_id = request_id_on_wire(
				item->prepared.message.request_id, item->row.id, read->created_by, item->resent);
		gateway_hold(gateway);
		complete_item(item);
		return;
	}
	item->refusal = palloc(sizeof(refusal));
	*item->refusal = refusal;
	told = to_utf8_told(refusal.message);
	utf8_copy(item->refusal->message, sizeof(item->refusal->message), told, strlen(told));
}

/* What the user wrote, from a row of ITEM_COLUMNS. */
static void
read_draft(int row, Draft *draft)
{
	Datum datum;
	bool isnull;

	if (!kind_from_name(sql_text(row, ITEM_KIND), &draft->call))
		draft->call = CALL_TEXT;
	/* An MSISDN with a plus reads the same whatever the country code is. */
	draft->phone = psprintf("+%s", sql_text(row, ITEM_PHONE));
	draft->content = sql_text(row, ITEM_CONTENT);
	draft->template_code = sql_text(row, ITEM_TEMPLATE_CODE);
	datum = sql_datum(row, ITEM_LIST_PARAM, &isnull);
	if (!isnull)
		draft->list_param = (Jsonb *) PG_DETOAST_DATUM_COPY(datum);
	datum = sql_datum(row, ITEM_ROUTERULE, &isnull);
	if (!isnull)
		draft->routerule = item_join_routerule(DatumGetArrayTypeP(datum));
	datum = sql_datum(row, ITEM_OPTIONS, &isnull);
	if (!isnull)
		draft->options = (Jsonb *) PG_DETOAST_DATUM_COPY(datum);
	draft->request_id = sql_text(row, ITEM_REQUEST_ID);
	draft->digits_only = true;
}

/* Reads a message from a row of ITEM_COLUMNS, into a context of its own that is current. */
static OutboxItem *
read_item(int row, Unprepared *read)
{
	OutboxItem *item = palloc0(sizeof(OutboxItem));

	item->context = CurrentMemoryContext;
	item->row.id = sql_int64(row, ITEM_ID);
	item->row.role = creator_read(row, ITEM_CREATOR);
	item->priority = sql_int16(row, ITEM_PRIORITY);
	item->attempts = sql_int32(row, ITEM_ATTEMPTS);
	item->due = sql_time(row, ITEM_NEXT_ATTEMPT_AT, 0);
	item->created_at = sql_time(row, ITEM_CREATED_AT, 0);
	item->expires_at = sql_time(row, ITEM_EXPIRES_AT, DT_NOEND);
	item->unsure_since = sql_time(row, ITEM_UNSURE_SINCE, 0);
	read->item = item;
	read->created_by = pstrdup(sql_name(row, ITEM_CREATED_BY));
	item->gateway_name = pstrdup(sql_name(row, ITEM_GATEWAY));
	read->too_long = find_too_long(row);
	if (read->too_long != NULL)
		return item;
	item->details = to_utf8_told(sql_json(row, ITEM_DETAILS));
	item->resent = item->details != NULL ? details_resent(item->details) : 0;
	read_draft(row, &read->draft);
	return item;
}

/*
 * Reads the messages of a result of n rows, whose first columns are ITEM_COLUMNS, and prepares them: what
 * each is to be sent with, or why it cannot be.  With "leased" the next column is claimed_at.  Each
 * lives in a context of its own below "parent", until item_free().  Ends the result: preparing a
 * one-time password runs a statement.
 */
List *
item_read_all(int64 n, bool leased, MemoryContext parent)
{
	MemoryContext caller = CurrentMemoryContext;
	Unprepared *read = palloc0(sizeof(Unprepared) * Max(n, 1));
	List *items = NIL;

	for (int i = 0; i < n; i++)
	{
		OutboxItem *item;

		MemoryContextSwitchTo(take_context(parent));
		item = read_item(i, &read[i]);
		if (leased)
			item->claimed_at = sql_time(i, ITEM_COLUMN_COUNT, 0);
		MemoryContextSwitchTo(caller);
		items = lappend(items, item);
	}
	sql_done();
	for (int i = 0; i < n; i++)
	{
		MemoryContextSwitchTo(read[i].item->context);
		prepare_item(&read[i]);
	}
	MemoryContextSwitchTo(caller);
	pfree(read);
	return items;
}
