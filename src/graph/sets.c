/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "graph/internal.h"

static bool bit_get(const uint64_t *bits, uint32_t bit)
{
	return bits[bit / 64] >> (bit % 64) & 1;
}

static void bit_set(uint64_t *bits, uint32_t bit)
{
	bits[bit / 64] |= (uint64_t)1 << (bit % 64);
}

/* What is known of nodes above members, so that no node is gone up from twice. */
struct above {
	uint64_t *seen;
	uint64_t *is_within; /* of those seen: a member, or below one */
};

/* Some other member dominates the node. */
static bool is_within(const struct tap_graph *graph, const uint64_t *members,
	const struct above *above, uint32_t node)
{
	uint32_t at = graph->dominator[node];
	bool within;

	while (at != NONE && !bit_get(members, at) && !bit_get(above->seen, at))
		at = graph->dominator[at];
	within = at != NONE && (bit_get(members, at) || bit_get(above->is_within, at));
	for (uint32_t end = at, i = graph->dominator[node]; i != end; i = graph->dominator[i]) {
		bit_set(above->seen, i);
		if (within)
			bit_set(above->is_within, i);
	}
	return within;
}

uint64_t tap_graph_retained_by_set(const struct tap_graph *graph, const uint64_t *bits)
{
	size_t words = ((size_t)graph->count + 63) / 64;
	_cleanup_free_ uint64_t *seen = tap_alloc(words * sizeof(*seen));
	_cleanup_free_ uint64_t *within = tap_alloc(words * sizeof(*within));
	struct above above = {seen, within};
	uint64_t sum = 0;

	for (size_t word = 0; word < words; word++) {
		for (uint64_t left = bits[word]; left; left &= left - 1) {
			uint32_t node = (uint32_t)(word * 64) + (uint32_t)__builtin_ctzll(left);

			if (tap_graph_is_reached(graph, node) &&
				!is_within(graph, bits, &above, node))
				sum += tap_graph_retained(graph, node);
		}
	}
	return sum;
}

/* In preorder, all that a node dominates follows it directly: a member counts
 * unless it lies within the last one of its class that did. */
void tap_graph_retained_by_class(const struct tap_graph *graph, const uint32_t *classes,
	uint32_t class_count, uint64_t *bytes)
{
	_cleanup_free_ uint32_t *stack = tap_alloc((size_t)graph->count * sizeof(*stack));
	_cleanup_free_ uint32_t *end = tap_alloc((size_t)class_count * sizeof(*end));
	const uint32_t *below;
	size_t depth = 0, count;
	uint32_t node, class;

	for (uint32_t i = 0; i < class_count; i++)
		bytes[i] = 0;
	below = tap_graph_dominated(graph, NONE, &count);
	for (uint32_t place = 0;; place++) {
		for (size_t i = 0; i < count; i++)
			stack[depth++] = below[i];
		if (!depth)
			return;
		node = stack[--depth];
		class = classes[node];
		if (class < class_count && place >= end[class]) {
			bytes[class] += tap_graph_retained(graph, node);
			end[class] = place + graph->retained_nodes[node];
		}
		below = tap_graph_dominated(graph, node, &count);
	}
}
