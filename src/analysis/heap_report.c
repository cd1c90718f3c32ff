/* SPDX-License-Identifier: Apache-2.0 */
#include "heaptap/analysis/heap_report.h"

void tap_heap_report_deinit(struct tap_heap_report *report)
{
	for (size_t i = 0; i < report->suspects.count; i++) {
		tap_vector_free(&report->suspects.items[i].path);
		tap_vector_free(&report->suspects.items[i].item_types);
	}
	tap_vector_free(&report->suspects);
	tap_vector_free(&report->unreachable.groups);
	tap_vector_free(&report->unreachable.python_types);
	tap_vector_free(&report->types);
	tap_vector_free(&report->fds.groups);
	tap_stack_report_deinit(&report->stacks);
	tap_vector_free(&report->notes);
	tap_process_deinit(&report->process);
	tap_strings_destroy(report->strings);
	report->strings = NULL;
}
