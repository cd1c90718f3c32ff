/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "graph/internal.h"

struct tap_graph *tap_graph_create(void)
{
	return tap_alloc(sizeof(struct tap_graph));
}

void tap_graph_destroy(struct tap_graph *graph)
{
	if (!graph)
		return;
	tap_vector_free(&graph->wide);
	tap_vector_free(&graph->highs);
	tap_vector_free(&graph->roots);
	tap_map_deinit(&graph->odd_owned);
	find_deinit(graph);
	csr_deinit(&graph->out);
	csr_deinit(&graph->in);
	csr_deinit(&graph->dominated);
	free(graph->staged);
	free(graph->places);
	free(graph->slack);
	free(graph->tag);
	free(graph->root_of);
	free(graph->seeds);
	free(graph->dominator);
	free(graph->retained);
	free(graph->retained_nodes);
	free(graph->via);
	free(graph);
}

/* In the order that needs the least memory at once: the dominators need the
 * most, and come first. */
static bool finish(struct tap_graph *graph)
{
	uint32_t *order, count;
	bool ok;

	if (graph->failed || !edges_finish(graph) || !roots_finish(graph))
		return false;
	ok = dominators_build(graph, &order, &count) && retained_build(graph, order, count);
	free(order);
	ok = ok && paths_build(graph) && dominated_build(graph);
	free(graph->seeds);
	graph->seeds = NULL;
	return ok;
}

struct tap_error *tap_graph_finish(struct tap_graph *graph)
{
	if (graph->is_unsorted)
		return tap_error_new(TAP_ERR_BAD_DATA, "edges of the heap's graph out of order");
	graph->failed = !finish(graph);
	if (graph->failed)
		return tap_error_new(TAP_ERR_NOMEM, "no memory for a graph of %u blocks, %u edges",
			graph->count, graph->edge_count);
	return NULL;
}
