/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "graph/internal.h"

/* A breadth-first search for each rank, over what none before it has reached. */
struct queue {
	uint32_t *nodes;
	uint32_t first;
	uint32_t end;
};

static void visit(struct tap_graph *graph, struct queue *queue, uint32_t node, uint32_t via)
{
	if (graph->via[node] != NONE)
		return;
	graph->via[node] = via;
	queue->nodes[queue->end++] = node;
}

static void drain(struct tap_graph *graph, struct queue *queue)
{
	while (queue->first < queue->end) {
		uint32_t node = queue->nodes[queue->first++];

		for (uint32_t i = graph->out.first[node]; i < graph->out.first[node + 1]; i++)
			visit(graph, queue, graph->out.items[i], node);
	}
}

bool paths_build(struct tap_graph *graph)
{
	struct queue queue = {0};
	uint32_t seed = 0;

	graph->via = graph_array(graph->count, sizeof(*graph->via));
	queue.nodes = graph_array(graph->count, sizeof(*queue.nodes));
	if (!graph->via || !queue.nodes) {
		free(queue.nodes);
		return false;
	}
	memset(graph->via, 0xff, graph->count * sizeof(*graph->via));
	for (unsigned rank = 0; rank < 256; rank++) {
		for (; seed < graph->rank_end[rank]; seed++)
			visit(graph, &queue, graph->seeds[seed], graph->seeds[seed]);
		drain(graph, &queue);
	}
	free(queue.nodes);
	return true;
}

bool tap_graph_is_reached(const struct tap_graph *graph, uint32_t node)
{
	return graph->via[node] != NONE;
}

size_t tap_graph_path(const struct tap_graph *graph, uint32_t node, uint32_t *path, size_t capacity,
	uint32_t *label_ret, bool *cut_ret)
{
	size_t length = 1, kept;
	uint32_t root = node;

	if (!tap_graph_is_reached(graph, node))
		return 0;
	for (; graph->via[root] != root; root = graph->via[root])
		length++;
	kept = length < capacity ? length : capacity;
	for (size_t i = kept; i--; node = graph->via[node])
		path[i] = node;
	if (label_ret)
		*label_ret = root_find(graph, root)->label;
	if (cut_ret)
		*cut_ret = kept < length;
	return kept;
}
