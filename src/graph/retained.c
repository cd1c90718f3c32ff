/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/internal.h"

bool retained_build(struct tap_graph *graph, const uint32_t *order, uint32_t count)
{
	graph->retained = graph_array(graph->count, sizeof(*graph->retained));
	graph->retained_nodes = graph_array(graph->count, sizeof(*graph->retained_nodes));
	if (!graph->retained || !graph->retained_nodes)
		return false;
	/* From the last on, so that a node has all of its own when it is added to
	 * its dominator. */
	for (uint32_t i = count; i--;) {
		uint32_t node = order[i], dominator = graph->dominator[node];

		number_add(&graph->wide, &graph->retained[node], tap_graph_owned(graph, node));
		graph->retained_nodes[node]++;
		if (dominator == NONE)
			continue;
		number_add(
			&graph->wide, &graph->retained[dominator], tap_graph_retained(graph, node));
		graph->retained_nodes[dominator] += graph->retained_nodes[node];
	}
	return true;
}

/* The roots are NONE, and their row, NONE + 1, is 0. */
static size_t row_of(uint32_t dominator)
{
	return (uint32_t)(dominator + 1);
}

bool dominated_build(struct tap_graph *graph)
{
	size_t rows = (size_t)graph->count + 1;

	if (!csr_create(&graph->dominated, rows))
		return false;
	for (uint32_t node = 0; node < graph->count; node++)
		if (tap_graph_is_reached(graph, node))
			csr_count(&graph->dominated, row_of(graph->dominator[node]));
	if (!csr_open(&graph->dominated, rows))
		return false;
	for (uint32_t node = 0; node < graph->count; node++)
		if (tap_graph_is_reached(graph, node))
			csr_put(&graph->dominated, row_of(graph->dominator[node]), node);
	return true;
}

uint32_t tap_graph_dominator(const struct tap_graph *graph, uint32_t node)
{
	return graph->dominator[node];
}

uint64_t tap_graph_retained(const struct tap_graph *graph, uint32_t node)
{
	return number_get(&graph->wide, graph->retained[node]);
}

uint32_t tap_graph_retained_nodes(const struct tap_graph *graph, uint32_t node)
{
	return graph->retained_nodes[node];
}

const uint32_t *tap_graph_dominated(const struct tap_graph *graph, uint32_t node, size_t *count_ret)
{
	return csr_row(&graph->dominated, row_of(node), count_ret);
}
