/*
 * run_unit.c
 *		Unit tests of all that needs no server: src/text, src/provider against the wording
 *		of the providers' documentation, and what of src/net is pure.  One file for each module.
 */
#include "unit.h"

int
main(void)
{
	static int (*const groups[])(void) = {
		run_phone_tests, run_text_tests,     run_date_tests,     run_json_tests,     run_details_tests,
		run_scrub_tests, run_option_tests,   run_table_tests,    run_support_tests,  run_answer_tests,
		run_esms_tests,  run_etelecom_tests, run_interits_tests, run_pace_tests,     run_progress_tests,
		run_trace_tests, run_url_tests,      run_kept_tests,     run_template_tests, run_echo_tests,
	};
	int failed = 0;

	cmocka_set_message_output(CM_OUTPUT_TAP); /* it names the groups too; "make unit" shows what failed */
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		failed += groups[i]();
	return failed != 0;
}
