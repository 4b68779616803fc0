/*
 * kept.c
 *		A report as JSON that is kept until its message is known: what was read of it, and nothing else.
 */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "provider/kept.h"
#include "text/json.h"

static const char *const deliveries[] = {
	[DELIVERY_PENDING] = "pending",
	[DELIVERY_DELIVERED] = "delivered",
	[DELIVERY_UNDELIVERED] = "undelivered",
};

#define FIELD(name)                                                                                          \
	{                                                                                                        \
#name, offsetof(Report, name), sizeof(((Report *) NULL)->name)                                       \
	}

/* Its texts.  The token, a secret, is none of them. */
static const struct
{
	const char *name;
	size_t offset;
	size_t size;
} fields[] = {
	FIELD(code),       FIELD(message), FIELD(smsid), FIELD(id_omni_mess), FIELD(referent_id),
	FIELD(request_id), FIELD(price),   FIELD(telco), FIELD(channel),      FIELD(next_smsid),
};

/* Writes a report; returns it from malloc, NULL when memory is out. */
char *
report_write(const Report *report)
{
	struct json_object *body = json_object_new_object();

	json_put_text(body, "delivery", deliveries[report->delivery]);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
	{
		const char *text = (const char *) report + fields[i].offset;

		if (text[0] != '\0')
			json_put_text(body, fields[i].name, text);
	}
	if (report->parts != 0)
		json_object_object_add(body, "parts", json_object_new_int(report->parts));
	return json_write(body);
}

/* Reads what report_write() wrote into an empty report; false if it is something else. */
bool
report_read(const char *json, size_t len, Report *report)
{
	struct json_object *body = json_read_object(json, len);
	char delivery[16];
	bool found = false;

	if (json_text(body, "delivery", delivery, sizeof(delivery)))
	{
		for (int i = DELIVERY_PENDING; i <= DELIVERY_UNDELIVERED && !found; i++)
		{
			found = strcmp(delivery, deliveries[i]) == 0;
			report->delivery = (Delivery) i;
		}
	}
	for (size_t i = 0; found && i < sizeof(fields) / sizeof(fields[0]); i++)
		json_text(body, fields[i].name, (char *) report + fields[i].offset, fields[i].size);
	if (found)
		report->parts = json_object_get_int(json_field(body, "parts"));
	json_object_put(body);
	return found;
}
