/*
 * run_unit.c
 *		Unit tests of all that needs no server: messages, JSON, options, and each provider's
 *		requests and answers, against the wording of the providers' documentation.
 */
#include "unit.h"

int
main(void)
{
	int failed = 0;

	failed += run_message_tests();
	failed += run_json_tests();
	failed += run_option_tests();
	failed += run_scrub_tests();
	failed += run_esms_tests();
	failed += run_etelecom_tests();
	failed += run_interits_tests();
	failed += run_common_tests();
	return failed != 0;
}
