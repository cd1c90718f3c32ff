/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_WATCH_H
#define HEAPTAP_SESSION_WATCH_H

#include <stddef.h>
#include <sys/types.h>
#include "heaptap/analysis/watch_report.h"
#include "heaptap/base/error.h"

struct tap_watch_options {
	double duration_s; /* 0: until a signal, or until all are gone */
	double interval_s; /* 0: min(1 s, max(50 ms, duration / 200)) */
	double warmup_s;   /* left out of the verdict */
	/* Called after each tick where not NULL (progress, CSV lines); index is
	 * that of the entry whose newest point is new. */
	void (*on_point)(void *context, const struct tap_watch_report *report, size_t index);
	void *context;
};

/* Samples until the end; fails (GONE, PERMISSION) only where none of the
 * processes was there at the start. Needs no ptrace. */
struct tap_error *tap_watch_collect(const pid_t *pids, size_t count,
	const struct tap_watch_options *options, struct tap_watch_report *ret);

#endif
