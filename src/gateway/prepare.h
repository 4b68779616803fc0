/*
 * prepare.h
 *		From a draft, as a user wrote it, to a message that can be sent.
 */
#ifndef SMS_PREPARE_H
#define SMS_PREPARE_H

#include "gateway/gateway.h"
#include "gateway/refusal.h"
#include "provider/provider.h"
#include "text/phone.h"
#include "utils/jsonb.h"

/* A message as a user wrote it, in the database's encoding; NULL or 0 where nothing is said. */
typedef struct Draft
{
	Call call;
	const char *phone;
	const char *content;
	const char *template_code;
	Jsonb *list_param;
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

/*
 * A message that passed all checks, and the settings that apply to it: the gateway's, or
 * own_settings if the message has options.  Some pointers go into the struct itself, so it
 * is not to be copied.
 */
typedef struct Prepared
{
	Message message;
	Settings settings;
	char phone[MSISDN_SIZE];
	char old_phone[MSISDN_SIZE]; /* as it was written until 2018; empty if it is not such a one */
	char token[64];              /* left empty: made when it is sent */
	const char *phone_list[1];
	const char *own_settings[PROVIDER_MAX_OPTIONS];
} Prepared;

extern bool gateway_prepare(const Gateway *gateway, const Draft *draft, Prepared *prepared, Refusal *refusal);

#endif /* SMS_PREPARE_H */
