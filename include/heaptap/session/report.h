/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_REPORT_H
#define HEAPTAP_SESSION_REPORT_H

/*
 * `heaptap report`: stop the process for a moment, copy it (copy-on-write), let
 * it go on, and read the copy's heap as a graph: what holds the memory, and what
 * nothing holds any more. Where no copy can be taken the process is read as it
 * stands still.
 */

#include <stdbool.h>
#include <sys/types.h>
#include "heaptap/analysis/heap_report.h"
#include "heaptap/base/error.h"

/* Holds a process for so long at most, where nothing else is asked for. */
#define TAP_REPORT_MAX_PAUSE_S 0.25

struct tap_report_options {
	bool in_place;         /* --stop: no copy */
	double max_pause_s;
	bool force;            /* also where the pause is predicted to be longer */
	double threshold;      /* of a suspect, a share */
	double watch_s;        /* for the verdict; 0: none */
	bool types_only;       /* types alone are filled, and what was read */
	double growth_s;       /* a second look so long after the first: changes by type; 0: none */
	const char *debug_dir; /* may be NULL */
	/* How far it is, where not NULL; from the caller's thread. */
	void (*on_progress)(void *context, const char *what);
	void *context;
};

struct tap_error *tap_report_collect(
	pid_t pid, const struct tap_report_options *options, struct tap_heap_report *ret);

#endif
