/*
 * sms_gateway.h
 *		What the server-side files share, grouped by the file that defines it.
 *
 * Arrows go one way: functions, worker → engine → outbox, http, gateway →
 * providers → message.
 */
#ifndef SMS_GATEWAY_H
#define SMS_GATEWAY_H

#include "compat.h"

#include "access/htup.h"
#include "datatype/timestamp.h"
#include "lib/ilist.h"
#include "nodes/pg_list.h"
#include "provider.h"
#include "storage/itemptr.h"
#include "transport.h"
#include "utils/array.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"

#define EXTENSION_NAME    "sms_gateway"
#define REQUEST_ID_PREFIX "sgw-" /* of request ids made here */

/* Advisory locks of SQL have class 1 or 2; nobody can take ours from SQL. */
#define OUR_LOCK_CLASS 7

/* ---- in sms_gateway.c ---- */
extern bool guc_enabled;
extern char *guc_databases;
extern char *guc_default_gateway;
extern int guc_max_in_flight; /* requests at once, all gateways */
extern int guc_batch_size;    /* messages claimed at once */
extern int guc_retry_initial; /* ms */
extern int guc_retry_max;     /* ms */
extern int guc_retention;     /* s; 0: for good */

/* ---- in functions.c ---- */
extern char *answer_text(const Answer *answer);

/* ---- in encoding.c ---- */
extern char *to_utf8(const char *text, const char *what);
extern char *to_utf8_composed(const char *text, const char *what);
extern char *from_utf8(const char *text);

/* ---- in gateway.c ---- */

/* An error found where none may be raised; gateway_raise() raises it. */
typedef struct GatewayError
{
	int sqlstate;
	char message[512];
	char detail[256];
	char hint[512];
} GatewayError;

/* So many messages in so many seconds; 0 seconds: no limit. */
typedef struct Rate
{
	int messages;
	int seconds;
} Rate;

/* Which ends of messages are told by NOTIFY. */
typedef enum Events
{
	EVENTS_FAILURES,
	EVENTS_FINAL,
	EVENTS_OFF,
} Events;

/*
 * A foreign server and one role's credentials for it, ready for use.  It lives
 * in a cache; it stays valid while "users" is not zero, even when it went stale.
 */
typedef struct Gateway
{
	Oid server;
	Oid role;
	char *name;
	const Provider *provider;
	HttpEndpoint endpoint;
	int max_in_flight;
	double rate_limit; /* messages a second; 0: none */
	int max_attempts;
	int max_parts;
	const char *country_code;
	const char *fallback; /* or NULL */
	bool resend_uncertain;
	bool poll_delivery;
	Events events;
	bool unaccent;
	bool redact;
	double min_balance; /* NaN: none */
	Rate otp_per_phone;
	Rate per_phone;
	Rate per_role;
	int daily_budget;                           /* messages; 0: no limit */
	const char *settings[PROVIDER_MAX_OPTIONS]; /* UTF-8 */
	bool stale;
	int users;
	MemoryContext context;
	struct Gateway *next;
} Gateway;

/* A message as a user wrote it, in the database's encoding. */
typedef struct Draft
{
	Call call;
	const char *phone;
	const char *content;
	const char *template_code;
	const char *list_param;
	const char *routerule; /* "1,3" */
	const char *request_id;
	const char *code;
	Jsonb *options;
	int ttl; /* seconds */
	int length;
	bool digits_only;
	const char *const *phones; /* CALL_BULK */
	int nphones;
} Draft;

/* A message that passed all checks, and the settings that apply to it. */
typedef struct Prepared
{
	Message message;
	Settings settings;
	char phone[MSISDN_SIZE];
	char token[64];
	const char *phone_list[1];
	const char *own_settings[PROVIDER_MAX_OPTIONS];
} Prepared;

extern void gateway_init(void);
extern bool gateway_raise(const GatewayError *error);
extern const char *gateway_choose(Call call, Oid role, GatewayError *error);
extern Gateway *gateway_get(const char *name, Oid role, GatewayError *error);
extern void gateway_hold(Gateway *gateway);
extern const Provider *gateway_provider(const char *name);
extern Events gateway_events(const char *name);
extern bool gateway_uses_tokens(const char *name);
extern bool gateway_redacts(const char *name);
extern const char *gateway_setting(const Provider *provider, Settings settings, const OptionDef *option);
extern bool gateway_query(const Gateway *gateway, Call call, const char *reference, HttpRequest *request);
extern List *gateway_names(void);
extern bool gateway_prepare(Gateway *gateway, const Draft *draft, Prepared *prepared, GatewayError *error);
extern const char *kind_name(Call call);
extern bool kind_from_name(const char *name, Call *call);

/* ---- the outbox: what its files share with the others ---- */

#define OUTBOX_SECRET_SIZE 32

/* A message's row that is to be written; in a list of such rows. */
typedef struct RowWrite
{
	int64 id;
	Oid role;       /* who queued it; InvalidOid: is no more */
	bool unchanged; /* nothing is to be written */
	bool recorded;  /* in the round under way */
	dlist_node node;
} RowWrite;

/* A claimed message; it lives in its own memory context. */
typedef struct OutboxItem
{
	RowWrite row; /* in a ready list, or in the list of outcomes; unchanged: it was not tried */
	MemoryContext context;
	int priority;
	int attempts;
	TimestampTz due; /* next_attempt_at */
	TimestampTz created_at;
	TimestampTz expires_at;   /* DT_NOEND: never */
	TimestampTz unsure_since; /* 0: no attempt is in doubt */
	TimestampTz claimed_at;   /* of an orphan: when its lease was taken */
	Gateway *gateway;         /* NULL: "refusal" says why */
	GatewayError *refusal;
	char *gateway_name;
	char *details; /* JSON, or NULL */
	Prepared prepared;
	struct Lease *lease;
	struct GatewayQueue *queue;
	HttpTransfer *transfer;

	/* the outcome, to be recorded */
	const char *new_status;
	const char *new_gateway;     /* when another takes over */
	TimestampTz next_attempt_at; /* 0: NULL */
	TimestampTz sent_at;         /* 0: NULL */
	TimestampTz poll_at;         /* when to ask whether it was delivered; 0: not */
	Answer *answer;              /* NULL: leave those columns alone */
	char *new_details;           /* JSON, or NULL */
} OutboxItem;

/* The messages of one claim that are not settled yet. */
typedef struct Lease
{
	int64 id;
	int size;
	int settled;  /* in the round under way */
	bool shrinks; /* some of those went back to the queue */
	dlist_node node;
} Lease;

typedef struct LaneKey
{
	NameData gateway;
	int16 priority;
} LaneKey;

/* One range of the due index, and how far it has been claimed. */
typedef struct Lane
{
	NameData gateway;
	int16 priority;
	TimestampTz after_due; /* claimed up to here … */
	int64 after_id;
	TimestampTz next_due; /* when the next waiting message is due; DT_NOEND: none */
	bool drained;         /* nothing due was left at the last look */
} Lane;

typedef struct GatewayPause
{
	NameData gateway;
	bool by_user;
} GatewayPause;

/* May the worker do its part? */
typedef enum OutboxState
{
	OUTBOX_READY,
	OUTBOX_GONE, /* the extension is not here */
	OUTBOX_HELD, /* it is another library's, or another database's */
} OutboxState;

/* For functions that users call: as the table's owner, in their transaction. */
typedef struct OwnerScope
{
	Oid user;
	int security;
	int guc_level;
} OwnerScope;

/* What is learnt of a message that was sent. */
typedef struct FollowUp
{
	RowWrite row;
	const Report *report; /* NULL: nothing */
	TimestampTz poll_at;  /* when to ask again; 0: not at all; DT_NOBEGIN: as before */
} FollowUp;

/* A message whose delivery is to be asked about. */
typedef struct Follow
{
	int64 id;
	char *gateway;
	char *reference; /* the provider's id; NULL: none is known */
	char *status;
	Oid role;
	TimestampTz sent_at;
	TimestampTz poll_at;
} Follow;

/* ---- in outbox_home.c ---- */
extern bool outbox_home(void);
extern int64 outbox_origin(void);
extern void outbox_create_identity(void);
extern void outbox_require_home(void);
extern int64 outbox_adopt(Datum states, Oid role);
extern char *outbox_request_id(int64 origin, int64 id, TimestampTz created_at);
extern Oid outbox_relation(const char *name);
extern Oid outbox_relation_or_none(const char *name);
extern const uint8 *outbox_secret(void);

/* ---- in outbox_sql.c ---- */
extern OutboxState outbox_enter_worker(int elevel);
extern void outbox_leave_worker(void);
extern void outbox_enter(OwnerScope *scope);
extern void outbox_leave(OwnerScope *scope);

/* ---- in outbox.c ---- */
extern void outbox_lane_end(LaneKey *end);
extern bool outbox_next_lane(LaneKey *lane, const LaneKey *end);
extern List *outbox_claim(Lane *lane, int limit, TimestampTz now, MemoryContext parent);
extern void outbox_free_item(OutboxItem *item);
extern TimestampTz outbox_lane_due(const Lane *lane, TimestampTz now);
extern int64 outbox_lease_add(List *items, TimestampTz now);
extern void outbox_lease_drop(int64 lease);
extern void outbox_lease_set(int64 lease, const Datum *ids, int n);
extern void outbox_lease_clear(void);
extern List *outbox_orphans(MemoryContext parent);
extern bool outbox_purge(TimestampTz before, int64 *after);
extern List *outbox_pauses(void);
extern void outbox_pause(const char *gateway, const char *reason, bool by_user);
extern bool outbox_resume(const char *gateway, bool by_user);
extern bool outbox_request_id_used(const char *gateway, const char *request_id);
extern char *outbox_join_routerule(ArrayType *array);
extern bool outbox_idle(bool but_paused, bool but_locked);
extern bool outbox_cancel(int64 id, Oid role);
extern bool outbox_retry(int64 id, Oid role);
extern bool outbox_resolve(int64 id, const char *status, Oid role);
extern void outbox_otp_add(const char *gateway, const char *phone, Datum salt, Datum hash, TimestampTz until);
extern bool outbox_otp_use(const char *gateway, const char *phone, int64 id);

/* ---- in outbox_record.c ---- */
extern Oid outbox_status_label(Oid type, const char *label);
extern void outbox_record(dlist_head *outcomes);
extern int outbox_expire(TimestampTz now, TimestampTz *next);
extern void outbox_follow(dlist_head *followups);
extern bool outbox_follow_one(FollowUp *followup);
extern void outbox_notify(Events events, const char *status, int64 id, const char *gateway, const char *code);

/* ---- in outbox_report.c ---- */
extern List *outbox_polls(const char *gateway, TimestampTz after, int64 after_id, TimestampTz now, int limit);
extern TimestampTz outbox_poll_due(const char *gateway, TimestampTz after);
extern Follow *outbox_sent_message(int64 id, Oid role);
extern int64 outbox_find_message(const char *gateway, const Report *report, int64 id, Oid *role,
								 char **status, bool *by_id_only);
extern void outbox_keep_report(const char *gateway, const Report *report, const char *json, int64 message);
extern void outbox_match_reports(bool answered);
extern void outbox_purge_kept(void);

/* ---- in mac.c ---- */
#define MAC_SIZE 32
extern void strong_random(void *bytes, size_t n);
extern int64 random_int64(void);
extern void mac_texts(const char *const *texts, int n, uint8 mac[MAC_SIZE]);
extern bool mac_equal(const uint8 *a, const uint8 *b);
extern void mac_token(int64 id, char *token, size_t size);
extern int64 mac_token_id(const char *token);

/* ---- in counter.c ---- */

/* The first two columns of a row that counts. */
typedef struct Counter
{
	int64 count;
	TimestampTz until;
} Counter;

typedef bool (*CounterChange)(Counter *counter, void *arg);

extern HeapTuple counter_find(Relation table, const char *index_name, const char *gateway, const char *text);
extern void counter_make(Relation table, const char *index_name, const char *gateway, const char *text);
extern bool counter_change(Relation table, ItemPointer tid, bool durable, CounterChange change, void *arg);

/* ---- in otp.c ---- */
extern char *otp_make(int length, bool digits_only);
extern void otp_keep(const char *gateway, const char *phone, const char *code, int ttl);
extern bool otp_check(const char *gateway, const char *phone, const char *code);

/* ---- in limits.c ---- */
extern void limits_take(const Gateway *gateway, const Message *message, bool direct);
extern void limits_keep(bool sent);

/* ---- in poll.c ---- */
extern void poll_create(MemoryContext parent);
extern void poll_destroy(void);
extern TimestampTz poll_sent(Gateway *gateway, const Answer *answer);
extern void poll_turn(bool busy);
extern bool poll_round_needed(double now, TimestampTz wall);
extern void poll_round(void);
extern void poll_committed(void);
extern void poll_aborted(void);
extern double poll_time_to_wait(double now, TimestampTz wall);
extern bool poll_idle(TimestampTz wall);
extern void poll_tell_balance(const char *gateway, const char *amount, double minimum);

/* ---- in engine.c ---- */
extern double now_ms(void);
extern bool engine_spare_request(const Gateway *gateway, double now, double *again);
extern bool engine_run(bool in_session);
extern bool engine_claimed(int64 id);

/* ---- in worker.c ---- */
extern void worker_leaves_gently(void);
extern bool worker_asked_to_leave(void);

/* ---- in launcher.c ---- */

/* A due time that wakes the worker without having it look back. */
#define WAKE_ONLY (DT_NOEND - 1)

extern void launcher_init(void);
extern void wake_at_commit(TimestampTz due);
extern bool launcher_is_there(void);
extern void start_worker_at_commit(void);
extern bool worker_attach(void);
extern void worker_detach(bool held);
extern bool worker_must_hurry(void);
extern TimestampTz worker_take_wake(void);

#endif /* SMS_GATEWAY_H */
