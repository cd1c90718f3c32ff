/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ANALYSIS_SUSPECTS_H
#define HEAPTAP_ANALYSIS_SUSPECTS_H

/*
 * Which nodes of a heap's graph retain so much that they are worth a look: the
 * idea is that of Eclipse MAT's leak suspects. From the roots down the dominator
 * tree, where a node retains a large share:
 *
 * - what only gives names to things (modules, classes, instances, frames,
 *   functions) is followed to each child that retains a large share itself;
 * - a collection is followed only where one child has nearly all of it; where its
 *   bytes are spread over many children it is the accumulation point, and a
 *   suspect.
 *
 * What is then left over and belongs to many instances of one type, which no
 * suspect holds, is a suspect as a type.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/base/vector.h"
#include "heaptap/graph/graph.h"

enum tap_node_role {
	TAP_NODE_PART,       /* of its dominator: a table, a buffer, an item */
	TAP_NODE_NAMES,      /* gives names to what it refers to */
	TAP_NODE_COLLECTION, /* list, dict, set, ... */
	TAP_NODE_VALUE,      /* anything else */
};

struct tap_suspects_input {
	const struct tap_graph *graph;
	uint64_t total_bytes; /* of all live blocks: what a share is of */
	double threshold;     /* 0 to 1 */
	size_t most;          /* suspects at most */
	enum tap_node_role (*role)(void *context, uint32_t node);
	/* A number for a node's type, below types; UINT32_MAX: none. */
	uint32_t (*type)(void *context, uint32_t node);
	uint32_t types;
	void *context;
};

struct tap_suspect_found {
	uint32_t node;  /* TAP_GRAPH_NONE: instances of a type */
	uint32_t type;
	uint64_t retained_bytes;
	uint64_t instances;
};
TAP_VECTOR_TYPE(tap_suspects_found, struct tap_suspect_found);

/* Largest first. */
void tap_suspects_find(const struct tap_suspects_input *input, struct tap_suspects_found *ret);

#endif
