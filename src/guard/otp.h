/*
 * otp.h
 *		One-time passwords that are made and checked here.
 */
#ifndef SMS_OTP_H
#define SMS_OTP_H

extern char *otp_make(int length, bool digits_only);
extern void otp_keep(const char *gateway, const char *phone, const char *code, int ttl);
extern bool otp_check(const char *gateway, const char *phone, const char *code);

#endif /* SMS_OTP_H */
