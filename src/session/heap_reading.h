/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_HEAP_READING_H
#define HEAPTAP_SESSION_HEAP_READING_H

/*
 * One reading of a process's heap: stop it, copy it, let it go on, build the
 * model of the copy, have that looked at, and take the copy away.
 */

#include <stdbool.h>
#include "heaptap/analysis/heap_report.h"
#include "heaptap/base/error.h"
#include "heaptap/proc/process.h"
#include "session/heap_model.h"

struct heap_reading_options {
	bool in_place;
	double max_pause_s;
	bool force;
	const char *debug_dir;
	/* From the caller's thread, some times a second; may be NULL. */
	void (*on_progress)(void *context, const char *what);
	void *progress_context;
	/* Called once with the model, in another thread, as long as the copy is there. */
	struct tap_error *(*look)(void *context, const struct heap_model *model);
	void *context;
};

struct heap_reading_result {
	double pause_s;
	bool in_place;
	double seconds; /* of reading and looking */
};

/* process: python_version is set. notes: sentences are added; their strings are
 * those of `strings`, as the model's are. */
struct tap_error *heap_read(struct tap_process *process,
	const struct heap_reading_options *options, struct tap_strings *strings,
	struct tap_name_list *notes, struct heap_reading_result *ret);

#endif
