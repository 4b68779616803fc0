/*
 * insert.c
 *		The trigger of the outbox: what is inserted is checked, completed and, at
 *		commit, announced to the worker.
 *
 * It runs for every row that is queued: no SQL here, nothing but cached look-ups.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "base/bounds.h"
#include "base/compat.h"
#include "base/encoding.h"
#include "db/home.h"
#include "db/sql.h"
#include "db/status.h"
#include "gateway/choose.h"
#include "gateway/prepare.h"
#include "guard/limits.h"
#include "guard/templates.h"
#include "outbox/held.h"
#include "outbox/item.h"
#include "outbox/request_id.h"
#include "miscadmin.h"
#include "provider/table.h"
#include "text/details.h"
#include "wake/wake.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(sms_outbox_insert);
PG_FUNCTION_INFO_V1(sms_outbox_update);

/* The columns of sms_outbox, in the order in which they stand there. */
enum
{
	COL_ID,
	COL_GATEWAY,
	COL_KIND,
	COL_PHONE,
	COL_CONTENT,
	COL_TEMPLATE_CODE,
	COL_LIST_PARAM,
	COL_ROUTERULE,
	COL_OPTIONS,
	COL_PRIORITY,
	COL_SEND_AFTER,
	COL_EXPIRES_AT,
	COL_REQUEST_ID,
	COL_CREATED_BY,
	COL_CREATED_AT,
	COL_STATUS,
	COL_ATTEMPTS,
	COL_NEXT_ATTEMPT_AT,
	COL_SMSID,
	COL_ID_OMNI_MESS,
	COL_REFERENT_ID,
	COL_RESULT_CODE,
	COL_RESULT_MESSAGE,
	COL_HTTP_STATUS,
	COL_SENT_AT,
	COL_DELIVERED_AT,
	COL_PRICE,
	COL_PARTS,
	COL_DETAILS,
	COL_UNSURE_SINCE,
	COL_ORIGIN,
	COL_POLL_AT,
	COL_COUNT /* of 0.1.0: later columns may stand behind some of the user's, and are found by name */
};

static const char *const column_names[COL_COUNT] = {
	[COL_ID] = "id",
	[COL_GATEWAY] = "gateway",
	[COL_KIND] = "kind",
	[COL_PHONE] = "phone",
	[COL_CONTENT] = "content",
	[COL_TEMPLATE_CODE] = "template_code",
	[COL_LIST_PARAM] = "list_param",
	[COL_ROUTERULE] = "routerule",
	[COL_OPTIONS] = "options",
	[COL_PRIORITY] = "priority",
	[COL_SEND_AFTER] = "send_after",
	[COL_EXPIRES_AT] = "expires_at",
	[COL_REQUEST_ID] = "request_id",
	[COL_CREATED_BY] = "created_by",
	[COL_CREATED_AT] = "created_at",
	[COL_STATUS] = "status",
	[COL_ATTEMPTS] = "attempts",
	[COL_NEXT_ATTEMPT_AT] = "next_attempt_at",
	[COL_SMSID] = "smsid",
	[COL_ID_OMNI_MESS] = "id_omni_mess",
	[COL_REFERENT_ID] = "referent_id",
	[COL_RESULT_CODE] = "result_code",
	[COL_RESULT_MESSAGE] = "result_message",
	[COL_HTTP_STATUS] = "http_status",
	[COL_SENT_AT] = "sent_at",
	[COL_DELIVERED_AT] = "delivered_at",
	[COL_PRICE] = "price",
	[COL_PARTS] = "parts",
	[COL_DETAILS] = "details",
	[COL_UNSURE_SINCE] = "unsure_since",
	[COL_ORIGIN] = "origin",
	[COL_POLL_AT] = "poll_at",
};

/* How long values may be, in bytes, whichever kind of message has them; other columns are of fixed length. */
static const int column_bounds[COL_COUNT] = {
	[COL_KIND] = BOUND_KIND,
	[COL_PHONE] = BOUND_PHONE,
	[COL_CONTENT] = BOUND_CONTENT,
	[COL_TEMPLATE_CODE] = BOUND_TEMPLATE_CODE,
	[COL_LIST_PARAM] = BOUND_LIST_PARAM,
	[COL_ROUTERULE] = BOUND_ROUTERULE,
	[COL_OPTIONS] = BOUND_OPTIONS,
	[COL_REQUEST_ID] = BOUND_REQUEST_ID,
	[COL_SMSID] = BOUND_RESULT,
	[COL_ID_OMNI_MESS] = BOUND_RESULT,
	[COL_REFERENT_ID] = BOUND_RESULT,
	[COL_RESULT_CODE] = BOUND_RESULT,
	[COL_RESULT_MESSAGE] = BOUND_RESULT,
	[COL_PRICE] = BOUND_RESULT,
	[COL_DETAILS] = BOUND_RESULT,
};

typedef struct Row
{
	int natts;
	Datum *values;
	bool *nulls;
} Row;

/* What is looked up once, and again when a callback says that it may have changed. */
static struct
{
	NameData user_name; /* of user */
	Oid user;
	Oid sequence; /* that ids come from */
	Oid table;    /* whose columns are proved to be column_names; InvalidOid: none's */
	/* positions of later columns there; -1: it is a table of 0.1.0, not updated yet */
	int ended_at;
	int creator;
	bool watching;
} known;

static void
on_role_change(Datum arg, int cacheid, uint32 hash)
{
	(void) arg;
	(void) cacheid;
	(void) hash;
	known.user = InvalidOid;
}

static void
on_table_change(Datum arg, Oid relation)
{
	(void) arg;
	if (relation == InvalidOid || relation == known.table)
		known.table = InvalidOid;
}

static void
watch(void)
{
	if (known.watching)
		return;
	CacheRegisterSyscacheCallback(AUTHOID, on_role_change, (Datum) 0);
	CacheRegisterRelcacheCallback(on_table_change, (Datum) 0);
	known.watching = true;
}

static Name
current_user_name(void)
{
	if (known.user != GetUserId())
	{
		namestrcpy(&known.user_name, GetUserNameFromId(GetUserId(), false));
		known.user = GetUserId();
	}
	return &known.user_name;
}

/* The position of a column that 0.1.0 did not have; -1: it is not there. */
static int
find_later(TupleDesc desc, const char *name)
{
	for (int i = COL_COUNT; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped && namestrcmp(&TupleDescAttr(desc, i)->attname, name) == 0)
			return i;
	}
	return -1;
}

/* Raises 39P01 unless the table's columns stand where column_names has them. */
static void
prove_columns(Relation table)
{
	TupleDesc desc = RelationGetDescr(table);

	if (known.table == RelationGetRelid(table))
		return;
	for (int i = 0; i < COL_COUNT; i++)
	{
		if (i >= desc->natts || strcmp(NameStr(TupleDescAttr(desc, i)->attname), column_names[i]) != 0)
			ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
							errmsg("function \"%s\" must not be fired for table \"%s\"", "sms_outbox_insert",
								   RelationGetRelationName(table)),
							errdetail("The table does not have the columns of sms_outbox.")));
	}
	known.ended_at = find_later(desc, "ended_at");
	known.creator = find_later(desc, "creator");
	known.sequence = home_relation("sms_outbox_id_seq");
	known.table = RelationGetRelid(table);
}

/* Raises 22023 if a value is too long, before it is unpacked. */
static void
check_bounds(const Row *row)
{
	for (int i = 0; i < COL_COUNT; i++)
	{
		if (column_bounds[i] > 0 && !row->nulls[i])
			bound_check(row->values[i], column_bounds[i], column_names[i]);
	}
}

static void
set(Row *row, int column, Datum value)
{
	row->values[column] = value;
	row->nulls[column] = false;
}

static char *
text_of(const Row *row, int column)
{
	return row->nulls[column] ? NULL : TextDatumGetCString(row->values[column]);
}

/* Reads into "id", an int64, what this session has drawn last from the sequence of ids; raises 55000 if nothing. */
static void
read_drawn(void *id)
{
	Oid user;
	int security;

	/* No code of users' is called. */
	GetUserIdAndSecContext(&user, &security);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, security | SECURITY_LOCAL_USERID_CHANGE);
	*(int64 *) id = DatumGetInt64(DirectFunctionCall1(currval_oid, ObjectIdGetDatum(known.sequence)));
	SetUserIdAndSecContext(user, security);
}

/*
 * The id is the one that was drawn for the row, or a new one: who writes one of his own (OVERRIDING SYSTEM VALUE,
 * COPY) would else take that of a message yet to come, or of one that is no more and may be reported.
 */
static void
assign_id(Row *row)
{
	int64 drawn = 0;
	/* Whether it has drawn at all it forgets by DISCARD, also within a transaction. */
	ErrorData *error = sql_try(read_drawn, &drawn, 0);

	if (error != NULL)
		FreeErrorData(error);
	if (drawn == 0 || row->nulls[COL_ID] || DatumGetInt64(row->values[COL_ID]) != drawn)
		set(row, COL_ID, Int64GetDatum(nextval_internal(known.sequence, false)));
}

/* The gateway that the row names, else the default. */
static const char *
choose_gateway(Row *row, Call call)
{
	Refusal refusal;
	const char *name;
	Name chosen;

	if (!row->nulls[COL_GATEWAY])
		return NameStr(*DatumGetName(row->values[COL_GATEWAY]));
	name = gateway_choose(call, GetUserId(), &refusal);
	if (name == NULL)
		refusal_raise(&refusal);
	chosen = palloc0(NAMEDATALEN);
	namestrcpy(chosen, name);
	set(row, COL_GATEWAY, NameGetDatum(chosen));
	return NameStr(*chosen);
}

/* What the user wrote; what a kind of message has by default is written onto the row. */
static void
read_row(Row *row, const char *kind, Draft *draft)
{
	if (!kind_from_name(kind, &draft->call))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid kind of message: \"%s\"", kind),
				 errhint("Kinds are text, otp and omni.")));
	draft->digits_only = true;
	draft->phone = text_of(row, COL_PHONE);
	draft->content = text_of(row, COL_CONTENT);
	draft->template_code = text_of(row, COL_TEMPLATE_CODE);
	draft->request_id = text_of(row, COL_REQUEST_ID);
	if (!row->nulls[COL_LIST_PARAM])
		draft->list_param = DatumGetJsonbP(row->values[COL_LIST_PARAM]);
	/* A message that has ended may be blanked: NULL says that it was. */
	if (row->nulls[COL_LIST_PARAM] && draft->call == CALL_OMNI)
		set(row, COL_LIST_PARAM, DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	if (draft->content == NULL && draft->call == CALL_OTP)
	{
		draft->content = OTP_PLACE;
		set(row, COL_CONTENT, CStringGetTextDatum(OTP_PLACE));
	}
	if (!row->nulls[COL_ROUTERULE])
		draft->routerule = item_join_routerule(DatumGetArrayTypeP(row->values[COL_ROUTERULE]));
	if (!row->nulls[COL_OPTIONS])
		draft->options = DatumGetJsonbP(row->values[COL_OPTIONS]);
}

/* Adds a member to "details", if there is a value; it is fit for JSON as it is. */
static void
tell(Row *row, const char *name, const char *value)
{
	Datum member;

	if (value == NULL || value[0] == '\0')
		return;
	member = DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("{\"%s\": \"%s\"}", name, value)));
	set(row, COL_DETAILS,
		row->nulls[COL_DETAILS] ? member
								: DirectFunctionCall2(jsonb_concat, row->values[COL_DETAILS], member));
}

/* A text among the options is a message's text as any other: it is blanked when that is. */
static void
move_text(Row *row, const Gateway *gateway, const Prepared *prepared)
{
	const OptionDef *option = gateway->provider->content_option;
	const char *text = gateway_setting(gateway->provider, prepared->settings, option);

	if (!row->nulls[COL_CONTENT] || text == NULL)
		return;
	set(row, COL_CONTENT, CStringGetTextDatum(from_utf8(text)));
	set(row, COL_OPTIONS,
		DirectFunctionCall2(jsonb_delete, row->values[COL_OPTIONS],
							PointerGetDatum(cstring_to_text(option->name))));
}

/* Checks what the user wrote, and completes it. */
static void
check_message(Row *row)
{
	Draft draft = {0};
	Prepared prepared;
	Refusal refusal;
	Gateway *gateway;
	char *kind = row->nulls[COL_KIND] ? "text" : text_of(row, COL_KIND);

	read_row(row, kind, &draft);
	if (draft.request_id != NULL && request_id_is_ours(draft.request_id))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("a request_id must not start with \"%s\"", REQUEST_ID_PREFIX),
						errhint("Such ids are made here; leave request_id out to get one.")));

	gateway = gateway_get(choose_gateway(row, draft.call), GetUserId(), &refusal);
	if (gateway == NULL || !gateway_prepare(gateway, &draft, &prepared, &refusal))
		refusal_raise(&refusal);
	/* In tables of 0.1.0 there are no templates, and other counters: what is queued before the update meets neither. */
	if (known.creator >= 0)
	{
		templates_check(gateway, &prepared);
		limits_take(gateway, &prepared.message, false);
	}

	set(row, COL_KIND, CStringGetTextDatum(kind));
	set(row, COL_PHONE, CStringGetTextDatum(prepared.phone));
	move_text(row, gateway, &prepared);
	row->nulls[COL_DETAILS] = true;
	tell(row, "old_phone", prepared.old_phone); /* a number that has changed in 2018, as it was */
	tell(row, DETAILS_OWNER, gateway_owner_mark(gateway->owner, GetUserId()));
	row->nulls[COL_PARTS] = prepared.message.content == NULL;
	row->values[COL_PARTS] = Int32GetDatum(prepared.message.shape.parts);
}

/* A message that would have expired before it could be sent is refused. */
static void
check_times(const Row *row)
{
	TimestampTz expires_at;

	if (row->nulls[COL_EXPIRES_AT])
		return;
	expires_at = DatumGetTimestampTz(row->values[COL_EXPIRES_AT]);
	if (expires_at <= GetCurrentTransactionStartTimestamp())
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the message has expired already"),
						errdetail("Its expires_at is %s.", timestamptz_to_str(expires_at))));
	if (!row->nulls[COL_SEND_AFTER] && DatumGetTimestampTz(row->values[COL_SEND_AFTER]) >= expires_at)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("the message would expire before it could be sent"),
						errdetail("Its send_after is not earlier than its expires_at.")));
}

/* What became of the message is ours to write: nothing yet. */
static void
reset_outcome(Row *row, TupleDesc desc, int64 origin)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();
	TimestampTz due = row->nulls[COL_SEND_AFTER] ? now : DatumGetTimestampTz(row->values[COL_SEND_AFTER]);
	TimestampTz first = Max(due, now); /* the worker need not look for it among what was due long ago */

	for (int i = COL_STATUS; i < COL_COUNT; i++)
	{
		if (i != COL_PARTS && i != COL_DETAILS) /* check_message() has just written them */
			row->nulls[i] = true;
	}
	if (known.ended_at >= 0)
		row->nulls[known.ended_at] = true;
	set(row, COL_SEND_AFTER, TimestampTzGetDatum(due));
	if (row->nulls[COL_PRIORITY])
		set(row, COL_PRIORITY, Int16GetDatum(0));
	set(row, COL_CREATED_BY, NameGetDatum(current_user_name()));
	if (known.creator >= 0)
		set(row, known.creator, ObjectIdGetDatum(GetUserId()));
	set(row, COL_CREATED_AT, TimestampTzGetDatum(now));
	set(row, COL_STATUS, status_value(STATUS_QUEUED, TupleDescAttr(desc, COL_STATUS)->atttypid));
	set(row, COL_ATTEMPTS, Int32GetDatum(0));
	set(row, COL_NEXT_ATTEMPT_AT, TimestampTzGetDatum(first));
	set(row, COL_ORIGIN, Int64GetDatum(origin));
	if (row->nulls[COL_REQUEST_ID])
		set(row, COL_REQUEST_ID,
			CStringGetTextDatum(request_id_make(origin, DatumGetInt64(row->values[COL_ID]), now)));
	wake_at_commit(first);
}

/*
 * A row that says where it comes from is being restored, or was archived: it is
 * taken as it is, from those who may do so.  Only rows of this database are sent.
 */
static bool
is_restored(const Row *row, Oid table)
{
	return !row->nulls[COL_ORIGIN] && compat_owns_table(table, GetUserId());
}

/* 0.1.0 knew no time of the end, and what has none would stay for good: when it was last heard of, then. */
static bool
complete_end(Row *row)
{
	static const int heard[] = {COL_DELIVERED_AT, COL_SENT_AT, COL_CREATED_AT};

	if (known.ended_at < 0 || !row->nulls[known.ended_at] || !row->nulls[COL_NEXT_ATTEMPT_AT])
		return false;
	for (int i = 0; i < (int) lengthof(heard); i++)
	{
		if (!row->nulls[heard[i]])
		{
			set(row, known.ended_at, row->values[heard[i]]);
			return true;
		}
	}
	return false;
}

/* A row of this database that names a role, but not by its oid, is that role's: its owner says so, now. */
static bool
complete_creator(Row *row)
{
	Oid role;

	if (known.creator < 0 || !row->nulls[known.creator] || row->nulls[COL_CREATED_BY] ||
		DatumGetInt64(row->values[COL_ORIGIN]) != home_origin())
		return false;
	role = get_role_oid(NameStr(*DatumGetName(row->values[COL_CREATED_BY])), true);
	if (OidIsValid(role))
		set(row, known.creator, ObjectIdGetDatum(role));
	return OidIsValid(role);
}

/* Completes a restored row with what older versions did not know; returns whether that has changed it. */
static bool
complete_restored(Row *row)
{
	bool ended = complete_end(row);

	return complete_creator(row) || ended;
}

/* Raises 39P01 unless the function is called as a trigger BEFORE INSERT, or UPDATE, FOR EACH ROW. */
static void
prove_event(FunctionCallInfo fcinfo, const char *function, bool update)
{
	const TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function \"%s\" was not called by trigger manager", function)));
	if (!TRIGGER_FIRED_BEFORE(trigger->tg_event) || !TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!(update ? TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) : TRIGGER_FIRED_BY_INSERT(trigger->tg_event)))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function \"%s\" must be fired BEFORE %s FOR EACH ROW", function,
							   update ? "UPDATE" : "INSERT")));
}

/* Takes a row apart, which may get other values. */
static void
open_row(Row *row, const TriggerData *trigger, HeapTuple tuple)
{
	TupleDesc desc = RelationGetDescr(trigger->tg_relation);

	watch();
	prove_columns(trigger->tg_relation);
	row->natts = desc->natts;
	row->values = palloc(sizeof(Datum) * row->natts);
	row->nulls = palloc(sizeof(bool) * row->natts);
	heap_deform_tuple(tuple, desc, row->values, row->nulls);
}

Datum
sms_outbox_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc desc;
	Row row;

	prove_event(fcinfo, "sms_outbox_insert", false);
	desc = RelationGetDescr(trigger->tg_relation);
	open_row(&row, trigger, trigger->tg_trigtuple);
	if (is_restored(&row, RelationGetRelid(trigger->tg_relation)))
		return PointerGetDatum(complete_restored(&row) ? heap_form_tuple(desc, row.values, row.nulls)
													   : trigger->tg_trigtuple);

	check_bounds(&row);
	check_times(&row);
	check_message(&row);
	assign_id(&row);
	held_tell_once();
	/* In a copy, rows are taken and held: an application under test goes on. */
	reset_outcome(&row, desc, home_origin());
	return PointerGetDatum(heap_form_tuple(desc, row.values, row.nulls));
}

/* A statement that names the gateway of a message anew has chosen it, as its owner is now. */
static void
choose_owner(Row *row)
{
	const Provider *provider;
	const ForeignServer *server = gateway_server(NameStr(*DatumGetName(row->values[COL_GATEWAY])), &provider);
	bool created = known.creator >= 0 && !row->nulls[known.creator];

	if (!row->nulls[COL_DETAILS])
		set(row, COL_DETAILS,
			DirectFunctionCall2(jsonb_delete, row->values[COL_DETAILS],
								PointerGetDatum(cstring_to_text(DETAILS_OWNER))));
	if (server != NULL)
		tell(row, DETAILS_OWNER,
			 gateway_owner_mark(server->owner,
								created ? DatumGetObjectId(row->values[known.creator]) : InvalidOid));
}

/* Is the gateway among the columns that a statement sets? */
static bool
sets_gateway(const TriggerData *trigger)
{
	return bms_is_member(COL_GATEWAY + 1 - FirstLowInvalidHeapAttributeNumber, trigger->tg_updatedcols);
}

/*
 * What somebody changes by himself is no longer than what he may insert, and goes where he says.  The engine's changes
 * do not come here.
 */
Datum
sms_outbox_update(PG_FUNCTION_ARGS)
{
	const TriggerData *trigger = (TriggerData *) fcinfo->context;
	Row row;

	prove_event(fcinfo, "sms_outbox_update", true);
	open_row(&row, trigger, trigger->tg_newtuple);
	check_bounds(&row);
	if (row.nulls[COL_GATEWAY] || !sets_gateway(trigger))
		return PointerGetDatum(trigger->tg_newtuple);
	choose_owner(&row);
	return PointerGetDatum(heap_form_tuple(RelationGetDescr(trigger->tg_relation), row.values, row.nulls));
}
