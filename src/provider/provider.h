/*
 * provider.h
 *		The one interface that a provider of messages implements.
 *
 * A provider is pure: it turns a message into a request and an answer into a
 * verdict.  It knows neither PostgreSQL nor libcurl, keeps no state and raises
 * no error.  A new provider is one new file and one line in list.h.
 * All text is UTF-8.
 */
#ifndef SMS_PROVIDER_H
#define SMS_PROVIDER_H

#include "provider/request.h"
#include "text/text.h"

/* The calls that a provider may offer; kinds of messages come first. */
typedef enum Call
{
	CALL_TEXT,
	CALL_OTP,
	CALL_OMNI,
	CALL_BULK,
	CALL_CHECK_OTP,
	CALL_STATUS,        /* what became of a message */
	CALL_STATUS_DETAIL, /* what CALL_STATUS leaves out: the operator */
	CALL_BALANCE,
	CALL_BRANDNAMES, /* under which the account may send */
	CALL_TEMPLATES,  /* that texts under a brandname have to fit */
	CALL_PRICE,      /* of a text, before it is sent */
	CALL_SENT_LIST,  /* what the account has sent in a period */
	CALL_COUNT
} Call;

#define CALL_BIT(call) (1u << (call))

/* Where an option may be given. */
#define OPTION_SERVER  1 /* CREATE SERVER */
#define OPTION_USER    2 /* CREATE USER MAPPING: secrets */
#define OPTION_MESSAGE 4 /* the options of one message */

typedef enum OptionType
{
	OPTION_TEXT, /* no control characters; at most max characters */
	OPTION_BOOL, /* read as "true" or "false" */
	OPTION_INT,
	OPTION_NUMBER,
	OPTION_DURATION,  /* PostgreSQL time units; read as milliseconds */
	OPTION_CHOICE,    /* one of "choices" */
	OPTION_URL,       /* where requests go */
	OPTION_LINK,      /* an address of the web for others, at most max characters; {token} may stand in it */
	OPTION_FILE,      /* absolute path */
	OPTION_INT_LIST,  /* '0,200' */
	OPTION_COUNTRIES, /* country codes: '84,1'; or 'all' */
	OPTION_ROUTE,     /* '1,3': one to three of 1, 2, 3, none twice */
	OPTION_DATE,      /* ISO 8601; read as written */
	OPTION_JSON,      /* a JSON object */
	OPTION_SERVER_NAME,
	OPTION_RATE, /* '5/hour'; read as "5 3600" */
} OptionType;

#define MAX_CHOICES 4

typedef struct OptionDef
{
	const char *name; /* NULL ends a table */
	unsigned where;
	OptionType type;
	const char *initial; /* value when not given, or NULL */
	double min;
	double max;
	const char *choices[MAX_CHOICES];
	bool superuser; /* only a superuser may set it */
} OptionDef;

/*
 * A provider's options for one message, in the order of its table; NULL where
 * neither given nor defaulted.
 */
typedef const char *const *Settings;

#define PROVIDER_MAX_OPTIONS 24
#define OPTION_BIT(index)    (1u << (index)) /* an option, by its place in the table */
#define MAX_ROUTES           3
#define REQUEST_ID_MAX       50 /* characters; eSMS's limit, kept for all */
#define OTP_PLACE            "{OTP}"
#define OTP_LOCAL            "local"
#define TOKEN_PLACE          "{token}"

/* A page of the list of what an account has sent: times in milliseconds of the epoch. */
typedef struct SentPage
{
	const char *list; /* which of its lists */
	long long from;
	long long to;
	int number; /* from 1 */
} SentPage;

#define SENT_PAGE_SIZE 200 /* messages of a page: with the longest of texts they fit into an answer */

typedef struct Message
{
	Call call;
	const char *const *phones; /* MSISDNs */
	int nphones;
	const char *content;
	TextShape shape; /* of content */
	const char *template_code;
	const char *list_param; /* a JSON object, or array where ordered_params is set, of texts */
	const char *routerule;  /* "1,3", or NULL */
	const char *request_id;
	int ttl;    /* seconds an OTP lives */
	int length; /* characters of an OTP */
	bool digits_only;
	const char *code;  /* an OTP to check; or the one to send, if it is made here */
	const char *token; /* stands in the place of {token} in a callback URL */
	const char
		*reference;       /* the provider's id of the message to ask about; of CALL_TEMPLATES the brandname */
	const SentPage *sent; /* what CALL_SENT_LIST asks for */
	bool unsure;          /* an earlier request of this message may have been accepted */
} Message;

/*
 * What an answer means for the message.  UNCERTAIN says only that the provider
 * may have accepted it: whether a repeat is safe is a question of its own.
 */
typedef enum Verdict
{
	VERDICT_ACCEPTED,
	VERDICT_PERMANENT, /* refused, and would be again */
	VERDICT_TRANSIENT, /* certainly not accepted; worth another try */
	VERDICT_THROTTLED, /* too fast; certainly not accepted */
	VERDICT_GATEWAY,   /* no message can pass this gateway now */
	VERDICT_UNCERTAIN,
} Verdict;

typedef struct Answer
{
	Verdict verdict;
	bool
		repeated; /* the request went more than once: the first one may have been accepted, whatever this says */
	bool coded;      /* the provider itself has answered, not what stands in front of it */
	bool ours;       /* "message" is in words of this extension, not of who answered */
	bool id_taken;   /* somebody else's message had its request_id: UNCERTAIN, and repeats prove nothing */
	int retry_after; /* seconds, -1 unless the server said so */
	int http_status; /* 0 if there was none */
	const char *why; /* in words of this extension, a constant; NULL: nothing is known but the verdict */
	char code[48];
	char message[512]; /* for the message's owner alone, unless it is ours: others get answer_reason() */
	char smsid[104];
	char id_omni_mess[104];
	char referent_id[104];
	char token[256];
} Answer;

/* A channel of a message that goes over several in turn, each with a report of its own. */
typedef struct Leg
{
	const char *channel; /* a constant */
	char request_id[REQUEST_ID_MAX + 1];
} Leg;

typedef enum Delivery
{
	DELIVERY_PENDING,
	DELIVERY_DELIVERED,
	DELIVERY_UNDELIVERED,
} Delivery;

/*
 * What a provider says of a message that it accepted: in answer to
 * CALL_STATUS, or unasked in a callback.  Empty where it says nothing.
 */
typedef struct Report
{
	Delivery delivery;
	char code[48]; /* the provider's own word for it */
	char message[256];
	char smsid[104];
	char id_omni_mess[104];
	char referent_id[104];
	char request_id[104];
	char token[104];
	char price[32]; /* a decimal number */
	int parts;      /* billed; 0: not told */
	char telco[48];
	char channel[8];      /* of the leg that it is about */
	char next_smsid[104]; /* of the leg that took over */
} Report;

/* One message of such a page. */
typedef struct SentEntry
{
	char request_id[104];
	char phone[24];
	Report report;
	bool refused; /* the provider took it, and then refused it */
} SentEntry;

/* What is wrong with a message, for the user: see complain() in support.c. */
typedef struct Complaint
{
	char message[256];
	const OptionDef
		*missing;     /* the option that it lacks, or NULL: whoever knows the server says how to set it */
	const char *hint; /* what else helps: a sentence, a constant; or NULL */
	bool unsupported; /* the gateway is not set up for this kind of message */
} Complaint;

/*
 * A provider.  A member may be left out (0, NULL) where its comment says so; test/unit/table.c
 * sees that the others are there.  No function keeps what it is given.
 */
typedef struct Provider
{
	const char *name;     /* its file's, and its foreign-data wrapper's */
	const char *base_url; /* for servers that give no other */
	unsigned calls;       /* CALL_BITs */
	unsigned
		identified; /* CALL_BITs of those whose request carries a request_id; CALL_OTP: if it is made here */
	int max_phones; /* receivers of one CALL_BULK, if it has that */
	const OptionDef *options;

	/* A server is not chosen for such a call by default, unless this option of it is given; or NULL. */
	const OptionDef *needs[CALL_COUNT];
	unsigned by_name_only; /* CALL_BITs: it is never chosen for these */

	/* Can this ever be sent?  Fills the complaint and returns false if not. */
	bool (*check)(Settings settings, const Message *message, Complaint *complaint);

	/*
	 * Which of its options (OPTION_BITs) does the request for a message carry?  Sets *request to what that is called,
	 * a constant.  NULL: all, in every request.
	 */
	unsigned (*carries)(Settings settings, const Message *message, const char **request);

	/* Fills an empty request; false only when memory is out. */
	bool (*build)(Settings settings, const Message *message, HttpRequest *request);

	/*
	 * Reads a whole HTTP answer into an answer that answer_read() began: it has what the
	 * HTTP status alone says, which stands where the provider's own text cannot be read.
	 */
	void (*read)(Settings settings, const Message *message, const HttpAnswer *http, Answer *answer);

	/* Is a second request for the same message harmless? */
	bool (*repeat_safe)(Settings settings, const Message *message);

	/*
	 * The legs of a message, in their order, up to MAX_ROUTES; returns how many.  0, or NULL: what is reported is about
	 * the message as a whole.
	 */
	int (*legs)(Settings settings, const Message *message, Leg *legs);

	/*
	 * In which of the lists that CALL_SENT_LIST asks for would a message be, with its request_id or one of its legs'?  NULL: in
	 * none.  The function, like the next, may be left out where there is no such call.
	 */
	const char *(*sent_list)(Settings settings, const Message *message);

	/* Reads a page of such a list, at most SENT_PAGE_SIZE entries; returns how many, -1 if it is none. */
	int (*read_sent)(const HttpAnswer *http, SentEntry *entries);

	/* How long the provider remembers a request_id, in seconds; 0: for good. */
	int repeat_window;

	/*
	 * Adds to a report what a JSON text says: the answer to CALL_STATUS or
	 * CALL_STATUS_DETAIL, or a callback.  Returns false if that is nothing.
	 */
	bool (*report)(const char *json, size_t len, Report *report);

	/* Reads the answer to CALL_BALANCE or CALL_PRICE, if it has that; false if it tells none. */
	bool (*balance)(const HttpAnswer *http, char *amount, size_t size);

	/*
	 * Reads the answer to CALL_BRANDNAMES or CALL_TEMPLATES, if it has that, into a JSON array from malloc: of
	 * {"brandname", "type"}, or of {"network", "template_id", "content"}.  NULL if it is none, or memory is out.
	 */
	char *(*list)(Call call, const HttpAnswer *http);

	/* The text of a message that has to fit a registered template of "*brandname"; NULL: it has none.  May be NULL. */
	const char *(*templated)(Settings settings, const Message *message, const char **brandname);

	/* How long after sending CALL_STATUS, if it has that, tells something, in seconds. */
	int status_window;

	/* Its one-time passwords are made and checked here, not by the provider: always, or where this option of the
	 * server is OTP_LOCAL; or NULL. */
	bool otp_is_local;
	const OptionDef *otp_option;

	/* Its one-time passwords go into a template: they have no text. */
	bool otp_by_template;

	/* Does the message go as a call, too, so that a landline can take it?  NULL: none does. */
	bool (*rings)(Settings settings, const Message *message);

	/* A template's variables may be given as an array. */
	bool ordered_params;

	/* Options that mean the same in all providers; or NULL. */
	const OptionDef *unicode_option;  /* auto, true or false */
	const OptionDef *callback_option; /* a URL, in which {token} may stand */
	const OptionDef *brandname_option;
	const OptionDef *templates_option; /* off, warn or refuse */
	const OptionDef *content_option;   /* a message's text, where it has no content */
} Provider;

#endif /* SMS_PROVIDER_H */
