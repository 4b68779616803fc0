/*
 * otp.h
 *		One-time passwords that are made and checked here.
 */
#ifndef SMS_OTP_H
#define SMS_OTP_H

#include "postgres.h"

#include "gateway/gateway.h"

/* A one-time password that was sent. */
typedef struct Otp
{
	int64 id;         /* 0: there is none */
	bool live;        /* and its time has not passed */
	NameData asked;   /* the gateway that was asked for it; where there is none: for a check */
	NameData sent_by; /* the gateway that sent it */
	bool here;        /* made here: the next two are set */
	uint8 salt[16];
	uint8 hash[32];
} Otp;

extern char *otp_make(int length, bool digits_only);
extern int64 otp_keep(const char *gateway, const char *sent_by, const char *phone, const char *code, int ttl);
extern void otp_find(const char *gateway, const char *phone, Otp *otp);
extern bool otp_is_right(const Otp *otp, const char *phone, const char *code);
extern bool otp_try(const Gateway *gateway, const char *phone, const Otp *otp, bool right);
extern void otp_take_back_try(const char *phone, const Otp *otp);
extern void otp_forget(Datum ids);
extern bool otp_use_up(const Otp *otp, const char *phone);

#endif /* SMS_OTP_H */
