/*
 * details.c
 *		Changes to a message's details, and events.  Pure; results are from malloc,
 *		NULL when memory is out.  "details" is a JSON object or NULL.
 */
#include <json-c/json.h>
#include <string.h>

#include "text/details.h"
#include "text/json.h"

/* The details as an object that the caller changes; an empty one where there are none. */
static struct json_object *
read_details(const char *details)
{
	struct json_object *object = details != NULL ? json_read_object(details, strlen(details)) : NULL;

	return object != NULL ? object : json_object_new_object();
}

/* Takes details and a provider's token for the message, returns the details with it. */
char *
details_with_token(const char *details, const char *token)
{
	struct json_object *object = read_details(details);

	json_put_text(object, "token", token);
	return json_write(object);
}

/* Takes details, returns them with how often the message was refused for certain, so that its next request_id is another. */
char *
details_with_resent(const char *details, int resent)
{
	struct json_object *object = read_details(details);

	json_object_object_add(object, "resent", json_object_new_int(resent));
	return json_write(object);
}

/* What details_with_resent() has written; 0 if nothing. */
int
details_resent(const char *details)
{
	struct json_object *object = read_details(details);
	struct json_object *resent = json_field(object, "resent");
	int n = json_object_is_type(resent, json_type_int) ? json_object_get_int(resent) : 0;

	json_object_put(object);
	return n > 0 ? n : 0;
}

/*
 * Takes details, and the channels that a message has gone over, in their order, each with its request_id; returns the details
 * with these as "legs", of which nothing is known yet; without any if n is 0.
 */
char *
details_with_legs(const char *details, const char *const *channels, const char *const *request_ids, int n)
{
	struct json_object *object = read_details(details);
	struct json_object *legs;

	json_object_object_del(object, "legs");
	if (n == 0)
		return json_write(object);
	legs = json_object_new_array();
	for (int i = 0; i < n; i++)
	{
		struct json_object *leg = json_object_new_object();

		json_put_text(leg, "channel", channels[i]);
		json_put_text(leg, "request_id", request_ids[i]);
		json_put_text(leg, "status", "sent");
		json_object_array_add(legs, leg);
	}
	json_object_object_add(object, "legs", legs);
	return json_write(object);
}

/* Takes names and values, of which those that are empty are left out; returns what a report says of a leg. */
char *
details_leg(const char *const *names, const char *const *values, int n)
{
	struct json_object *object = json_object_new_object();

	for (int i = 0; i < n; i++)
	{
		if (values[i][0] != '\0')
			json_put_text(object, names[i], values[i]);
	}
	return json_write(object);
}

/*
 * Takes details, the gateway that failed with its answer, and the fallback that is to take
 * over; returns the details with this failure among those of "failed_over".  Returns NULL
 * if the fallback has failed for this message before.
 */
char *
details_with_failure(const char *details, const char *gateway, const char *code, const char *message,
					 const char *fallback)
{
	struct json_object *object = read_details(details);
	struct json_object *tried = json_field(object, "failed_over");
	struct json_object *entry;
	char name[256];

	if (!json_object_is_type(tried, json_type_array))
	{
		tried = json_object_new_array();
		json_object_object_add(object, "failed_over", tried);
	}
	for (size_t i = 0; i < json_object_array_length(tried); i++)
	{
		if (json_text(json_object_array_get_idx(tried, i), "gateway", name, sizeof(name)) &&
			strcmp(name, fallback) == 0)
		{
			json_object_put(object);
			return NULL;
		}
	}
	entry = json_object_new_object();
	json_put_text(entry, "gateway", gateway);
	json_put_text(entry, "result_code", code);
	json_put_text(entry, "result_message", message);
	json_object_array_add(tried, entry);
	return json_write(object);
}

/* Takes the details of a message (or NULL); finds the first gateway that failed with it; false if none has. */
bool
details_first_gateway(const char *details, char *gateway, size_t size)
{
	struct json_object *object = read_details(details);
	struct json_object *tried = json_field(object, "failed_over");
	bool found = json_object_is_type(tried, json_type_array) && json_object_array_length(tried) > 0 &&
				 json_text(json_object_array_get_idx(tried, 0), "gateway", gateway, size);

	json_object_put(object);
	return found;
}

/* Takes the details of a message (or NULL): do they say that it has chosen a server of this owner? */
bool
details_chose_owner(const char *details, const char *mark)
{
	struct json_object *object = read_details(details);
	char owner[256];
	bool chosen = json_text(object, DETAILS_OWNER, owner, sizeof(owner)) && strcmp(owner, mark) == 0;

	json_object_put(object);
	return chosen;
}

/* Adds a text that is not empty. */
static void
put_if_told(struct json_object *object, const char *name, const char *value)
{
	if (value[0] != '\0')
		json_put_text(object, name, value);
}

/*
 * Takes what a delivery report tells of the operator and in the provider's own words, each
 * empty if it tells nothing; returns what they add to the details, NULL if nothing.
 */
char *
details_of_report(const char *telco, const char *code, const char *message)
{
	struct json_object *object;

	if (!telco[0] && !code[0] && !message[0])
		return NULL;
	object = json_object_new_object();
	put_if_told(object, "telco", telco);
	put_if_told(object, "delivery_code", code);
	put_if_told(object, "delivery_message", message);
	return json_write(object);
}

/*
 * Takes the id of a message that ended, its gateway, its status and the provider's code
 * (NULL or empty: none), returns the event.  It holds neither phone nor text.
 */
char *
event_text(long long id, const char *gateway, const char *status, const char *code)
{
	struct json_object *object = json_object_new_object();

	json_object_object_add(object, "id", json_object_new_int64(id));
	json_put_text(object, "gateway", gateway);
	json_put_text(object, "status", status);
	if (code != NULL && code[0])
		json_put_text(object, "result_code", code);
	return json_write(object);
}

/* Takes a gateway, the state that it has come into, and why (or NULL); returns the event of that. */
char *
gateway_text(const char *gateway, const char *state, const char *reason)
{
	struct json_object *object = json_object_new_object();

	json_put_text(object, "event", "gateway");
	json_put_text(object, "gateway", gateway);
	json_put_text(object, "state", state);
	if (reason != NULL)
		json_put_text(object, "reason", reason);
	return json_write(object);
}

/* Takes a gateway, a role and what became of its credentials there, returns the event of that. */
char *
credentials_text(const char *gateway, const char *role, const char *state)
{
	struct json_object *object = json_object_new_object();

	json_put_text(object, "event", "credentials");
	json_put_text(object, "gateway", gateway);
	json_put_text(object, "role", role);
	json_put_text(object, "state", state);
	return json_write(object);
}

/* Takes the state that a database's outbox has come into, and why (or NULL); returns the event of that. */
char *
outbox_text(const char *state, const char *reason)
{
	struct json_object *object = json_object_new_object();

	json_put_text(object, "event", "outbox");
	json_put_text(object, "state", state);
	if (reason != NULL)
		json_put_text(object, "reason", reason);
	return json_write(object);
}

/* Takes a gateway, its balance as the provider writes it and its min_balance, returns the event of a low balance. */
char *
balance_text(const char *gateway, const char *amount, double minimum)
{
	struct json_object *object = json_object_new_object();

	json_put_text(object, "event", "low_balance");
	json_put_text(object, "gateway", gateway);
	json_put_text(object, "balance", amount);
	json_object_object_add(object, "min_balance", json_object_new_double(minimum));
	return json_write(object);
}
