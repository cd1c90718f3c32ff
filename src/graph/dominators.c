/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "graph/internal.h"

/*
 * Nodes are numbered as a depth-first search comes to them, from 1; 0 is the
 * imaginary node that leads to all roots. Arrays but `number` are by these
 * numbers. Nothing recurs: a heap may be one long chain.
 */
struct search {
	const struct tap_graph *graph;
	uint32_t count;   /* the last number given */
	uint32_t *number; /* by node; 0: not reached */
	uint32_t *node;
	uint32_t *parent; /* in the search tree; in the end the dominator */
	uint32_t *semi;   /* the semidominator */
	uint32_t *up;     /* some ancestor; all between it and the node are in least */
	uint32_t *least;  /* while searching: the next edge to follow */
};

static uint32_t enter(struct search *search, uint32_t node, uint32_t parent)
{
	uint32_t number = ++search->count;

	search->number[node] = number;
	search->node[number] = node;
	search->parent[number] = parent;
	search->least[number] = search->graph->out.first[node];
	return number;
}

/* The child that the search goes on to; 0: none is left. */
static uint32_t next_child(struct search *search, uint32_t at)
{
	const struct csr *out = &search->graph->out;
	uint32_t end = out->first[search->node[at] + 1];

	for (uint32_t i = search->least[at]; i < end; i++) {
		if (!search->number[out->items[i]]) {
			search->least[at] = i + 1;
			return enter(search, out->items[i], at);
		}
	}
	return 0;
}

static void search_from(struct search *search, uint32_t root)
{
	uint32_t at = enter(search, root, 0);

	while (at) {
		uint32_t child = next_child(search, at);

		at = child ? child : search->parent[at];
	}
}

/*
 * The least semidominator on the way from a node up to, not including, the
 * first ancestor whose number is not above `limit`. The way is made shorter:
 * going up turns its links round, so that it can be gone back without a stack.
 */
static uint32_t least_above(struct search *search, uint32_t at, uint32_t limit)
{
	uint32_t below = 0, top, least;

	while (search->up[at] > limit) {
		uint32_t above = search->up[at];

		search->up[at] = below;
		below = at;
		at = above;
	}
	top = search->up[at];
	least = search->least[at];
	while (below) {
		uint32_t next = search->up[below];

		if (search->least[below] < least)
			least = search->least[below];
		search->least[below] = least;
		search->up[below] = top;
		below = next;
	}
	return least;
}

static void find_semidominators(struct search *search)
{
	const struct csr *in = &search->graph->in;

	for (uint32_t at = search->count; at; at--) {
		uint32_t node = search->node[at], semi = search->semi[at];

		for (uint32_t i = in->first[node]; semi && i < in->first[node + 1]; i++) {
			uint32_t from = search->number[in->items[i]];

			if (!from)
				continue;
			if (from > at)
				from = least_above(search, from, at);
			if (from < semi)
				semi = from;
		}
		search->semi[at] = search->least[at] = semi;
	}
}

/* From the top down: a node's dominator is its first ancestor, by way of
 * dominators, that is not below its semidominator. */
static void find_dominators(struct search *search)
{
	for (uint32_t at = 1; at <= search->count; at++) {
		uint32_t dominator = search->parent[at];

		while (dominator > search->semi[at])
			dominator = search->parent[dominator];
		search->parent[at] = dominator;
	}
}

static bool search_all(struct search *search)
{
	size_t count = search->graph->count;

	search->number = graph_array(count, sizeof(uint32_t));
	search->node = graph_array(count + 1, sizeof(uint32_t));
	search->parent = graph_array(count + 1, sizeof(uint32_t));
	search->least = graph_array(count + 1, sizeof(uint32_t));
	if (!search->number || !search->node || !search->parent || !search->least)
		return false;
	for (size_t i = 0; i < search->graph->roots.count; i++)
		if (!search->number[search->graph->seeds[i]])
			search_from(search, search->graph->seeds[i]);
	return true;
}

static bool dominate_all(struct search *search)
{
	size_t size_bytes = ((size_t)search->count + 1) * sizeof(uint32_t);

	search->semi = graph_array(search->count + 1, sizeof(uint32_t));
	search->up = graph_array(search->count + 1, sizeof(uint32_t));
	if (!search->semi || !search->up)
		return false;
	memcpy(search->semi, search->parent, size_bytes);
	memcpy(search->up, search->parent, size_bytes);
	for (size_t i = 0; i < search->graph->roots.count; i++)
		search->semi[search->number[search->graph->seeds[i]]] = 0;
	find_semidominators(search);
	find_dominators(search);
	return true;
}

/* In the place of the numbers. */
static uint32_t *dominators_by_node(struct search *search)
{
	uint32_t *dominator = search->number;

	search->node[0] = NONE;
	for (uint32_t node = 0; node < search->graph->count; node++)
		dominator[node] = search->node[search->parent[search->number[node]]];
	search->number = NULL;
	return dominator;
}

bool dominators_build(struct tap_graph *graph, uint32_t **order_ret, uint32_t *count_ret)
{
	struct search search = {.graph = graph};
	bool ok = search_all(&search) && dominate_all(&search);

	*order_ret = NULL;
	if (ok) {
		graph->dominator = dominators_by_node(&search);
		memmove(search.node, search.node + 1, search.count * sizeof(*search.node));
		*order_ret = search.node;
		*count_ret = search.count;
		search.node = NULL;
	}
	free(search.number);
	free(search.node);
	free(search.parent);
	free(search.semi);
	free(search.up);
	free(search.least);
	return ok;
}
