/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "graph/internal.h"

/* A node that is held a million times is one root: memory is bounded by nodes. */
void tap_graph_add_root(struct tap_graph *graph, uint32_t to, uint8_t rank, uint32_t label)
{
	struct root *root;

	if (to >= graph->count || !graph->root_of)
		return;
	if (!graph->root_of[to]) {
		tap_vector_push(&graph->roots, ((struct root){to, label, rank}));
		graph->root_of[to] = (uint32_t)graph->roots.count;
		return;
	}
	root = &graph->roots.items[graph->root_of[to] - 1];
	if (rank < root->rank) {
		root->rank = rank;
		root->label = label;
	}
}

static void seed_by_rank(struct tap_graph *graph)
{
	uint32_t place[256] = {0}, sum = 0;

	for (size_t i = 0; i < graph->roots.count; i++)
		place[graph->roots.items[i].rank]++;
	for (unsigned rank = 0; rank < 256; rank++) {
		uint32_t those = place[rank];

		place[rank] = sum;
		sum += those;
		graph->rank_end[rank] = sum;
	}
	for (size_t i = 0; i < graph->roots.count; i++)
		graph->seeds[place[graph->roots.items[i].rank]++] = graph->roots.items[i].node;
}

static void order_by_node(struct tap_graph *graph, struct root *sorted)
{
	size_t count = 0;

	for (uint32_t node = 0; node < graph->count; node++)
		if (graph->root_of[node])
			sorted[count++] = graph->roots.items[graph->root_of[node] - 1];
	free(graph->roots.items);
	graph->roots.items = sorted;
	graph->roots.capacity = count;
}

bool roots_finish(struct tap_graph *graph)
{
	struct root *sorted = graph_array(graph->roots.count, sizeof(*sorted));

	graph->seeds = graph_array(graph->roots.count, sizeof(*graph->seeds));
	if (!sorted || !graph->seeds) {
		free(sorted);
		return false;
	}
	seed_by_rank(graph);
	order_by_node(graph, sorted);
	free(graph->root_of);
	graph->root_of = NULL;
	return true;
}

static int compare_root(const void *key, const void *item)
{
	uint32_t node = *(const uint32_t *)key, other = ((const struct root *)item)->node;

	return (node > other) - (node < other);
}

const struct root *root_find(const struct tap_graph *graph, uint32_t node)
{
	return bsearch(&node, graph->roots.items, graph->roots.count, sizeof(*graph->roots.items),
		compare_root);
}
