/*
 * details.h
 *		JSON that is written here: the column "details" of a message, an object of what
 *		has no column, and the events that NOTIFY tells.
 *
 * Pure C: no PostgreSQL, no network.  Apart from json.h because json-c and PostgreSQL both
 * want the name json_object.
 */
#ifndef SMS_DETAILS_H
#define SMS_DETAILS_H

#include <stdbool.h>
#include <stddef.h>

/* The member that says whose the server is that a message has chosen, if not one's who is trusted with every message. */
#define DETAILS_OWNER "server_owner"

extern char *details_with_token(const char *details, const char *token);
extern char *details_with_failure(const char *details, const char *gateway, const char *code,
								  const char *message, const char *fallback);

extern char *details_with_resent(const char *details, int resent);
extern int details_resent(const char *details);

extern char *details_with_legs(const char *details, const char *const *channels,
							   const char *const *request_ids, int n);
extern char *details_leg(const char *const *names, const char *const *values, int n);

extern bool details_first_gateway(const char *details, char *gateway, size_t size);
extern bool details_chose_owner(const char *details, const char *mark);
extern char *details_of_report(const char *telco, const char *code, const char *message);
extern char *gateway_text(const char *gateway, const char *state, const char *reason);
extern char *credentials_text(const char *gateway, const char *role, const char *state);
extern char *outbox_text(const char *state, const char *reason);
extern char *balance_text(const char *gateway, const char *amount, double minimum);
extern char *event_text(long long id, const char *gateway, const char *status, const char *code);

#endif /* SMS_DETAILS_H */
