/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ANALYSIS_CLEAN_REPORT_H
#define HEAPTAP_ANALYSIS_CLEAN_REPORT_H

/* The model of `heaptap clean`. */

#include <stdbool.h>
#include "heaptap/proc/process.h"

struct tap_clean_report {
	struct tap_process process;
	bool found;
	bool removed; /* all that was found */
	char *reason; /* why not, or NULL */
	char *advice; /* what to do about it, or NULL */
};

void tap_clean_report_deinit(struct tap_clean_report *report);

#endif
