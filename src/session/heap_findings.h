/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_HEAP_FINDINGS_H
#define HEAPTAP_SESSION_HEAP_FINDINGS_H

/* What a report says of a heap's model. */

#include "heaptap/analysis/heap_report.h"
#include "session/heap_model.h"

/* Fills suspects. threshold: a share of all live bytes. */
void heap_findings_suspects(
	const struct heap_model *model, double threshold, struct tap_heap_report *report);
/* How many there are of each type, by its number: most first, none left out. */
void heap_findings_rank_types(const struct heap_model *model, const uint64_t *counts,
	struct tap_type_count_list *ret);
/* Fills unreachable. */
void heap_findings_lost(const struct heap_model *model, struct tap_heap_report *report);
/* Fills memory. */
struct tap_error *heap_findings_memory(
	const struct heap_model *model, struct tap_heap_report *report);
/* Fills types: counts, own and retained bytes. */
void heap_findings_types(const struct heap_model *model, struct tap_heap_report *report);

#endif
