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

#include "provider/table.h"

/* One for each file beside this one; the names of its tests begin with test_. */
extern int run_answer_tests(void);
extern int run_date_tests(void);
extern int run_details_tests(void);
extern int run_echo_tests(void);
extern int run_esms_tests(void);
extern int run_etelecom_tests(void);
extern int run_interits_tests(void);
extern int run_json_tests(void);
extern int run_option_tests(void);
extern int run_pace_tests(void);
extern int run_phone_tests(void);
extern int run_progress_tests(void);
extern int run_scrub_tests(void);
extern int run_support_tests(void);
extern int run_table_tests(void);
extern int run_template_tests(void);
extern int run_text_tests(void);
extern int run_trace_tests(void);
extern int run_url_tests(void);
extern int run_kept_tests(void);

/* in unit.c */
extern const char *const one_phone[1];

extern void fill_settings(const Provider *provider, const char **settings, const char *const *given);
#define fill(provider, settings, ...) fill_settings(provider, settings, (const char *const[]){__VA_ARGS__})

extern Answer read_answer(const Provider *provider, Settings settings, const Message *message, int status,
						  const char *body);
extern void assert_body(const Provider *provider, Settings settings, const Message *message, const char *path,
						const char *expected);
extern Report assert_report(const Provider *provider, const char *json, Delivery delivery, const char *code,
							const char *id);

#endif /* SMS_UNIT_H */
