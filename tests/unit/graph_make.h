/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_TESTS_GRAPH_MAKE_H
#define HEAPTAP_TESTS_GRAPH_MAKE_H

/* Small graphs out of text. Nodes are called 0 to 9, a to z; node i counts
 * 1 << i bytes, so that a sum says whose it is. */

#include <string.h>
#include "unit.h"
#include "heaptap/graph/graph.h"

#define NODE_ADDR(node) (0x10000 + (uint64_t)(node)*0x100)
#define NODE_BYTES 0x40
#define NODE_NAMES "0123456789abcdefghijklmnopqrstuvwxyz"

static inline uint32_t node_named(char name)
{
	const char *found = strchr(NODE_NAMES, name);

	assert_non_null(found);
	return (uint32_t)(found - NODE_NAMES);
}

static inline struct tap_graph *make_nodes(uint32_t count)
{
	struct tap_graph *graph = tap_graph_create();

	for (uint32_t i = 0; i < count; i++)
		tap_graph_add_node(graph, NODE_ADDR(i), NODE_BYTES, (uint64_t)1 << i, i);
	assert_ok(tap_graph_seal(graph, NULL));
	assert_int_equal(tap_graph_count(graph), count);
	return graph;
}

/* "0>12 1>3": 0 leads to 1 and 2, 1 to 3. */
static inline void make_edges(struct tap_graph *graph, const char *edges)
{
	uint32_t from = TAP_GRAPH_NONE;

	for (const char *c = edges; *c; c++) {
		if (c[1] == '>')
			from = node_named(*c++);
		else if (*c != ' ')
			tap_graph_add_edge(graph, from, node_named(*c));
	}
}

/* "0 3:1": 0, and with rank 1 node 3. A root's label is its place in the text. */
static inline void make_roots(struct tap_graph *graph, const char *roots)
{
	for (const char *c = roots; *c; c++) {
		uint32_t node, label = (uint32_t)(c - roots);
		uint8_t rank = 0;

		if (*c == ' ')
			continue;
		node = node_named(*c);
		if (c[1] == ':') {
			rank = (uint8_t)(c[2] - '0');
			c += 2;
		}
		tap_graph_add_root(graph, node, rank, label);
	}
}

static inline struct tap_graph *make_graph(uint32_t count, const char *edges, const char *roots)
{
	struct tap_graph *graph = make_nodes(count);

	make_edges(graph, edges);
	make_roots(graph, roots);
	assert_ok(tap_graph_finish(graph));
	return graph;
}

#endif
