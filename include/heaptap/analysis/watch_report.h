/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ANALYSIS_WATCH_REPORT_H
#define HEAPTAP_ANALYSIS_WATCH_REPORT_H

/* The model of `heaptap watch`: memory of one or more processes over time. */

#include <stddef.h>
#include <stdint.h>
#include "heaptap/analysis/verdict.h"
#include "heaptap/base/error.h"
#include "heaptap/base/vector.h"
#include "heaptap/proc/process.h"
#include "heaptap/proc/usage.h"

struct tap_watch_point {
	double t_s; /* since the watch began */
	struct tap_usage usage;
};

TAP_VECTOR_TYPE(tap_watch_point_list, struct tap_watch_point);

struct tap_watch_entry {
	struct tap_process process; /* only pid is set where it was never there */
	struct tap_watch_point_list timeline;
	struct tap_verdict verdict;
	struct tap_error *error; /* it was not there, or went away before the end; else NULL */
};

struct tap_watch_report {
	uint64_t start_wall_ns;
	double duration_s;
	TAP_VECTOR(struct tap_watch_entry) entries;
};

void tap_watch_report_deinit(struct tap_watch_report *report);

#endif
