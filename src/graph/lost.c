/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "graph/internal.h"

/*
 * Heads without a search for components. From each unreached node, by number,
 * that none before it leads to, all that it leads to is marked: the starts lead
 * to everything, and no start leads to a later one. Then the starts again from
 * the last on: one that a later one leads to is no head. Whatever leads to one
 * that is left is led to by it: the two are one component, and the start is the
 * first node of it.
 */
struct marks {
	const struct tap_graph *graph;
	uint8_t *round; /* the last round in which a node was marked */
	TAP_VECTOR(uint32_t) stack;
};

struct reach {
	uint64_t nodes;
	uint64_t bytes;
};

static void mark(struct marks *marks, uint32_t node, uint8_t round, struct reach *reach)
{
	if (marks->round[node] == round || tap_graph_is_reached(marks->graph, node))
		return;
	marks->round[node] = round;
	reach->nodes++;
	reach->bytes += tap_graph_owned(marks->graph, node);
	tap_vector_push(&marks->stack, node);
}

/* What the node leads to, without what was marked in this round before. */
static struct reach mark_from(struct marks *marks, uint32_t start, uint8_t round)
{
	struct reach reach = {0};
	const uint32_t *edges;
	size_t count;

	mark(marks, start, round, &reach);
	while (marks->stack.count) {
		uint32_t node = marks->stack.items[--marks->stack.count];

		edges = tap_graph_edges(marks->graph, node, &count);
		for (size_t i = 0; i < count; i++)
			mark(marks, edges[i], round, &reach);
	}
	return reach;
}

enum { ROUND_STARTS = 1, ROUND_HEADS, ROUND_SHARES };

size_t tap_graph_lost(const struct tap_graph *graph, tap_graph_lost_fn fn, void *context)
{
	_cleanup_free_ uint8_t *round = tap_alloc(graph->count);
	struct marks marks = {.graph = graph, .round = round};
	TAP_VECTOR(uint32_t) starts = {0};
	size_t heads;

	for (uint32_t node = 0; node < graph->count; node++)
		if (mark_from(&marks, node, ROUND_STARTS).nodes)
			tap_vector_push(&starts, node);
	/* Those that are left gather at the end. */
	heads = starts.count;
	for (size_t i = starts.count; i--;)
		if (mark_from(&marks, starts.items[i], ROUND_HEADS).nodes)
			starts.items[--heads] = starts.items[i];
	for (size_t i = heads; i < starts.count && fn; i++) {
		struct reach reach = mark_from(&marks, starts.items[i], ROUND_SHARES);

		fn(context, starts.items[i], reach.nodes, reach.bytes);
	}
	heads = starts.count - heads;
	tap_vector_free(&starts);
	tap_vector_free(&marks.stack);
	return heads;
}
