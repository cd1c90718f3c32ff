/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ANALYSIS_STACK_REPORT_H
#define HEAPTAP_ANALYSIS_STACK_REPORT_H

/* The model of `heaptap stack`: every thread, where it is and what it waits
 * in. Strings belong to the report's pool, and are raw. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "heaptap/base/frame.h"
#include "heaptap/base/strings.h"
#include "heaptap/base/vector.h"
#include "heaptap/proc/process.h"

TAP_VECTOR_TYPE(tap_frame_list, struct tap_frame);

struct tap_stack_thread {
	pid_t tid;
	const char *name;
	char state;          /* as it was before heaptap looked: R S D T ... */
	const char *wchan;   /* NULL where unknown */
	int holds_gil;       /* 1, 0, -1 unknown or no Python thread */
	struct tap_frame_list frames; /* innermost first */
	const char *note;    /* why the stack is missing or partial, else NULL */
};

TAP_VECTOR_TYPE(tap_stack_thread_list, struct tap_stack_thread);

struct tap_stack_report {
	struct tap_process process;
	double pause_s;      /* longest time that a thread was held */
	struct tap_stack_thread_list threads;
	const char *note;    /* about the process as a whole, else NULL */
	struct tap_strings *strings;
};

void tap_stack_report_deinit(struct tap_stack_report *report);

#endif
