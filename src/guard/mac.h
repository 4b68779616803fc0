/*
 * mac.h
 *		Keyed hashes with the database's own secret, and random numbers.
 */
#ifndef SMS_MAC_H
#define SMS_MAC_H

#include "postgres.h"

#define MAC_SIZE          32
#define HIDDEN_PHONE_SIZE 33 /* 32 digits */

extern void strong_random(void *bytes, size_t n);
extern int64 random_int64(void);
extern void mac_texts(const char *const *texts, int n, uint8 mac[MAC_SIZE]);
extern void mac_hide_phone(const char *phone, char hidden[HIDDEN_PHONE_SIZE]);
extern bool mac_equal(const uint8 *a, const uint8 *b);
extern void mac_token(int64 id, char *token, size_t size);
extern int64 mac_token_id(const char *token);

#endif /* SMS_MAC_H */
