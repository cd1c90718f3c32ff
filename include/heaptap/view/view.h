/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_VIEW_VIEW_H
#define HEAPTAP_VIEW_VIEW_H

/*
 * Models to text for people and to JSON for scripts. Pure functions over a
 * const model that print to a stream; what goes wrong in writing is left in
 * the stream, as with stdio. Everything that comes from a target is cleaned
 * here and nowhere else: of control characters in text, to valid UTF-8 in
 * JSON.
 *
 * The keys of the JSON objects are those of the manual pages; what is not
 * known is null, never 0.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include "heaptap/analysis/clean_report.h"
#include "heaptap/analysis/heap_report.h"
#include "heaptap/analysis/info_report.h"
#include "heaptap/analysis/refs_report.h"
#include "heaptap/analysis/stack_report.h"
#include "heaptap/analysis/trace_report.h"
#include "heaptap/analysis/watch_report.h"
#include "heaptap/base/error.h"
#include "heaptap/base/text.h"

struct tap_view_options {
	bool color;   /* escape sequences for colour */
	bool utf8;    /* what is shown may use more than ASCII */
	size_t limit; /* rows of a ranking */
	int width;    /* columns of the terminal */
};

void tap_view_info_text(
	FILE *out, const struct tap_info_report *report, const struct tap_view_options *options);
void tap_view_info_json(FILE *out, const struct tap_info_report *report);

void tap_view_stack_text(
	FILE *out, const struct tap_stack_report *report, const struct tap_view_options *options);
void tap_view_stack_json(FILE *out, const struct tap_stack_report *report);

void tap_view_watch_text(
	FILE *out, const struct tap_watch_report *report, const struct tap_view_options *options);
void tap_view_watch_json(FILE *out, const struct tap_watch_report *report);

/* Comma-separated lines; unknown values are empty. */
void tap_view_watch_csv_head(struct tap_text *line);
void tap_view_watch_csv_line(
	struct tap_text *line, pid_t pid, const struct tap_watch_point *point);

void tap_view_trace_text(
	FILE *out, const struct tap_trace_report *report, const struct tap_view_options *options);
/* At most limit sites. */
void tap_view_trace_json(FILE *out, const struct tap_trace_report *report, size_t limit);

void tap_view_report_text(
	FILE *out, const struct tap_heap_report *report, const struct tap_view_options *options);
/* At most limit rows of each table. */
void tap_view_report_json(FILE *out, const struct tap_heap_report *report, size_t limit);

void tap_view_types_text(
	FILE *out, const struct tap_heap_report *report, const struct tap_view_options *options);
void tap_view_types_json(FILE *out, const struct tap_heap_report *report, size_t limit);

void tap_view_refs_text(
	FILE *out, const struct tap_refs_report *report, const struct tap_view_options *options);
void tap_view_refs_dot(FILE *out, const struct tap_refs_report *report);
void tap_view_refs_json(FILE *out, const struct tap_refs_report *report);

void tap_view_clean_text(
	FILE *out, const struct tap_clean_report *report, const struct tap_view_options *options);
void tap_view_clean_json(FILE *out, const struct tap_clean_report *report);

void tap_view_error_json(FILE *out, const struct tap_error *err);

#endif
