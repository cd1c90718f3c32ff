/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ANALYSIS_REFS_REPORT_H
#define HEAPTAP_ANALYSIS_REFS_REPORT_H

/* The model of `heaptap refs`: what holds one object or block, or what it holds
 * (forward), some steps far. Strings belong to the report's pool, and are raw. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/base/strings.h"
#include "heaptap/base/vector.h"
#include "heaptap/proc/process.h"

struct tap_ref_node {
	const char *type;   /* NULL: a block without one */
	const char *label;  /* what a programmer would type, else type and address */
	uint64_t addr;
	uint64_t own_bytes;
	bool root;          /* something outside of the heap holds it */
	uint64_t folded;    /* so many more hold it (forward: are held by it) and are left out */
	unsigned depth;     /* steps from the first */
};
TAP_VECTOR_TYPE(tap_ref_node_list, struct tap_ref_node);

/* From the holder to what it holds; indices of nodes. */
struct tap_ref_edge {
	size_t from, to;
	const char *label; /* ".attribute", "['key']", "[3]"; "" where it has no name */
};
TAP_VECTOR_TYPE(tap_ref_edge_list, struct tap_ref_edge);

struct tap_refs_report {
	struct tap_process process;
	double pause_s;
	bool forward;
	uint64_t matching; /* how many objects have the type that was asked for; 1 with an address */
	struct tap_ref_node_list nodes; /* the first is what was asked for; nearest first */
	struct tap_ref_edge_list edges;
	struct tap_strings *strings;
};

void tap_refs_report_deinit(struct tap_refs_report *report);

#endif
