/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ANALYSIS_TRACE_REPORT_H
#define HEAPTAP_ANALYSIS_TRACE_REPORT_H

/* The model of `heaptap trace`: which sites allocated what stays, the memory
 * curve beside it, and the verdict. Strings belong to the report's pool. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/analysis/info_report.h"
#include "heaptap/analysis/stack_report.h"
#include "heaptap/analysis/verdict.h"
#include "heaptap/base/frame.h"
#include "heaptap/base/strings.h"
#include "heaptap/base/vector.h"
#include "heaptap/proc/process.h"

enum tap_ended_by {
	TAP_ENDED_DURATION,
	TAP_ENDED_SIGNAL,
	TAP_ENDED_EXIT,
	TAP_ENDED_EXEC,
	TAP_ENDED_BRAKE,
	TAP_ENDED_PROBE_COST,
};

struct tap_trace_point {
	double t_s;
	uint64_t rss_bytes;
	uint64_t swap_bytes;
	int64_t live_bytes; /* net: what was allocated since the start less what was freed, blocks
	                     * from before the start included */
};

TAP_VECTOR_TYPE(tap_trace_point_list, struct tap_trace_point);

struct tap_trace_site {
	/* Of the innermost Python frame, else of the innermost frame outside of
	 * the allocator and the C library. */
	const char *file;
	int line;
	const char *function;
	enum tap_language language;
	const char *module;        /* of the native frame, where there is no file */
	uint64_t module_offset;

	int64_t growth_bytes;      /* live_bytes less replaced_bytes */
	int64_t live_bytes;        /* allocated since the start and still there */
	int64_t live_blocks;
	int64_t replaced_bytes;    /* the part of live_bytes that took the place of older blocks */
	uint64_t allocated_bytes;
	uint64_t allocated_blocks;
	uint64_t freed_bytes;
	double growth_bytes_per_s;
	double standard_error_bytes; /* of growth_bytes; 0 where every call was seen. What may
	                              * have come in unseen_s, at the rate of the time that was
	                              * seen, is in it. */
	double rss_correlation;    /* NAN where it cannot be said */
	double rss_share;          /* of RSS + swap growth, 0 to 1; NAN where RSS did not grow */
	struct tap_frame_list stack; /* the heaviest of the site, innermost first */
};

TAP_VECTOR_TYPE(tap_trace_site_list, struct tap_trace_site);

struct tap_trace_totals {
	uint64_t allocated_bytes, allocated_blocks;
	uint64_t freed_bytes, freed_blocks; /* of blocks allocated since the start */
	int64_t live_bytes, live_blocks;
	int64_t growth_bytes;
	uint64_t unseen_freed_blocks, unseen_freed_bytes; /* from before the start */
	bool netted; /* unseen frees are set against the sites of their size class */
	uint64_t lost_samples;
};

struct tap_trace_report {
	struct tap_process process;
	uint64_t start_wall_ns; /* the last entry point was armed */
	double duration_s;      /* until the first was lifted */
	const char *engine;     /* "probe" or "breakpoint" */
	bool exact;             /* every call was seen */
	double unseen_s;        /* of duration_s: probes were out, as an answer came too late */
	uint64_t sample_interval_bytes;
	double overhead_fixed, overhead_samples; /* shares of the target's time */
	struct tap_verdict verdict;
	enum tap_ended_by ended_by;
	const char *ended_why;  /* a sentence where it ended early, else NULL */
	const char *left_behind; /* a sentence where something of heaptap's is in the process
	                          * still, else NULL */
	struct tap_entry_point_list entry_points;
	int child_exit_code;    /* of `trace -- CMD`: 0 to 255, 128 + n for a signal; -1: none */
	struct tap_trace_point_list timeline;
	struct tap_trace_totals totals;
	struct tap_trace_site_list sites; /* ranked by growth_bytes */
	struct tap_strings *strings;
};

/* "duration", "signal", "exit", "exec", "brake", "probe_cost" */
const char *tap_ended_by_name(enum tap_ended_by ended_by);

void tap_trace_report_deinit(struct tap_trace_report *report);

#endif
