/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_VIEW_TEXT_H
#define HEAPTAP_VIEW_TEXT_H

/* What several text reports have in common. */

#include <stdbool.h>
#include <stdio.h>
#include "heaptap/view/view.h"

enum tap_ink {
	TAP_INK_PLAIN,
	TAP_INK_BOLD,
	TAP_INK_DIM,
	TAP_INK_RED,
	TAP_INK_YELLOW,
	TAP_INK_GREEN,
};

/* A report being printed. */
struct tap_page {
	FILE *out;
	const struct tap_view_options *options;
};

/* Text of a target's: cleaned. NULL prints "?". */
void tap_page_text(const struct tap_page *page, const char *text);
/* As tap_page_text(), filled up with spaces to `width` cells, or cut. */
void tap_page_cell(const struct tap_page *page, const char *text, size_t width);
/* What follows is in that ink; TAP_INK_PLAIN ends it. */
void tap_page_ink(const struct tap_page *page, enum tap_ink ink);

/* "heaptap stack 4242 · python 3.12.1 · /srv/etl/run.py"; what the command
 * adds follows on the same line, each behind tap_page_dot(). */
void tap_page_head(
	const struct tap_page *page, const char *command, const struct tap_process *process);
void tap_page_dot(const struct tap_page *page);

/* "LEAK  climbing 11.8 MiB/min ...", one line. */
void tap_page_verdict(const struct tap_page *page, const struct tap_verdict *verdict);
/* "+11.8 MiB/min" */
char *tap_page_rate(char buf[TAP_SIZE_TEXT + 8], double bytes_per_s);
/* tap_text_size() with a plus sign in front of what is above 0. */
char *tap_page_change(char buf[TAP_SIZE_TEXT + 1], int64_t bytes);

/* "cache.py:47 append", "malloc  libc.so.6+0x1234", "f (inlined)". */
void tap_page_frame(const struct tap_page *page, const struct tap_frame *frame);
/* The last component of a path; never NULL for one that is not. */
const char *tap_page_base(const char *path);

/* One line per module with the names of its entry points, how often each was
 * called where any was, and why one is not seen. The first line begins with
 * label, all are indented by `indent`. */
void tap_page_entry_points(const struct tap_page *page, int indent, const char *label,
	const struct tap_entry_point_list *points);

/* A curve as a picture of `rows` lines with the extremes on its left and the
 * times below. values[i] is at times[i]; ascending. */
void tap_page_curve(const struct tap_page *page, const double *times, const double *values,
	size_t count, int rows);
/* The same in one line of `cells` cells, without labels. */
void tap_page_sparkline(const struct tap_page *page, const double *times, const double *values,
	size_t count, int cells);

#endif
