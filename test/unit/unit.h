/*
 * unit.h
 *		What the unit tests share.
 */
#ifndef SMS_UNIT_H
#define SMS_UNIT_H

/* cmocka wants these first, in this order. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/details.h"
#include "text/json.h"
#include "provider/answer.h"
#include "provider/support.h"
#include "provider/table.h"
#include "text/date.h"
#include "text/phone.h"
#include "text/text.h"

extern int run_message_tests(void);
extern int run_json_tests(void);
extern int run_option_tests(void);
extern int run_scrub_tests(void);
extern int run_esms_tests(void);
extern int run_etelecom_tests(void);
extern int run_interits_tests(void);
extern int run_common_tests(void);

/* in providers.c */
extern Answer read_answer(const Provider *provider, Settings settings, const Message *message, int status,
						  const char *body);
extern void assert_body(const Provider *provider, Settings settings, const Message *message, const char *path,
						const char *expected);

#endif /* SMS_UNIT_H */
