/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "graph/internal.h"

/* The rows up to this one, including it, begin at or before the next edge. */
static void open_row(struct tap_graph *graph, uint32_t row)
{
	while (graph->open <= row)
		graph->out.first[graph->open++] = graph->edge_count;
}

void tap_graph_add_edge(struct tap_graph *graph, uint32_t from, uint32_t to)
{
	struct csr *out = &graph->out;

	if (from >= graph->count || to >= graph->count || graph->failed)
		return;
	if (from + 1 < graph->open) {
		graph->is_unsorted = true;
		return;
	}
	open_row(graph, from);
	if (graph->edge_count > out->first[from] && out->items[graph->edge_count - 1] == to)
		return;
	if (graph->edge_count == UINT32_MAX ||
		!graph_grow((void **)&out->items, &graph->edge_capacity, graph->edge_count,
			sizeof(*out->items))) {
		graph->failed = true;
		return;
	}
	out->items[graph->edge_count++] = to;
}

static bool turn_round(struct tap_graph *graph)
{
	const struct csr *out = &graph->out;
	struct csr *in = &graph->in;

	if (!csr_create(in, graph->count))
		return false;
	for (uint32_t i = 0; i < graph->edge_count; i++)
		csr_count(in, out->items[i]);
	if (!csr_open(in, graph->count))
		return false;
	for (uint32_t node = 0; node < graph->count; node++)
		for (uint32_t i = out->first[node]; i < out->first[node + 1]; i++)
			csr_put(in, out->items[i], node);
	return true;
}

bool edges_finish(struct tap_graph *graph)
{
	size_t used = graph->edge_count ? graph->edge_count : 1;
	uint32_t *items = realloc(graph->out.items, used * sizeof(*items));

	if (!items)
		return false;
	graph->out.items = items;
	open_row(graph, graph->count);
	return turn_round(graph);
}

const uint32_t *tap_graph_edges(const struct tap_graph *graph, uint32_t node, size_t *count_ret)
{
	return csr_row(&graph->out, node, count_ret);
}

const uint32_t *tap_graph_referrers(const struct tap_graph *graph, uint32_t node, size_t *count_ret)
{
	return csr_row(&graph->in, node, count_ret);
}
