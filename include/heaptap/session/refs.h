/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_REFS_H
#define HEAPTAP_SESSION_REFS_H

/* `heaptap refs`: one object of a process's heap, and what holds it. The process
 * is held and copied as for a report. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/analysis/refs_report.h"
#include "heaptap/base/error.h"

struct tap_refs_options {
	const char *type;  /* its full name, or what follows the last dot; NULL: by address */
	uint64_t addr;     /* of the object, or anywhere in its block */
	uint64_t index;    /* which object of that type, from 0, by address */
	unsigned max_depth;
	bool forward;
	double max_pause_s;
	const char *debug_dir; /* may be NULL */
	void (*on_progress)(void *context, const char *what); /* may be NULL */
	void *context;
};

/* NOT_FOUND where nothing is like that. */
struct tap_error *tap_refs_collect(
	pid_t pid, const struct tap_refs_options *options, struct tap_refs_report *ret);

#endif
