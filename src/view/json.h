/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_VIEW_JSON_H
#define HEAPTAP_VIEW_JSON_H

/* What several JSON documents have in common. All return a new reference. */

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>
#include "heaptap/analysis/stack_report.h"
#include "heaptap/analysis/verdict.h"
#include "heaptap/proc/process.h"

json_t *tap_json_text(const char *text); /* NULL is null */
json_t *tap_json_bytes(uint64_t number); /* UINT64_MAX, and what no int64 holds, is null */
json_t *tap_json_number(double number);  /* NAN and infinities are null; to the millionth */
json_t *tap_json_time(uint64_t wall_ns); /* ISO 8601 in UTC; 0 is null */
json_t *tap_json_process(const struct tap_process *process);
json_t *tap_json_verdict(const struct tap_verdict *verdict);
json_t *tap_json_frames(const struct tap_frame_list *frames);

/* An object whose first key is "schema": "heaptap.<command>/1". */
json_t *tap_json_document(const char *command);
/* Prints the document and a line feed, and frees it. */
void tap_json_print(FILE *out, json_t *document);

#endif
