/*
 * limits.c
 *		Limits against abuse: how many messages a phone, a role or a day may cost.
 *
 * Each is a counter that messages are taken from before they are queued or sent, whoever has them sent:
 * a caller, a fallback, a retry.  A message that one limit refuses is put back into the others.
 */
#include "postgres.h"

#include "base/compat.h"
#include "guard/limits.h"
#include "guard/mac.h"
#include "guard/taking.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* The taking of a limit that all rows of a statement share, found without a look-up. */
typedef struct Recent
{
	Oid server;
	Oid role;
	Taking *taking;
	uint64 generation; /* it is good in */
} Recent;

/* The last of each of these limits that was taken from. */
static Recent per_role;
static Recent daily_budget;

/* Who takes what. */
typedef struct Buyer
{
	const Gateway *gateway;
	const Message *message;
	Oid role;
	bool direct;
} Buyer;

/* One limit of a gateway, as it applies to a message. */
typedef struct Limit
{
	const char *option;
	const char *subject; /* with "by_phone", hidden, or "by_role" that is appended */
	Rate rate;           /* seconds: 0: there is no such limit; TAKING_A_DAY */
	int n;               /* messages that it takes, of each subject */
	bool by_phone;
	bool by_role;
	Recent *recent; /* NULL: it is looked up each time */
} Limit;

/* What a message takes, in the order in which it is taken: to be put back if a limit refuses. */
typedef struct Bill
{
	struct
	{
		Taking *taking;
		int n;
	} * items;
	int nitems;
} Bill;

/* The last limit that refused, and when to try again. */
typedef struct Reached
{
	const Limit *limit;
	const char *which; /* phone, role's oid, or "" */
	TimestampTz again;
} Reached;

/* Says which limit has not so many messages left.  Returns false. */
static bool
refuse(Refusal *refusal, const Gateway *gateway, const Reached *reached)
{
	const Limit *limit = reached->limit;
	char detail[sizeof(refusal->detail)];
	char for_log[sizeof(refusal->detail_log)] = "";
	char hint[sizeof(refusal->hint)];

	snprintf(hint, sizeof(hint), "Try again after %s.", timestamptz_to_str(reached->again));
	if (limit->by_phone)
	{
		snprintf(detail, sizeof(detail), "It allows %d messages to one phone, as %s, in %d seconds.",
				 limit->rate.messages, reached->which, limit->rate.seconds);
		snprintf(for_log, sizeof(for_log), "It allows %d messages to one phone in %d seconds.",
				 limit->rate.messages, limit->rate.seconds);
	}
	else if (limit->by_role)
		snprintf(detail, sizeof(detail), "It allows a role %d messages in %d seconds.", limit->rate.messages,
				 limit->rate.seconds);
	else
		snprintf(detail, sizeof(detail), "It allows %d messages a day.", limit->rate.messages);
	refusal_fill(refusal, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, hint,
				 "the limit %s of gateway \"%s\" is reached", limit->option, gateway->name);
	return refusal_details(refusal, detail, for_log);
}

/* Takes from a limit for one subject: "which" is a phone, a role's oid, or "".  False if it refuses. */
static bool
take_for(const Buyer *buyer, const Limit *limit, const char *which, Bill *bill, Reached *reached)
{
	TakingKey key;
	Taking *taking;
	char hidden[HIDDEN_PHONE_SIZE];

	if (limit->by_phone)
		mac_hide_phone(which, hidden);
	memset(&key, 0, sizeof(key));
	namestrcpy(&key.gateway, buyer->gateway->name);
	key.direct = buyer->direct;
	/* For each row that is queued: no snprintf. */
	strlcpy(key.subject, limit->subject, sizeof(key.subject));
	strlcat(key.subject, limit->by_phone ? hidden : which, sizeof(key.subject));
	reached->limit = limit;
	reached->which = which;
	taking = taking_take(&key, limit->rate.messages, limit->rate.seconds, limit->n, &reached->again);
	if (taking == NULL)
		return false;
	bill->items[bill->nitems].taking = taking;
	bill->items[bill->nitems++].n = limit->n;
	if (limit->recent != NULL)
		*limit->recent = (Recent){buyer->gateway->server, buyer->role, taking, taking_generation()};
	return true;
}

/* Takes a message from one limit, for all whom that concerns.  False if it refuses. */
static bool
take_limit(const Buyer *buyer, const Limit *limit, Bill *bill, Reached *reached)
{
	const Recent *recent = limit->recent;

	if (limit->rate.seconds == 0)
		return true;
	if (recent != NULL && recent->server == buyer->gateway->server && recent->role == buyer->role &&
		recent->generation == taking_generation() && taking_take_spare(recent->taking, limit->n))
	{
		bill->items[bill->nitems].taking = recent->taking;
		bill->items[bill->nitems++].n = limit->n;
		return true;
	}
	if (!limit->by_phone)
		return take_for(buyer, limit, limit->by_role ? psprintf("%u", buyer->role) : "", bill, reached);
	for (int i = 0; i < buyer->message->nphones; i++)
	{
		if (!take_for(buyer, limit, buyer->message->phones[i], bill, reached))
			return false;
	}
	return true;
}

/* Takes a message from all limits of a gateway that apply; if one refuses, from none. */
static bool
take_all(const Buyer *buyer, Refusal *refusal)
{
	const Gateway *gateway = buyer->gateway;
	const Message *message = buyer->message;
	const Rate no_rate = {0, 0};
	const Limit limits[] = {
		{
			.option = "otp_per_phone",
			.subject = "otp ",
			.rate = message->call == CALL_OTP ? gateway->otp_per_phone : no_rate,
			.n = 1,
			.by_phone = true,
		},
		{
			.option = "per_phone",
			.subject = "phone ",
			.rate = gateway->per_phone,
			.n = 1,
			.by_phone = true,
		},
		{
			.option = "per_role",
			.subject = "role ",
			.rate = gateway->per_role,
			.n = message->nphones,
			.by_role = true,
			.recent = buyer->direct ? NULL : &per_role,
		},
		{
			.option = "daily_budget",
			.subject = "day",
			.rate = {gateway->daily_budget, gateway->daily_budget > 0 ? TAKING_A_DAY : 0},
			.n = message->nphones,
			.recent = buyer->direct ? NULL : &daily_budget,
		},
	};
	Bill bill = {palloc(sizeof(*bill.items) * (2 * message->nphones + 2)), 0};
	Reached reached;
	bool granted = true;

	taking_give_back();
	for (int i = 0; i < (int) lengthof(limits) && granted; i++)
		granted = take_limit(buyer, &limits[i], &bill, &reached);
	if (!granted)
	{
		while (bill.nitems-- > 0)
			taking_put_back(bill.items[bill.nitems].taking, bill.items[bill.nitems].n);
		refuse(refusal, gateway, &reached);
	}
	pfree(bill.items);
	return granted;
}

/*
 * Takes a message of this session's user from all limits of a gateway that apply: to each receiver, or
 * one for each, as the limit counts.  "direct": the message is sent at once, limits_send() and
 * limits_sent() follow.  Raises 53400 if one of them has not so many left; then none has counted it.
 */
void
limits_take(const Gateway *gateway, const Message *message, bool direct)
{
	const Buyer buyer = {gateway, message, GetUserId(), direct};
	Refusal refusal;

	if (!take_all(&buyer, &refusal))
		refusal_raise(&refusal);
}

/* The same for a message of a role's that goes through the outbox.  Returns false, and why, if it is refused. */
bool
limits_grant(const Gateway *gateway, const Message *message, Oid role, Refusal *refusal)
{
	const Buyer buyer = {gateway, message, role, false};

	return take_all(&buyer, refusal);
}

/* A message that was taken directly may go from now on, whatever becomes of the transaction. */
void
limits_send(void)
{
	taking_send();
}

/* A message that was taken directly has gone, or, if not, counts for nothing. */
void
limits_sent(bool gone)
{
	taking_sent(gone);
}
