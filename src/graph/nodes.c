/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "graph/internal.h"

#define SLACK_IS_ODD UINT16_MAX
#define LOW_BITS 32

void tap_graph_add_node(struct tap_graph *graph, uint64_t addr, uint64_t size_bytes,
	uint64_t owned_bytes, uint32_t tag)
{
	if (!graph_grow((void **)&graph->staged, &graph->staged_capacity, graph->staged_count,
		    sizeof(*graph->staged))) {
		graph->failed = true;
		return;
	}
	graph->staged[graph->staged_count++] = (struct staged){
		.addr = addr,
		.size = number_new(&graph->wide, size_bytes),
		.owned = number_new(&graph->wide, owned_bytes),
		.tag = tag,
	};
}

/* Keeps, of the sorted nodes, those that lie in memory and on no other. */
static size_t drop_overlapping(struct tap_graph *graph)
{
	size_t kept = 0;
	uint64_t end = 0;

	for (size_t i = 0; i < graph->staged_count; i++) {
		const struct staged *node = &graph->staged[i];
		uint64_t size = number_get(&graph->wide, node->size);

		if (!size || node->addr < end || node->addr >= ADDR_END ||
			size > ADDR_END - node->addr)
			continue;
		end = node->addr + size;
		graph->staged[kept++] = *node;
	}
	return kept;
}

static bool create_arrays(struct tap_graph *graph, size_t count)
{
	graph->places = graph_array(count, sizeof(*graph->places));
	graph->slack = graph_array(count, sizeof(*graph->slack));
	graph->tag = graph_array(count, sizeof(*graph->tag));
	graph->root_of = graph_array(count, sizeof(*graph->root_of));
	graph->out.first = graph_array(count + 1, sizeof(*graph->out.first));
	return graph->places && graph->slack && graph->tag && graph->root_of && graph->out.first;
}

static void set_owned(struct tap_graph *graph, uint32_t node, uint64_t size, uint64_t owned)
{
	uint64_t slack = owned - size;

	if (slack < SLACK_IS_ODD) {
		graph->slack[node] = (uint16_t)slack;
	} else {
		graph->slack[node] = SLACK_IS_ODD;
		*tap_map_put(&graph->odd_owned, node, NULL) = owned;
	}
}

static void number_nodes(struct tap_graph *graph, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct staged *node = &graph->staged[i];
		uint32_t high = (uint32_t)(node->addr >> LOW_BITS);

		if (!i || high != graph->highs.items[graph->highs.count - 1].high)
			*tap_vector_add(&graph->highs) = (struct high){i, high};
		graph->places[i] = (struct place){(uint32_t)node->addr, node->size};
		graph->tag[i] = node->tag;
		set_owned(graph, i, number_get(&graph->wide, node->size),
			number_get(&graph->wide, node->owned));
	}
	graph->count = count;
}

static bool seal(struct tap_graph *graph, uint64_t *dropped_ret)
{
	size_t kept;

	if (graph->failed || !nodes_sort(&graph->staged, graph->staged_count))
		return false;
	kept = drop_overlapping(graph);
	*dropped_ret = graph->staged_count - kept;
	if (kept >= NONE || !create_arrays(graph, kept))
		return false;
	number_nodes(graph, (uint32_t)kept);
	free(graph->staged);
	graph->staged = NULL;
	return find_build(graph);
}

struct tap_error *tap_graph_seal(struct tap_graph *graph, uint64_t *dropped_ret)
{
	uint64_t dropped = 0;

	graph->failed = !seal(graph, &dropped);
	if (graph->failed)
		return tap_error_new(
			TAP_ERR_NOMEM, "no memory for %zu blocks of a heap", graph->staged_count);
	if (dropped_ret)
		*dropped_ret = dropped;
	return NULL;
}

uint32_t tap_graph_count(const struct tap_graph *graph)
{
	return graph->count;
}

uint64_t tap_graph_addr(const struct tap_graph *graph, uint32_t node)
{
	size_t low = 0, count = graph->highs.count;

	while (count > 1) {
		size_t half = count / 2;

		if (graph->highs.items[low + half].first <= node)
			low += half;
		count -= half;
	}
	return (uint64_t)graph->highs.items[low].high << LOW_BITS | graph->places[node].low;
}

uint64_t tap_graph_size(const struct tap_graph *graph, uint32_t node)
{
	return number_get(&graph->wide, graph->places[node].size);
}

uint64_t tap_graph_owned(const struct tap_graph *graph, uint32_t node)
{
	if (graph->slack[node] == SLACK_IS_ODD)
		return *tap_map_find(&graph->odd_owned, node);
	return tap_graph_size(graph, node) + graph->slack[node];
}

uint32_t tap_graph_tag(const struct tap_graph *graph, uint32_t node)
{
	return graph->tag[node];
}

void tap_graph_set_tag(struct tap_graph *graph, uint32_t node, uint32_t tag)
{
	graph->tag[node] = tag;
}
