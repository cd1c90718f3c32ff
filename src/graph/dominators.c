/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "graph/internal.h"

/* How many turns ahead memory is asked for, which lies anywhere: a node's edges,
 * then where they come from. */
#define AHEAD_ROW 24
#define AHEAD_EDGES 16
#define AHEAD_NUMBERS 8
#define AHEAD_LINKS 4

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
	struct link *links;
};

/* Of a node whose semidominator is known, to some ancestor. */
struct link {
	uint32_t up;
	/* The least semidominator from the node up to there, not including it. While
	 * searching: the next edge to follow. */
	uint32_t least;
};

static uint32_t enter(struct search *search, uint32_t node, uint32_t parent)
{
	uint32_t number = ++search->count;

	search->number[node] = number;
	search->node[number] = node;
	search->parent[number] = parent;
	search->links[number].least = search->graph->out.first[node];
	return number;
}

/* The child that the search goes on to; 0: none is left. */
static uint32_t next_child(struct search *search, uint32_t at)
{
	const struct csr *out = &search->graph->out;
	uint32_t end = out->first[search->node[at] + 1];

	for (uint32_t i = search->links[at].least; i < end; i++) {
		if (!search->number[out->items[i]]) {
			search->links[at].least = i + 1;
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

	while (search->links[at].up > limit) {
		uint32_t above = search->links[at].up;

		search->links[at].up = below;
		below = at;
		at = above;
	}
	top = search->links[at].up;
	least = search->links[at].least;
	while (below) {
		uint32_t next = search->links[below].up;

		if (search->links[below].least < least)
			least = search->links[below].least;
		search->links[below].least = least;
		search->links[below].up = top;
		below = next;
	}
	return least;
}

static void fetch_number(const struct search *search, uint32_t edge)
{
	__builtin_prefetch(&search->number[search->graph->in.items[edge]]);
}

static void fetch_link(const struct search *search, uint32_t edge)
{
	__builtin_prefetch(&search->links[search->number[search->graph->in.items[edge]]]);
}

/* Of a node with more edges the others are asked for one by one. */
static void fetch_ahead(const struct search *search, uint32_t at)
{
	const struct csr *in = &search->graph->in;
	uint32_t node, edge;

	if (at <= AHEAD_ROW)
		return;
	__builtin_prefetch(&in->first[search->node[at - AHEAD_ROW]]);
	__builtin_prefetch(&in->items[in->first[search->node[at - AHEAD_EDGES]]]);
	node = search->node[at - AHEAD_NUMBERS];
	edge = in->first[node];
	for (unsigned n = AHEAD_NUMBERS; n && edge < in->first[node + 1]; n--)
		fetch_number(search, edge++);
	node = search->node[at - AHEAD_LINKS];
	edge = in->first[node];
	for (unsigned n = AHEAD_LINKS; n && edge < in->first[node + 1]; n--)
		fetch_link(search, edge++);
}

static uint32_t semidominator(struct search *search, uint32_t at)
{
	const struct csr *in = &search->graph->in;
	uint32_t semi = search->semi[at];
	uint32_t end = in->first[search->node[at] + 1];

	for (uint32_t i = in->first[search->node[at]]; semi && i < end; i++) {
		uint32_t from = search->number[in->items[i]];

		if (end - i > AHEAD_NUMBERS)
			fetch_number(search, i + AHEAD_NUMBERS);
		if (end - i > AHEAD_LINKS)
			fetch_link(search, i + AHEAD_LINKS);
		if (!from)
			continue;
		if (from > at)
			from = least_above(search, from, at);
		if (from < semi)
			semi = from;
	}
	return semi;
}

static void find_semidominators(struct search *search)
{
	for (uint32_t at = search->count; at; at--) {
		fetch_ahead(search, at);
		search->semi[at] = search->links[at].least = semidominator(search, at);
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
	search->links = graph_array(count + 1, sizeof(*search->links));
	if (!search->number || !search->node || !search->parent || !search->links)
		return false;
	for (size_t i = 0; i < search->graph->roots.count; i++)
		if (!search->number[search->graph->seeds[i]])
			search_from(search, search->graph->seeds[i]);
	return true;
}

static bool dominate_all(struct search *search)
{
	search->semi = graph_array((size_t)search->count + 1, sizeof(uint32_t));
	if (!search->semi)
		return false;
	for (uint32_t at = 0; at <= search->count; at++)
		search->semi[at] = search->links[at].up = search->parent[at];
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
	free(search.links);
	return ok;
}
