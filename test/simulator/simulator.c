/*
 * simulator.c
 *		Plays the gateways of eSMS, eTelecom Omni and Interits on a loopback port, as
 *		their documentation has it, for tests, demos and users' own triggers.
 *
 * It checks credentials and fields, remembers RequestIds for 24 hours, makes and
 * checks one-time passwords, and keeps what it received.  It sends nothing to
 * anybody.  It can be told to be slow, wrong or silent:
 *
 *	POST   /simulator/fault     {"fault": "http", "value": 500, "count": 3, "match": "/api"}
 *	DELETE /simulator/fault     well-behaved again
 *	GET    /simulator/stats     {"requests": 12, "accepted": 10, "duplicates": 1}
 *	GET    /simulator/requests  the last requests, oldest first (?phone=84… for one phone)
 *	GET    /simulator/otp       ?phone=84…: the last one-time password
 *	DELETE /simulator/requests  forgets requests, RequestIds and passwords
 *	POST   /simulator/delivery  {"outcome": "pending"}: what a question for the status of any
 *	                            message tells: delivered (at first), undelivered, refused, pending
 *	POST   /simulator/balance   {"balance": 1000}
 *	POST   /simulator/sent      {"foreign": 200, "missing": "phrase", "endless": true}: what the list of sent messages has: so many
 *	                            others' messages before ours, none whose text holds the phrase, no end
 *
 * A fault applies to the next "count" requests (absent: all) whose path begins
 * with "match" (absent: any) and whose text holds "phrase" (absent: any); "share" (0 to 1) makes it hit at random.  Faults:
 *	latency (value: ms)         hang                close (after acting on the request)
 *	refuse (close before acting) http (value: status) retry_after (value: seconds)
 *	code (text: the provider's) garbage             empty          html
 *	truncate                    huge (value: MB)    redirect (text: URL)
 *	body (text: the answer; value: kB of blanks behind it)
 *	echo (text: the code): each field of the answer is, or holds, what was asked: as JSON, escaped for a URL, and as it is
 *	rate (value: requests a second that it takes; burst: at once, 1 if absent; text: seconds of
 *	Retry-After): 429 beyond it
 * http with 4xx or 503, retry_after and rate keep the provider from acting; the others come after it has acted.
 * Several faults can be in force; each request meets every one that matches.
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>
#include <microhttpd.h>

#include "text/json.h"
#include "text/phone.h"
#include "text/text.h"

#define MAX_UPLOAD      (4 * 1024 * 1024)
#define MAX_FAULTS      16
#define KEPT_REQUESTS   50000
#define REQUEST_ID_LIFE (24 * 3600)

static const char *api_key = "demo";
static const char *secret_key = "demo";
static const char *username = "demo";
static const char *password = "demo";
static FILE *log_file = NULL;

typedef struct Fault
{
	char name[16];
	char match[64];
	char text[1024];
	char phrase[64]; /* only requests in whose text this stands */
	double value;
	double share;
	long count; /* left; -1: without end */
	double burst;
	double tokens; /* of a rate … */
	double filled; /* … at this time */
} Fault;

/* One request while it is being received and answered. */
typedef struct Exchange
{
	char *body;
	size_t len;
	bool too_large;
	bool delayed; /* its latency has been arranged */
	bool taken;   /* the answer below is made */
	struct MHD_Response *response;
	unsigned status;
	bool hang;
} Exchange;

typedef struct Delay
{
	double due;
	struct MHD_Connection *connection;
} Delay;

static char delivery[16] = "delivered";
static double balance = 36693;

/* The daemon has one thread; only the delays are shared with another. */
static Fault faults[MAX_FAULTS];
static int nfaults = 0;
static char *kept[KEPT_REQUESTS]; /* JSON, a ring */
static unsigned long nkept = 0;
static unsigned long accepted = 0;
static unsigned long duplicates = 0;
static unsigned long received = 0;
static unsigned long refused = 0; /* as they came too fast */
static unsigned long serial = 0;
static struct lh_table *request_ids = NULL; /* RequestId → time it was taken */
static struct lh_table *passwords = NULL;   /* phone → code, then time it ends */

/* What eSMS has sent: one entry of GetSmsSentData_V2. */
typedef struct Sent
{
	char request_id[64];
	char phone[64];
	char type[8];
	char smsid[40];
	char *content;
	double time;
} Sent;

static Sent *sent = NULL;
static size_t nsent = 0;
static size_t sent_size = 0;
static long foreign = 0;
static bool endless_list = false;
static char missing[64] = "";

static pthread_mutex_t delay_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t delay_news;
static Delay *delays = NULL; /* a binary heap */
static size_t ndelays = 0;
static size_t delays_size = 0;

/* ------------------------------------------------------------------------
 * Small things
 * ------------------------------------------------------------------------ */

static double
seconds_now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void *
need(void *memory)
{
	if (memory == NULL)
	{
		fputs("simulator: out of memory\n", stderr);
		exit(1);
	}
	return memory;
}

static bool
same(const char *a, const char *b)
{
	return a != NULL && b != NULL && strcmp(a, b) == 0;
}

static const char *
query(struct MHD_Connection *connection, const char *name)
{
	return MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, name);
}

/* An id that no other answer of any run has, of the given length. */
static void
make_id(char *dst, size_t len, const char *prefix)
{
	static unsigned start = 0;
	int n;

	while (start == 0)
		if (getrandom(&start, sizeof(start), 0) < 0)
			start = (unsigned) time(NULL);
	n = snprintf(dst, len + 1, "%s%08x%016lx", prefix, start, ++serial);
	for (; (size_t) n < len; n++)
		dst[n] = "0123456789abcdef"[(serial + n * 7) & 15];
	dst[len] = '\0';
}

/* ------------------------------------------------------------------------
 * Answers
 * ------------------------------------------------------------------------ */

static void
answer_text(Exchange *x, unsigned status, const char *type, const char *text)
{
	x->status = status;
	x->response = need(MHD_create_response_from_buffer(strlen(text), (void *) text, MHD_RESPMEM_MUST_COPY));
	MHD_add_response_header(x->response, "Content-Type", type);
}

/* JSON with blanks behind it. */
static void
answer_padded(Exchange *x, const char *text, size_t blanks)
{
	size_t size = strlen(text) + blanks + 1;
	char *padded = need(malloc(size));

	snprintf(padded, size, "%-*s", (int) (size - 1), text);
	answer_text(x, 200, "application/json", padded);
	free(padded);
}

static void
answer_json(Exchange *x, unsigned status, struct json_object *object)
{
	char *text = need(json_write(object));

	answer_text(x, status, "application/json; charset=utf-8", text);
	free(text);
}

static struct json_object *
pair(const char *name, const char *value)
{
	struct json_object *object = json_object_new_object();

	json_put_text(object, name, value);
	return object;
}

static void
esms_answer(Exchange *x, const char *code, const char *error, const char *smsid)
{
	struct json_object *object = pair("CodeResult", code);

	json_object_object_add(object, "CountRegenerate", json_object_new_int(0));
	json_put_text(object, "ErrorMessage", error);
	if (same(code, "124"))
		json_put_text(object, "SendStatus", "5");
	json_put_text(object, "SMSID", smsid);
	answer_json(x, 200, object);
}

static void
esms_accept(Exchange *x)
{
	char smsid[40];

	make_id(smsid, 31, "");
	accepted++;
	esms_answer(x, "100", NULL, smsid);
}

/* Accepts a message, and notes it among what was sent. */
static void
esms_accept_listed(Exchange *x, const char *phone, const char *content, const char *type,
				   const char *request_id)
{
	Sent *entry;

	if (nsent == sent_size)
		sent = need(realloc(sent, sizeof(Sent) * (sent_size = sent_size * 2 + 64)));
	entry = &sent[nsent++];
	make_id(entry->smsid, 31, "");
	snprintf(entry->request_id, sizeof(entry->request_id), "%s", request_id);
	snprintf(entry->phone, sizeof(entry->phone), "%s", phone);
	snprintf(entry->type, sizeof(entry->type), "%s", type);
	entry->content = need(strdup(content));
	entry->time = seconds_now(CLOCK_REALTIME);
	accepted++;
	esms_answer(x, "100", NULL, entry->smsid);
}

/* ------------------------------------------------------------------------
 * What was received
 * ------------------------------------------------------------------------ */

static void
keep(const char *method, const char *path, const char *phone, const char *content, const char *request_id,
	 struct json_object *body)
{
	struct json_object *entry = json_object_new_object();
	char **place = &kept[nkept++ % KEPT_REQUESTS];

	json_object_object_add(entry, "time", json_object_new_double(seconds_now(CLOCK_REALTIME)));
	json_put_text(entry, "method", method);
	json_put_text(entry, "path", path);
	json_put_text(entry, "phone", phone);
	json_put_text(entry, "content", content);
	json_put_text(entry, "request_id", request_id);
	if (body != NULL)
	{
		json_object_object_add(entry, "body", json_object_get(body));
	}
	free(*place);
	*place = need(json_write(entry));
	if (log_file != NULL)
		fprintf(log_file, "%s\n", *place);
}

static enum MHD_Result
put_argument(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void) kind;
	json_object_object_add(arg, name, json_object_new_string(value ? value : ""));
	return MHD_YES;
}

/* ------------------------------------------------------------------------
 * eSMS
 * ------------------------------------------------------------------------ */

/* Is the phone one that the documentation accepts? */
static bool
good_phone(const char *phone)
{
	char msisdn[MSISDN_SIZE];

	return phone_normalise(phone, "84", msisdn) == PHONE_OK;
}

/* Do these fields of a JSON object hold the credentials? */
static bool
has_login(struct json_object *body, const char *name_field, const char *name, const char *secret_field,
		  const char *secret)
{
	char given_name[256];
	char given_secret[256];

	json_text(body, name_field, given_name, sizeof(given_name));
	json_text(body, secret_field, given_secret, sizeof(given_secret));
	return same(given_name, name) && same(given_secret, secret);
}

static bool
esms_login(struct json_object *body)
{
	return has_login(body, "ApiKey", api_key, "SecretKey", secret_key);
}

/* The same in a query. */
static bool
esms_query_login(struct MHD_Connection *connection)
{
	return same(query(connection, "ApiKey"), api_key) && same(query(connection, "SecretKey"), secret_key);
}

static bool
etelecom_login(struct json_object *body)
{
	return has_login(body, "username", username, "password", password);
}

/* Has this RequestId been taken in the last 24 hours?  If not, it is now. */
static bool
repeated(const char *request_id)
{
	struct lh_entry *entry = lh_table_lookup_entry(request_ids, request_id);
	time_t now = time(NULL);

	if (entry != NULL && now - (time_t) (intptr_t) lh_entry_v(entry) < REQUEST_ID_LIFE)
		return true;
	if (entry != NULL)
		lh_table_delete_entry(request_ids, entry);
	lh_table_insert(request_ids, need(strdup(request_id)), (void *) (intptr_t) now);
	return false;
}

static void
esms_send(Exchange *x, struct json_object *body)
{
	char phone[64];
	char content[4096];
	char type[8];
	char brandname[64];
	char request_id[256];
	bool has_request_id = json_text(body, "RequestId", request_id, sizeof(request_id));

	json_text(body, "Phone", phone, sizeof(phone));
	json_text(body, "Content", content, sizeof(content));
	json_text(body, "SmsType", type, sizeof(type));
	json_text(body, "Brandname", brandname, sizeof(brandname));
	if (body == NULL)
		answer_json(x, 200, pair("error", "Invalid request"));
	else if (!esms_login(body))
		esms_answer(x, "101", "Authorize Failed", NULL);
	else if (!good_phone(phone) || content[0] == '\0' || strlen(request_id) > 50)
		esms_answer(x, "99", "Invalid data", NULL);
	else if (!same(type, "2") && !same(type, "8"))
		esms_answer(x, "110", "SmsType is not valid", NULL);
	else if (same(type, "2") && brandname[0] == '\0')
		esms_answer(x, "104", "Brand name code is not exist", NULL);
	else if (has_request_id && repeated(request_id))
	{
		duplicates++;
		esms_answer(x, "124", "Request exist 1", NULL);
	}
	else
		esms_accept_listed(x, phone, content, type, request_id);
}

static void
esms_otp(Exchange *x, struct MHD_Connection *connection)
{
	const char *phone = query(connection, "Phone");
	const char *text = query(connection, "message");
	const char *alive = query(connection, "TimeAlive");
	const char *length = query(connection, "NumCharOfCode");
	int minutes = alive != NULL ? atoi(alive) : 5;
	int digits = length != NULL ? atoi(length) : 6;
	unsigned long long random = 0;
	char code[24];
	char *value;

	if (!esms_query_login(connection))
		esms_answer(x, "101", "Authorize Failed", NULL);
	else if (phone == NULL || !good_phone(phone) || text == NULL || strstr(text, "{OTP}") == NULL ||
			 minutes < 2 || minutes > 15 || digits < 4 || digits > 16 ||
			 !same(query(connection, "Type"), "2"))
		esms_answer(x, "99", "Invalid data", NULL);
	else if (query(connection, "Brandname") == NULL)
		esms_answer(x, "104", "Brand name code is not exist", NULL);
	else
	{
		bool numbers = !same(query(connection, "IsNumber"), "0");

		for (int i = 0; i < digits; i++)
		{
			if (getrandom(&random, sizeof(random), 0) < 0)
				random = (unsigned long long) rand();
			code[i] =
				(numbers ? "0123456789" : "0123456789ABCDEFGHJKLMNPQRSTUVWXYZ")[random % (numbers ? 10 : 34)];
		}
		code[digits] = '\0';
		value = need(malloc(64));
		snprintf(value, 64, "%s %ld", code, (long) time(NULL) + minutes * 60);
		lh_table_delete(passwords, phone);
		lh_table_insert(passwords, need(strdup(phone)), value);
		esms_accept(x);
	}
}

static void
esms_check(Exchange *x, struct MHD_Connection *connection)
{
	const char *phone = query(connection, "Phone");
	const char *code = query(connection, "Code");
	void *value = NULL;
	char known[24] = "";
	long ends = 0;
	char text[128];

	if (!esms_query_login(connection))
	{
		esms_answer(x, "101", "Authorize Failed", NULL);
		return;
	}
	if (phone != NULL && lh_table_lookup_ex(passwords, phone, &value))
		sscanf(value, "%23s %ld", known, &ends);
	if (!same(code, known) || time(NULL) > ends)
	{
		esms_answer(x, "171", "Code is used, expired or wrong", NULL);
		return;
	}
	snprintf(text, sizeof(text), "%.20s, Content: Success!", phone);
	lh_table_delete(passwords, phone);
	esms_answer(x, "100", text, NULL);
}

/* The other calls that send: each has fields that it cannot do without. */
static void
esms_send_other(Exchange *x, struct json_object *body, const char *path)
{
	static const struct
	{
		const char *call;
		const char *texts[6];
		const char *array;
	} calls[] = {
		{"/SendMultipleSMSBrandname_json", {"Content", "Brandname", "SmsType"}, "Phones"},
		{"/SendZaloMessage_V5_post", {"OAID", "Phone", "TempID", "SendingMode"}, "TempData"},
		{"/MultiChannelMessage", {"Phone"}, "Channels"},
		{"/Send_Multiple_Sms_OTT", {"Content", "Brandname", "SmsType"}, "Phones"},
	};
	char text[4096];

	if (!esms_login(body))
	{
		esms_answer(x, "101", "Authorize Failed", NULL);
		return;
	}
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
	{
		struct json_object *array = json_field(body, calls[i].array);

		if (strstr(path, calls[i].call) == NULL)
			continue;
		for (int j = 0; calls[i].texts[j] != NULL; j++)
		{
			if (!json_text(body, calls[i].texts[j], text, sizeof(text)) || text[0] == '\0')
				array = NULL;
		}
		if (!json_object_is_type(array, json_type_array))
			esms_answer(x, "99", "Invalid request", NULL);
		else if (i == 0 && json_object_array_length(array) < 30)
			esms_answer(x, "107", "Too few phone numbers", NULL);
		else if (i == 2 &&
				 json_object_array_length(json_field(body, "Data")) != json_object_array_length(array))
			esms_answer(x, "99", "Channels and Data differ", NULL);
		else if (i == 2)
		{
			struct json_object *sms = json_object_array_get_idx(json_field(body, "Data"), 1);
			char request_id[64];
			char phone[64];

			json_text(sms, "RequestId", request_id, sizeof(request_id));
			json_text(sms, "Content", text, sizeof(text));
			json_text(body, "Phone", phone, sizeof(phone));
			esms_accept_listed(x, phone, text, "2", request_id);
		}
		else
			esms_accept(x);
	}
}

static struct json_object *
number(long value)
{
	return json_object_new_int64(value);
}

/* What became of a message: the same for each. */
static void
esms_status(Exchange *x, struct MHD_Connection *connection, bool detail)
{
	struct json_object *object;
	bool delivered = strcmp(delivery, "delivered") == 0;
	bool final = delivered || strcmp(delivery, "undelivered") == 0;
	const char *id = query(connection, "RefId");

	if (!esms_query_login(connection))
	{
		esms_answer(x, "101", "Authorize Failed", NULL);
		return;
	}
	if (id == NULL || strlen(id) < 8)
	{
		esms_answer(x, "99", "RefId is unknown", NULL);
		return;
	}
	object = pair(detail ? "CodeResult" : "CodeResponse", "100");
	if (detail)
	{
		struct json_object *list = json_object_new_array();
		struct json_object *receiver = pair("NetworkName", "Viettel");

		json_object_object_add(receiver, "IsSent", json_object_new_boolean(true));
		json_object_object_add(receiver, "SentResult", json_object_new_boolean(delivered));
		json_object_array_add(list, receiver);
		json_object_object_add(object, "ReceiverList", list);
		answer_json(x, 200, object);
		return;
	}
	json_put_text(object, "SMSID", id);
	json_object_object_add(object, "SendFailed", number(final && !delivered));
	json_object_object_add(object, "SendStatus",
						   number(final                              ? 5
								  : strcmp(delivery, "refused") == 0 ? 4
																	 : 7));
	json_object_object_add(object, "SendSuccess", number(delivered));
	json_object_object_add(object, "TotalPrice", json_object_new_double_s(850, "850.0000"));
	json_object_object_add(object, "TotalReceiver", number(1));
	json_object_object_add(object, "TotalSent", number(1));
	answer_json(x, 200, object);
}

/* One entry of the list of what was sent. */
static struct json_object *
sent_entry(const Sent *entry)
{
	bool delivered = strcmp(delivery, "delivered") == 0;
	bool final = delivered || strcmp(delivery, "undelivered") == 0;
	struct json_object *object = pair("Campaign", "");
	char time[48];

	json_put_text(object, "Content", entry->content);
	json_put_text(object, "Phone", entry->phone);
	json_put_text(object, "ReferenceId", entry->request_id);
	json_object_object_add(object, "SellPrice", number(850));
	json_object_object_add(object, "SendResult", number(delivered));
	json_object_object_add(object, "SendStatus",
						   number(final                              ? 5
								  : strcmp(delivery, "refused") == 0 ? 4
																	 : 7));
	snprintf(time, sizeof(time), "/Date(%.0f+0700)/", entry->time * 1000);
	json_put_text(object, "SentTime", time);
	json_put_text(object, "SmsId", entry->smsid);
	json_object_object_add(object, "SmsType", number(atol(entry->type)));
	return object;
}

/* A time of Vietnam as seconds of the epoch; 0 if it is none. */
static double
vietnam_time(struct json_object *body, const char *name)
{
	char text[64];
	struct tm tm = {0};

	json_text(body, name, text, sizeof(text));
	if (sscanf(text, "%d-%d-%d %d:%d:%d", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
			   &tm.tm_sec) != 6)
		return 0;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	return (double) timegm(&tm) - 7 * 3600;
}

/* A page of what the account has sent in a period: others' messages first. */
static void
esms_sent(Exchange *x, struct json_object *body)
{
	struct json_object *object = pair("CodeResult", "100");
	struct json_object *list = json_object_new_array();
	double from = vietnam_time(body, "From");
	double to = vietnam_time(body, "To");
	char type[8];
	long page = json_object_get_int64(json_field(body, "Page"));
	long size = json_object_get_int64(json_field(body, "PageSize"));
	long count = 0;

	json_text(body, "SmsType", type, sizeof(type));
	if (!esms_login(body))
	{
		json_object_put(object);
		json_object_put(list);
		esms_answer(x, "101", "Authorize Failed", NULL);
		return;
	}
	if (from == 0 || to < from || page < 1 || size < 1 || size > 500)
	{
		json_object_put(object);
		json_object_put(list);
		esms_answer(x, "99", "Invalid data", NULL);
		return;
	}
	for (long i = 0; i < foreign + (long) nsent || (endless_list && count < page * size); i++)
	{
		Sent other = {"", "84987654321", "2", "", "Somebody else's", from};
		const Sent *entry = i < foreign || i >= foreign + (long) nsent ? &other : &sent[i - foreign];

		snprintf(other.smsid, sizeof(other.smsid), "foreign-%ld", i);
		if (i % 2)
			snprintf(other.request_id, sizeof(other.request_id), "order-%ld", i);
		if (entry != &other && (!same(entry->type, type) || entry->time < from || entry->time > to + 1 ||
								(missing[0] && strstr(entry->content, missing) != NULL)))
			continue;
		if (count >= (page - 1) * size && count < page * size)
			json_object_array_add(list, sent_entry(entry));
		count++;
	}
	json_object_object_add(object, "CountTotal", number(count));
	json_object_object_add(object, "SentData", list);
	answer_json(x, 200, object);
}

static void
esms_balance(Exchange *x, struct json_object *body)
{
	bool good = esms_login(body);
	struct json_object *object = pair("CodeResponse", good ? "100" : "101");
	json_object_object_add(object, "Balance", number(good ? (long) balance : 0));
	if (!good)
		json_put_text(object, "ErrorMessage", "Authorize Failed");
	answer_json(x, 200, object);
}

static void
esms_templates(Exchange *x, struct json_object *body)
{
	char brandname[64];
	bool good = esms_login(body);

	json_text(body, "Brandname", brandname, sizeof(brandname));
	if (!good || strcmp(brandname, "MYSHOP") != 0)
		esms_answer(x, good ? "104" : "101", good ? "Brand name code is not exist" : "Authorize Failed",
					NULL);
	else
		answer_text(x, 200, "application/json",
					"{\"BrandnameTemplates\":["
					"{\"NetworkID\":6,\"TempContent\":\"{P1,20} la ma xac minh {P2,10}\",\"TempId\":458},"
					"{\"NetworkID\":1,\"TempContent\":\"Don hang {P1,12} da giao\",\"TempId\":459}],"
					"\"CodeResult\":\"100\"}");
}

static void
esms_brandnames(Exchange *x, const char *path)
{
	if (strstr(path, "/GetListBrandname/demo/demo") == NULL)
		answer_text(x, 200, "application/json",
					"{\"CodeResponse\":\"101\",\"ErrorMessage\":\"Authorize Failed\"}");
	else
		answer_text(x, 200, "application/json",
					"{\"CodeResponse\":\"100\",\"ListBrandName\":[{\"Brandname\":\"MYSHOP\",\"Type\":2}]}");
}

static void
esms_price(Exchange *x, struct MHD_Connection *connection)
{
	const char *key = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "ApiKey");

	if (!same(key, api_key))
		esms_answer(x, "101", "Authorize Failed", NULL);
	else
		answer_text(x, 200, "application/json",
					"{\"CodeResult\":\"100\",\"TotalPrice\":850,\"TotalReceiver\":1}");
}

/* ------------------------------------------------------------------------
 * eTelecom and Interits
 * ------------------------------------------------------------------------ */

static void
etelecom_answer(Exchange *x, const char *status, const char *code)
{
	struct json_object *object = pair("status", status);

	json_put_text(object, "code", code);
	answer_json(x, 200, object);
}

static bool
good_route(struct json_object *route)
{
	size_t n = json_object_is_type(route, json_type_array) ? json_object_array_length(route) : 0;

	for (size_t i = 0; i < n; i++)
	{
		const char *channel = json_object_get_string(json_object_array_get_idx(route, i));

		if (!same(channel, "1") && !same(channel, "2") && !same(channel, "3"))
			return false;
	}
	return n > 0;
}

static void
etelecom_send(Exchange *x, struct json_object *body)
{
	char phone[64];
	char template[256];
	char id[64];
	struct json_object *object;

	json_text(body, "phonenumber", phone, sizeof(phone));
	json_text(body, "templatecode", template, sizeof(template));
	if (!etelecom_login(body))
		answer_text(x, 401, "text/plain", "Unauthorized");
	else if (strncmp(phone, "84", 2) != 0 || !good_phone(phone))
		etelecom_answer(x, "-1", "PhoneNumber Wrong Format");
	else if (!good_route(json_field(body, "routerule")))
		etelecom_answer(x, "-8", "Can't find any routing for this request");
	else if (!json_object_is_type(json_field(body, "list_param"), json_type_object))
		etelecom_answer(x, "-2", "Wrong Format Parameter: list_param");
	else if (template[0] == '\0' || strncmp(template, "UNKNOWN", 7) == 0)
		etelecom_answer(x, "-6", "Can't find template with templatecode: UNKNOWN");
	else
	{
		make_id(id, 36, "ICOMNI");
		object = pair("status", "1");
		json_put_text(object, "code", "Success");
		json_put_text(object, "idOmniMess", id);
		accepted++;
		answer_json(x, 200, object);
	}
}

static void
etelecom_status(Exchange *x, struct json_object *body)
{
	char id[256];
	struct json_object *object;

	if (!etelecom_login(body))
	{
		answer_text(x, 401, "text/plain", "Unauthorized");
		return;
	}
	json_text(body, "idOmniMess", id, sizeof(id));
	object = pair("status", strcmp(delivery, "delivered") == 0 ? "SUCCESS"
							: strcmp(delivery, "pending") == 0 ? "PROCESSING"
															   : "FAIL");
	json_put_text(object, "phonenumber", "84901234567");
	json_put_text(object, "list_param", "{\"otp\":\"123456\"}");
	json_put_text(object, "createdatetime", "21/05/2021 14:43:22");
	json_put_text(object, "channel", "sms");
	json_put_text(object, "templatecode", "TPL");
	json_put_text(object, "errorCode", strcmp(delivery, "delivered") == 0 ? "" : "-23");
	json_object_object_add(object, "mtcount", number(2));
	json_put_text(object, "telcoid", "1");
	answer_json(x, 200, object);
}

static void
interits_send(Exchange *x, struct MHD_Connection *connection, struct json_object *body)
{
	const char *key = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "API-KEY");
	struct json_object *destinations = json_field(body, "destinations");
	struct json_object *object = json_object_new_object();
	char id[40];

	if (!same(key, api_key))
	{
		json_object_object_add(object, "code", json_object_new_int(401));
		json_put_text(object, "message", "Unauthorized");
		answer_json(x, 401, object);
		return;
	}
	if (!json_object_is_type(destinations, json_type_array) || json_object_array_length(destinations) == 0 ||
		json_field(body, "from") == NULL || json_field(body, "text") == NULL ||
		json_field(body, "useUnicode") == NULL || json_field(body, "type") == NULL)
	{
		json_object_object_add(object, "code", json_object_new_int(400));
		json_put_text(object, "message", "Bad request");
		answer_json(x, 400, object);
		return;
	}
	make_id(id, 32, "");
	accepted++;
	json_object_object_add(object, "code", json_object_new_int(200));
	json_object_object_add(object, "data", pair("token", id));
	json_put_text(object, "message", "Success");
	json_put_text(object, "referentId", id);
	answer_json(x, 200, object);
}

/* ------------------------------------------------------------------------
 * Faults
 * ------------------------------------------------------------------------ */

/* Is this fault in force for this request?  Counts it. */
static bool
strikes(Fault *fault, const char *path, const char *content)
{
	if (fault->count == 0 || strstr(content, fault->phrase) == NULL ||
		strncmp(path, fault->match, strlen(fault->match)) != 0 ||
		(fault->share < 1 && drand48() >= fault->share))
		return false;
	if (fault->count > 0)
		fault->count--;
	return true;
}

/* Is this request beyond a rate?  Answers it then. */
static bool
is_too_fast(Fault *fault, Exchange *x)
{
	double now = seconds_now(CLOCK_MONOTONIC);

	fault->tokens += (now - fault->filled) * fault->value;
	fault->tokens = fault->tokens > fault->burst ? fault->burst : fault->tokens;
	fault->filled = now;
	if (fault->tokens >= 1)
	{
		fault->tokens -= 1;
		return false;
	}
	refused++;
	answer_text(x, 429, "text/plain", "Too many requests");
	if (fault->text[0])
		MHD_add_response_header(x->response, "Retry-After", fault->text);
	return true;
}

static ssize_t
endless(void *arg, uint64_t at, char *buffer, size_t max)
{
	(void) arg;
	(void) at;
	memset(buffer, 'x', max);
	return (ssize_t) max;
}

/* Ends an answer in the middle. */
static ssize_t
cut_off(void *arg, uint64_t at, char *buffer, size_t max)
{
	static const char half[] = "{\"CodeResult\":\"100\",\"SMS";

	(void) arg;
	if (at >= sizeof(half) - 1 || max < sizeof(half))
		return MHD_CONTENT_READER_END_WITH_ERROR;
	memcpy(buffer, half, sizeof(half) - 1);
	return sizeof(half) - 1;
}

static void
drop_answer(Exchange *x)
{
	if (x->response != NULL)
		MHD_destroy_response(x->response);
	x->response = NULL;
}

/* Does it come from what stands in front of the provider, which then has not acted on the request? */
static bool
keeps_from_acting(const Fault *fault)
{
	return strcmp(fault->name, "retry_after") == 0 ||
		   (strcmp(fault->name, "http") == 0 &&
			(fault->value == 503 || (fault->value >= 400 && fault->value < 500)));
}

/* Replaces the answer by what the fault wants.  Returns false to close at once. */
static bool
apply_fault(const Fault *fault, Exchange *x, const char *path)
{
	const char *name = fault->name;
	char number[16];

	if (strcmp(name, "close") == 0 || strcmp(name, "refuse") == 0)
		return false;
	if (strcmp(name, "latency") == 0)
		return true;
	drop_answer(x);
	if (strcmp(name, "hang") == 0)
	{
		x->hang = true;
		answer_text(x, 200, "text/plain", "");
	}
	else if (strcmp(name, "http") == 0)
		answer_text(x, (unsigned) fault->value, "text/plain", fault->text);
	else if (strcmp(name, "retry_after") == 0)
	{
		answer_text(x, 429, "text/plain", "Too many requests");
		snprintf(number, sizeof(number), "%.0f", fault->value);
		MHD_add_response_header(x->response, "Retry-After", number);
	}
	else if (strcmp(name, "code") == 0)
	{
		if (strncmp(path, "/MainService", 12) == 0)
			esms_answer(x, fault->text, "as told", NULL);
		else
			etelecom_answer(x, fault->text, "as told");
	}
	else if (strcmp(name, "garbage") == 0)
		answer_text(x, 200, "application/json", "\xff\xfe{\"CodeResult\": \x01 100");
	else if (strcmp(name, "html") == 0)
		answer_text(x, 200, "text/html", "<html><body>It works!</body></html>");
	else if (strcmp(name, "body") == 0)
		answer_padded(x, fault->text, (size_t) fault->value * 1024);
	else if (strcmp(name, "redirect") == 0)
	{
		answer_text(x, 302, "text/plain", "");
		MHD_add_response_header(x->response, "Location", fault->text);
	}
	else if (strcmp(name, "truncate") == 0 || strcmp(name, "huge") == 0)
	{
		x->status = 200;
		x->response =
			need(MHD_create_response_from_callback(name[0] == 't' ? 400 : (uint64_t) (fault->value * 1048576),
												   65536, name[0] == 't' ? cut_off : endless, NULL, NULL));
	}
	else
		answer_text(x, 200, "text/plain", ""); /* empty */
	return true;
}

/* Puts a text's escapes for a URL behind a text, with its digits in one case or the other. */
static void
append_escaped(char *to, size_t size, const char *text, const char *format)
{
	size_t len = strlen(to);

	for (; *text != '\0' && len + 4 < size; text++)
		len += (size_t) snprintf(to + len, 4, isalnum((unsigned char) *text) ? "%c" : format,
								 (unsigned char) *text);
}

/* Answers with nothing but what was asked. */
static void
answer_echo(Exchange *x, struct MHD_Connection *connection, struct json_object *asked, const char *code)
{
	static const char *const fields[] = {
		"ErrorMessage", "message",    "code",    "SMSID",      "idOmniMess",
		"referentId",   "status",     "error",   "SendStatus", "telcoid",
		"errorCode",    "error_info", "Balance", "TotalPrice", "RequestId",
	};
	static char text[65536];
	const char *key = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "API-KEY");
	struct json_object *answer = json_object_new_object();

	text[0] = '\0';
	json_object_object_foreach (asked, name, value)
	{
		size_t len = strlen(text);

		snprintf(text + len, sizeof(text) - len, "%s %s %s ", name, json_object_get_string(value),
				 key != NULL ? key : "");
		append_escaped(text, sizeof(text), json_object_get_string(value), "%%%02X");
		append_escaped(text, sizeof(text), " ", " ");
		append_escaped(text, sizeof(text), json_object_get_string(value), "%%%02x");
		append_escaped(text, sizeof(text), " ", " ");
	}
	snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s", json_object_to_json_string(asked));
	if (code[0] != '\0')
		json_put_text(answer, "CodeResult", code);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		json_put_text(answer, fields[i], text);
	json_object_object_add(answer, "data", json_object_new_object());
	json_put_text(json_field(answer, "data"), "token", text);
	answer_json(x, 200, answer);
}

static void
add_fault(Exchange *x, struct json_object *body)
{
	Fault *fault = &faults[nfaults];
	char number[32];

	if (body == NULL || nfaults == MAX_FAULTS || !json_text(body, "fault", fault->name, sizeof(fault->name)))
	{
		answer_text(x, 400, "text/plain", "want {\"fault\": name, …}, at most 16 of them\n");
		return;
	}
	json_text(body, "match", fault->match, sizeof(fault->match));
	fault->phrase[0] = '\0';
	json_text(body, "phrase", fault->phrase, sizeof(fault->phrase));
	json_text(body, "text", fault->text, sizeof(fault->text));
	fault->value = json_text(body, "value", number, sizeof(number)) ? atof(number) : 0;
	fault->share = json_text(body, "share", number, sizeof(number)) ? atof(number) : 1;
	fault->count = json_text(body, "count", number, sizeof(number)) ? atol(number) : -1;
	fault->burst = json_text(body, "burst", number, sizeof(number)) ? atof(number) : 1;
	fault->tokens = fault->burst;
	fault->filled = seconds_now(CLOCK_MONOTONIC);
	nfaults++;
	answer_text(x, 200, "text/plain", "ok\n");
}

/* ------------------------------------------------------------------------
 * The simulator's own interface
 * ------------------------------------------------------------------------ */

static void
list_requests(Exchange *x, const char *phone)
{
	size_t size = 64;
	size_t used = 1;
	char *text = need(malloc(size));
	unsigned long from = nkept > KEPT_REQUESTS ? nkept - KEPT_REQUESTS : 0;
	char wanted[64] = "";

	/* The entries are JSON already. */
	if (phone != NULL)
		snprintf(wanted, sizeof(wanted), "\"phone\":\"%.30s\"", phone);
	text[0] = '[';
	for (unsigned long i = from; i < nkept; i++)
	{
		const char *entry = kept[i % KEPT_REQUESTS];
		size_t len = strlen(entry);

		if (phone != NULL && strstr(entry, wanted) == NULL)
			continue;
		if (used + len + 4 > size)
			text = need(realloc(text, size = 2 * (used + len + 4)));
		if (used > 1)
			text[used++] = ',';
		memcpy(text + used, entry, len);
		used += len;
	}
	memcpy(text + used, "]", 2);
	answer_text(x, 200, "application/json", text);
	free(text);
}

static void
forget_all(void)
{
	struct lh_table *tables[] = {request_ids, passwords};

	for (int i = 0; i < 2; i++)
		while (tables[i]->head != NULL)
			lh_table_delete_entry(tables[i], tables[i]->head);
	for (unsigned long i = 0; i < KEPT_REQUESTS; i++)
	{
		free(kept[i]);
		kept[i] = NULL;
	}
	nkept = accepted = duplicates = received = refused = 0;
	while (nsent > 0)
		free(sent[--nsent].content);
}

static void
control(Exchange *x, struct MHD_Connection *connection, const char *method, const char *path,
		struct json_object *body)
{
	struct json_object *object = json_object_new_object();
	void *value;

	if (same(path, "/simulator/fault") && same(method, "POST"))
		add_fault(x, body);
	else if (same(path, "/simulator/fault") && same(method, "DELETE"))
	{
		nfaults = 0;
		answer_text(x, 200, "text/plain", "ok\n");
	}
	else if (same(path, "/simulator/delivery") && same(method, "POST"))
	{
		json_text(body, "outcome", delivery, sizeof(delivery));
		answer_text(x, 200, "text/plain", "ok\n");
	}
	else if (same(path, "/simulator/balance") && same(method, "POST"))
	{
		balance = json_object_get_double(json_field(body, "balance"));
		answer_text(x, 200, "text/plain", "ok\n");
	}
	else if (same(path, "/simulator/sent") && same(method, "POST"))
	{
		foreign = json_object_get_int64(json_field(body, "foreign"));
		endless_list = json_object_get_boolean(json_field(body, "endless"));
		json_text(body, "missing", missing, sizeof(missing));
		answer_text(x, 200, "text/plain", "ok\n");
	}
	else if (same(path, "/simulator/stats"))
	{
		json_object_object_add(object, "requests", json_object_new_int64((int64_t) received));
		json_object_object_add(object, "accepted", json_object_new_int64((int64_t) accepted));
		json_object_object_add(object, "duplicates", json_object_new_int64((int64_t) duplicates));
		json_object_object_add(object, "refused", json_object_new_int64((int64_t) refused));
		answer_json(x, 200, json_object_get(object));
	}
	else if (same(path, "/simulator/requests") && same(method, "DELETE"))
	{
		forget_all();
		answer_text(x, 200, "text/plain", "ok\n");
	}
	else if (same(path, "/simulator/requests"))
		list_requests(x, query(connection, "phone"));
	else if (same(path, "/simulator/otp") && query(connection, "phone") != NULL &&
			 lh_table_lookup_ex(passwords, query(connection, "phone"), &value))
	{
		char code[24] = "";

		sscanf(value, "%23s", code);
		answer_text(x, 200, "text/plain", code);
	}
	else
		answer_text(x, 404, "text/plain", "not found\n");
	json_object_put(object);
}

/* ------------------------------------------------------------------------
 * Serving
 * ------------------------------------------------------------------------ */

/* Acts on a whole request.  Returns false to close the connection instead of answering. */
static bool
serve(Exchange *x, struct MHD_Connection *connection, const char *method, const char *path)
{
	struct json_object *body = x->len > 0 ? json_read_object(x->body, x->len) : NULL;
	struct json_object *arguments = NULL;
	char phone[64] = "";
	char content[4096] = "";
	char request_id[256] = "";
	bool struck[MAX_FAULTS] = {false};
	bool acts = true;
	bool open = true;

	if (strncmp(path, "/simulator/", 11) == 0)
	{
		control(x, connection, method, path, body);
		json_object_put(body);
		return true;
	}
	received++;
	for (int i = 0; i < nfaults; i++)
	{
		if (strcmp(faults[i].name, "refuse") == 0 && strikes(&faults[i], path, ""))
		{
			json_object_put(body);
			return false;
		}
		if (strcmp(faults[i].name, "rate") == 0 && strikes(&faults[i], path, "") &&
			is_too_fast(&faults[i], x))
		{
			json_object_put(body);
			return true;
		}
	}
	if (body == NULL)
	{
		arguments = json_object_new_object();
		MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, put_argument, arguments);
	}
	json_text(body ? body : arguments, strstr(path, "Omni") ? "phonenumber" : "Phone", phone, sizeof(phone));
	json_text(body ? body : arguments,
			  strstr(path, "vendor") ? "text"
			  : body                 ? "Content"
									 : "message",
			  content, sizeof(content));
	json_text(body, "RequestId", request_id, sizeof(request_id));
	if (phone[0] == '\0' && json_object_is_type(json_field(body, "destinations"), json_type_array))
		snprintf(phone, sizeof(phone), "%s",
				 json_object_get_string(json_object_array_get_idx(json_field(body, "destinations"), 0)));
	keep(method, path, phone, content, request_id, body ? body : arguments);

	for (int i = 0; i < nfaults; i++)
	{
		struck[i] = strcmp(faults[i].name, "refuse") != 0 && strcmp(faults[i].name, "rate") != 0 &&
					strcmp(faults[i].name, "latency") != 0 && strikes(&faults[i], path, content);
		acts = acts && !(struck[i] && keeps_from_acting(&faults[i]));
	}
	if (!acts)
		answer_text(x, 200, "text/plain", "");
	else if (strstr(path, "/SendMultipleMessage_V4_post_json"))
		esms_send(x, body);
	else if (strstr(path, "/SendMessageAutoGenCode_V4_get"))
		esms_otp(x, connection);
	else if (strstr(path, "/CheckCodeGen_V4_get"))
		esms_check(x, connection);
	else if (strstr(path, "/GetSendStatus"))
		esms_status(x, connection, false);
	else if (strstr(path, "/GetSmsReceiverStatus_get"))
		esms_status(x, connection, true);
	else if (strstr(path, "/GetSmsSentData_V2"))
		esms_sent(x, body);
	else if (strstr(path, "/GetBalance_json"))
		esms_balance(x, body);
	else if (strstr(path, "/GetTemplate"))
		esms_templates(x, body);
	else if (strstr(path, "/GetListBrandname"))
		esms_brandnames(x, path);
	else if (strstr(path, "/SummaryMultipleMessage_V4_get"))
		esms_price(x, connection);
	else if (strstr(path, "/MainService.svc/json/"))
		esms_send_other(x, body, path);
	else if (strstr(path, "/api/OmniReport/GetStatusOmni"))
		etelecom_status(x, body);
	else if (strstr(path, "/api/OmniMessage/SendMessage"))
		etelecom_send(x, body);
	else if (strstr(path, "/api/vendor/v1/sms/send-message"))
		interits_send(x, connection, body);
	else
		answer_text(x, 404, "text/html", "<html><body>404</body></html>");

	for (int i = 0; i < nfaults; i++)
	{
		if (struck[i] && strcmp(faults[i].name, "echo") == 0)
		{
			drop_answer(x);
			answer_echo(x, connection, body ? body : arguments, faults[i].text);
		}
		else if (struck[i])
			open = apply_fault(&faults[i], x, path) && open;
	}
	json_object_put(body);
	json_object_put(arguments);
	return open;
}

/* Has the connection resumed after so many milliseconds. */
static void
delay(struct MHD_Connection *connection, double ms)
{
	size_t i;

	MHD_suspend_connection(connection);
	pthread_mutex_lock(&delay_lock);
	if (ndelays == delays_size)
		delays = need(realloc(delays, sizeof(Delay) * (delays_size = delays_size * 2 + 64)));
	i = ndelays++;
	delays[i] = (Delay){seconds_now(CLOCK_MONOTONIC) + ms / 1000, connection};
	for (; i > 0 && delays[(i - 1) / 2].due > delays[i].due; i = (i - 1) / 2)
	{
		Delay swap = delays[i];

		delays[i] = delays[(i - 1) / 2];
		delays[(i - 1) / 2] = swap;
	}
	pthread_cond_signal(&delay_news);
	pthread_mutex_unlock(&delay_lock);
}

static Delay
pop_delay(void)
{
	Delay top = delays[0];
	size_t i = 0;

	delays[0] = delays[--ndelays];
	for (;;)
	{
		size_t least = i;
		Delay swap = delays[i];

		if (2 * i + 1 < ndelays && delays[2 * i + 1].due < delays[least].due)
			least = 2 * i + 1;
		if (2 * i + 2 < ndelays && delays[2 * i + 2].due < delays[least].due)
			least = 2 * i + 2;
		if (least == i)
			return top;
		delays[i] = delays[least];
		delays[least] = swap;
		i = least;
	}
}

static void *
resume_delayed(void *arg)
{
	(void) arg;
	pthread_mutex_lock(&delay_lock);
	for (;;)
	{
		struct timespec until;

		if (ndelays == 0)
			pthread_cond_wait(&delay_news, &delay_lock);
		else if (delays[0].due <= seconds_now(CLOCK_MONOTONIC))
			MHD_resume_connection(pop_delay().connection);
		else
		{
			until.tv_sec = (time_t) delays[0].due;
			until.tv_nsec = (long) ((delays[0].due - (double) until.tv_sec) * 1e9);
			pthread_cond_timedwait(&delay_news, &delay_lock, &until);
		}
	}
	return NULL;
}

static bool
receive(Exchange *x, const char *data, size_t n)
{
	if (x->len + n > MAX_UPLOAD)
		return false;
	x->body = need(realloc(x->body, x->len + n + 1));
	memcpy(x->body + x->len, data, n);
	x->len += n;
	x->body[x->len] = '\0';
	return true;
}

static enum MHD_Result
on_request(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
		   const char *version, const char *data, size_t *size, void **state)
{
	Exchange *x = *state;
	double latency = 0;
	enum MHD_Result result;

	(void) arg;
	(void) version;
	if (x == NULL)
	{
		*state = need(calloc(1, sizeof(Exchange)));
		return MHD_YES;
	}
	if (*size > 0)
	{
		bool ok = receive(x, data, *size);

		*size = 0;
		return ok ? MHD_YES : MHD_NO;
	}
	if (!x->taken)
	{
		x->taken = true;
		if (!serve(x, connection, method, path))
			return MHD_NO;
	}
	if (x->hang)
	{
		x->hang = false;
		delay(connection, 3600e3);
		return MHD_YES;
	}
	for (int i = 0; i < nfaults && !x->delayed && strncmp(path, "/simulator/", 11) != 0; i++)
	{
		if (strcmp(faults[i].name, "latency") == 0 && strikes(&faults[i], path, ""))
			latency += faults[i].value;
	}
	x->delayed = true;
	if (latency > 0)
	{
		delay(connection, latency);
		return MHD_YES;
	}
	result = MHD_queue_response(connection, x->status, x->response);
	drop_answer(x);
	return result;
}

static void
on_completed(void *arg, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode why)
{
	Exchange *x = *state;

	(void) arg;
	(void) connection;
	(void) why;
	if (x == NULL)
		return;
	drop_answer(x);
	free(x->body);
	free(x);
	*state = NULL;
}

static void
free_entry(struct lh_entry *entry)
{
	free(lh_entry_k(entry));
}

static void
free_entry_and_value(struct lh_entry *entry)
{
	free(lh_entry_k(entry));
	free((void *) (uintptr_t) lh_entry_v(entry));
}

static void
usage(FILE *out)
{
	fputs("usage: simulator [--port N] [--key K] [--secret S] [--username U] [--password P] [--log FILE]\n"
		  "                 [--tls-cert FILE --tls-key FILE] [--epoll] [--keep-alive SECONDS]\n"
		  "Plays the gateways of eSMS, eTelecom Omni and Interits on 127.0.0.1 (port 0: any free one)\n"
		  "and prints its URL.  Credentials are demo/demo unless told.  It ends with its standard input\n"
		  "(--stay: with SIGTERM).  --epoll is faster with hundreds of connections, but libmicrohttpd 0.9.75 "
		  "then\n"
		  "may lose sight of a request that follows a delayed one.  How to make it misbehave stands at the "
		  "top of simulator.c.\n",
		  out);
}

/* A whole file, which is small. */
static const char *
read_file(const char *name)
{
	FILE *file = fopen(name, "r");
	char *text = need(calloc(1, 65536));

	if (file == NULL || fread(text, 1, 65535, file) == 0)
	{
		fprintf(stderr, "simulator: %s: %s\n", name, strerror(errno));
		exit(1);
	}
	fclose(file);
	return text;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{"port", required_argument, NULL, 'p'},
		{"key", required_argument, NULL, 'k'},
		{"secret", required_argument, NULL, 's'},
		{"username", required_argument, NULL, 'u'},
		{"password", required_argument, NULL, 'w'},
		{"log", required_argument, NULL, 'l'},
		{"tls-cert", required_argument, NULL, 'c'},
		{"tls-key", required_argument, NULL, 'K'},
		{"stay", no_argument, NULL, 'S'},
		{"epoll", no_argument, NULL, 'e'},
		{"help", no_argument, NULL, 'h'},
		{"keep-alive", required_argument, NULL, 'a'},
		{NULL, 0, NULL, 0},
	};
	const char *certificate = NULL;
	const char *private_key = NULL;
	struct MHD_OptionItem tls[3] = {{MHD_OPTION_END, 0, NULL}};
	struct MHD_Daemon *daemon;
	struct sockaddr_in address = {0};
	pthread_condattr_t attributes;
	pthread_t thread;
	sigset_t signals;
	int port = 0;
	bool stay = false;
	bool epoll = false;
	unsigned keep_alive = 0; /* seconds; 0: for ever */
	int c;
	int got;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
	{
		switch (c)
		{
			case 'p':
				port = atoi(optarg);
				break;
			case 'k':
				api_key = optarg;
				break;
			case 's':
				secret_key = optarg;
				break;
			case 'u':
				username = optarg;
				break;
			case 'w':
				password = optarg;
				break;
			case 'l':
				log_file = fopen(optarg, "a");
				if (log_file == NULL)
				{
					fprintf(stderr, "simulator: %s: %s\n", optarg, strerror(errno));
					return 1;
				}
				setlinebuf(log_file);
				break;
			case 'c':
				certificate = read_file(optarg);
				break;
			case 'K':
				private_key = read_file(optarg);
				break;
			case 'a':
				keep_alive = (unsigned) atoi(optarg);
				break;
			case 'e':
				epoll = true;
				break;
			case 'S':
				stay = true;
				break;
			default:
				usage(c == 'h' ? stdout : stderr);
				return c == 'h' ? 0 : 2;
		}
	}

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	if (stay)
		pthread_sigmask(SIG_BLOCK, &signals, NULL);
	request_ids = need(lh_kchar_table_new(65536, free_entry));
	passwords = need(lh_kchar_table_new(1024, free_entry_and_value));
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&delay_news, &attributes);

	address.sin_family = AF_INET;
	address.sin_port = htons((uint16_t) port);
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (certificate != NULL && private_key != NULL)
	{
		tls[0] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0, (void *) certificate};
		tls[1] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, (void *) private_key};
		tls[2] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
	}
	daemon = MHD_start_daemon((epoll ? MHD_USE_EPOLL_INTERNAL_THREAD : MHD_USE_POLL_INTERNAL_THREAD) |
								  MHD_ALLOW_SUSPEND_RESUME | (certificate != NULL ? MHD_USE_TLS : 0),
							  0, NULL, NULL, on_request, NULL, MHD_OPTION_ARRAY, tls, MHD_OPTION_SOCK_ADDR,
							  (struct sockaddr *) &address, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
							  MHD_OPTION_CONNECTION_LIMIT, 12000u, MHD_OPTION_CONNECTION_TIMEOUT, keep_alive,
							  MHD_OPTION_LISTEN_BACKLOG_SIZE, 4096u, MHD_OPTION_END);
	if (daemon == NULL || pthread_create(&thread, NULL, resume_delayed, NULL) != 0)
	{
		fprintf(stderr, "simulator: cannot listen on 127.0.0.1:%d\n", port);
		return 1;
	}
	printf("http%s://127.0.0.1:%u\n", certificate != NULL ? "s" : "",
		   (unsigned) MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
	fflush(stdout);
	if (stay)
		sigwait(&signals, &got);
	else
		while (getchar() != EOF)
			;
	/* Suspended connections would keep MHD_stop_daemon waiting. */
	_exit(0);
}
