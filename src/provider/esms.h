/*
 * esms.h
 *		What the two halves of eSMS share: its options, and what a message is by them.
 */
#ifndef SMS_ESMS_H
#define SMS_ESMS_H

#include "provider/support.h"

#define VIETNAM_OFFSET (7 * 3600) /* no daylight saving */
#define SMS_TYPE_FIXED "8"
#define SMS_TYPE_VIBER "23"

#define ESMS_CHANNEL_ZALO "zalo"
#define ESMS_CHANNEL_SMS  "sms"

enum
{
	ESMS_API_KEY,
	ESMS_SECRET_KEY,
	ESMS_BRANDNAME,
	ESMS_SMS_TYPE,
	ESMS_UNICODE,
	ESMS_SANDBOX,
	ESMS_CAMPAIGN_ID,
	ESMS_CALLBACK_URL,
	ESMS_SEND_DATE,
	ESMS_OAID,
	ESMS_SMS_CONTENT,
	ESMS_VIBER_IMAGE,
	ESMS_VIBER_LABEL,
	ESMS_VIBER_URL,
	ESMS_CHECK_TEMPLATES,
	ESMS_OTP_MAKER,
};

/* The requests that eSMS has, by what they carry. */
typedef enum EsmsRequest
{
	ESMS_TEXT,
	ESMS_FIXED,
	ESMS_VIBER,
	ESMS_ADVERTISEMENT,
	ESMS_OTP,
	ESMS_ZALO,
	ESMS_ZALO_THEN_SMS,
	ESMS_QUESTION,
} EsmsRequest;

extern EsmsRequest esms_request_of(Settings settings, const Message *message);
extern bool esms_is_viber(Settings settings);
extern bool esms_otp_is_local(Settings settings);
extern const char *esms_route_of(Settings settings, const Message *message);
extern const char *esms_sms_content(Settings settings, const Message *message);
extern int esms_legs(Settings settings, const Message *message, Leg *legs);
extern bool esms_build(Settings settings, const Message *message, HttpRequest *request);

#endif /* SMS_ESMS_H */
