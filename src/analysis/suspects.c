/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/analysis/suspects.h"
#include "heaptap/base/alloc.h"

/* So much of what a collection retains is one child's: the child is the one
 * that grows. */
#define NEARLY_ALL 0.8
/* Names may lead in circles of dominators never; deeper than this nobody types. */
#define DEPTH_MAX 200

struct finder {
	const struct tap_suspects_input *input;
	uint64_t least_bytes;
	struct tap_suspects_found *found;
	uint64_t *covered; /* a bit for each node that is a suspect */
	struct {
		uint64_t bytes, instances;
	} *by_type;
};

static uint64_t retained(const struct finder *f, uint32_t node)
{
	return tap_graph_retained(f->input->graph, node);
}

static void add(struct finder *f, uint32_t node)
{
	f->covered[node / 64] |= UINT64_C(1) << node % 64;
	tap_vector_push(f->found,
		((struct tap_suspect_found){.node = node,
			.type = f->input->type(f->input->context, node),
			.retained_bytes = retained(f, node),
			.instances = 1}));
}

/* The child that retains most; TAP_GRAPH_NONE where there is none. */
static uint32_t largest(const struct finder *f, uint32_t node)
{
	size_t count;
	const uint32_t *children = tap_graph_dominated(f->input->graph, node, &count);
	uint32_t best = TAP_GRAPH_NONE;

	for (size_t i = 0; i < count; i++)
		if (best == TAP_GRAPH_NONE || retained(f, children[i]) > retained(f, best))
			best = children[i];
	return best;
}

static void look_below(struct finder *f, uint32_t node, int depth);

/* A table or an item is followed like the collection that it is part of. */
static void look_into(struct finder *f, uint32_t node, int depth)
{
	uint32_t child = largest(f, node);
	enum tap_node_role role = f->input->role(f->input->context, node);

	if (role == TAP_NODE_NAMES) {
		look_below(f, node, depth);
		return;
	}
	if (child != TAP_GRAPH_NONE && depth < DEPTH_MAX &&
		(double)retained(f, child) >= NEARLY_ALL * (double)retained(f, node) &&
		f->input->role(f->input->context, child) != TAP_NODE_PART) {
		look_into(f, child, depth + 1);
		return;
	}
	add(f, node);
}

/* Below what gives names each large child is one of its own; what has none is
 * the suspect itself, unless it is the roots. */
static void look_below(struct finder *f, uint32_t node, int depth)
{
	size_t count, large = 0;
	const uint32_t *children = tap_graph_dominated(f->input->graph, node, &count);

	for (size_t i = 0; i < count && depth < DEPTH_MAX; i++) {
		if (retained(f, children[i]) < f->least_bytes)
			continue;
		large++;
		look_into(f, children[i], depth + 1);
	}
	if (!large && node != TAP_GRAPH_NONE)
		add(f, node);
}

/* What no suspect dominates: by type, the outermost instance of each branch. */
static void count_types(struct finder *f)
{
	const struct tap_graph *graph = f->input->graph;

	for (uint32_t node = 0; node < tap_graph_count(graph); node++) {
		uint32_t type = f->input->type(f->input->context, node), above = node;
		bool counts = type < f->input->types && tap_graph_is_reached(graph, node);

		/* An instance below another one, or below a suspect, is counted there. */
		for (int i = 0; counts && i < DEPTH_MAX; i++) {
			if (f->covered[above / 64] & UINT64_C(1) << above % 64)
				counts = false;
			above = tap_graph_dominator(graph, above);
			if (above == TAP_GRAPH_NONE)
				break;
			if (f->input->type(f->input->context, above) == type)
				counts = false;
		}
		if (!counts)
			continue;
		f->by_type[type].bytes += retained(f, node);
		f->by_type[type].instances++;
	}
}

static void add_types(struct finder *f)
{
	for (uint32_t type = 0; type < f->input->types; type++)
		if (f->by_type[type].instances > 1 && f->by_type[type].bytes >= f->least_bytes)
			tap_vector_push(f->found,
				((struct tap_suspect_found){.node = TAP_GRAPH_NONE,
					.type = type,
					.retained_bytes = f->by_type[type].bytes,
					.instances = f->by_type[type].instances}));
}

static int compare(const void *a, const void *b)
{
	const struct tap_suspect_found *left = a, *right = b;

	return (left->retained_bytes < right->retained_bytes) -
	       (left->retained_bytes > right->retained_bytes);
}

void tap_suspects_find(const struct tap_suspects_input *input, struct tap_suspects_found *ret)
{
	struct finder f = {.input = input, .found = ret};

	memset(ret, 0, sizeof(*ret));
	f.least_bytes = (uint64_t)(input->threshold * (double)input->total_bytes);
	if (!f.least_bytes)
		f.least_bytes = 1;
	f.covered = tap_alloc((tap_graph_count(input->graph) / 64 + 1) * sizeof(*f.covered));
	f.by_type = tap_alloc((input->types + (size_t)1) * sizeof(*f.by_type));
	look_below(&f, TAP_GRAPH_NONE, 0);
	count_types(&f);
	add_types(&f);
	if (ret->count)
		qsort(ret->items, ret->count, sizeof(*ret->items), compare);
	if (ret->count > input->most)
		ret->count = input->most;
	free(f.covered);
	free(f.by_type);
}
