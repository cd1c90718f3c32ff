/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_BASE_PROGRESS_H
#define HEAPTAP_BASE_PROGRESS_H

/*
 * One line on standard error that is rewritten in place; shown only where
 * standard error is a terminal, the level is not quiet, and the work has
 * taken more than half a second. Main thread only.
 */

struct tap_progress {
	unsigned long long start_ns;
	unsigned long long shown_ns;
	int enabled;
	int visible;
};

void tap_progress_start(struct tap_progress *progress);
/* Shows the line, at most ten times a second; cut to the terminal's width. */
void tap_progress_show(struct tap_progress *progress, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Takes the line away. Every way out calls it before anything is printed. */
void tap_progress_end(struct tap_progress *progress);

#endif
