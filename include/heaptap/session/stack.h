/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_STACK_H
#define HEAPTAP_SESSION_STACK_H

#include <stdbool.h>
#include <sys/types.h>
#include "heaptap/analysis/stack_report.h"
#include "heaptap/base/error.h"

struct tap_stack_options {
	bool native;
	bool python;
	const char *debug_dir; /* may be NULL */
};

/* Every thread's stack. Threads that can be stopped are, for as long as their
 * frames are read; threads in a system call that a stop would disturb, and
 * threads that do not stop within 500 ms, are read as they stand and the note
 * of the thread says so. Lines are resolved after the last thread was let go. */
struct tap_error *tap_stack_collect(
	pid_t pid, const struct tap_stack_options *options, struct tap_stack_report *ret);

#endif
