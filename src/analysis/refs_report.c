/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/analysis/refs_report.h"

void tap_refs_report_deinit(struct tap_refs_report *report)
{
	tap_vector_free(&report->nodes);
	tap_vector_free(&report->edges);
	tap_process_deinit(&report->process);
	tap_strings_destroy(report->strings);
	report->strings = NULL;
}
