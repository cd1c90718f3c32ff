/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "heaptap/analysis/suspects.h"
#include "unit.h"

#define NODE_BYTES 100
#define NODES_MAX 64

struct heap {
	struct tap_graph *graph;
	enum tap_node_role roles[NODES_MAX];
	uint32_t types[NODES_MAX];
	unsigned nodes;
};

static enum tap_node_role role(void *context, uint32_t node)
{
	return ((struct heap *)context)->roles[node];
}

static uint32_t type(void *context, uint32_t node)
{
	return ((struct heap *)context)->types[node];
}

static void add(struct heap *heap, enum tap_node_role node_role, uint32_t node_type)
{
	heap->roles[heap->nodes] = node_role;
	heap->types[heap->nodes] = node_type;
	tap_graph_add_node(heap->graph, 0x10000 + heap->nodes * 0x100, NODE_BYTES, NODE_BYTES, 0);
	heap->nodes++;
}

static struct tap_suspects_found find(struct heap *heap, double threshold)
{
	struct tap_suspects_found found;
	const struct tap_suspects_input input = {
		.graph = heap->graph,
		.total_bytes = heap->nodes * NODE_BYTES,
		.threshold = threshold,
		.most = 10,
		.role = role,
		.type = type,
		.types = 2,
		.context = heap,
	};

	assert_ok(tap_graph_finish(heap->graph));
	tap_suspects_find(&input, &found);
	return found;
}

/* A module with a dict; in it a list of many, and a small list. */
static void test_list_in_a_module(void **state)
{
	struct heap heap = {.graph = tap_graph_create()};
	struct tap_suspects_found found;

	(void)state;
	add(&heap, TAP_NODE_NAMES, UINT32_MAX);      /* 0: the module */
	add(&heap, TAP_NODE_NAMES, UINT32_MAX);      /* 1: its dict */
	add(&heap, TAP_NODE_COLLECTION, UINT32_MAX); /* 2: the list */
	add(&heap, TAP_NODE_PART, UINT32_MAX);       /* 3: its table */
	add(&heap, TAP_NODE_COLLECTION, UINT32_MAX); /* 4: another one */
	for (int i = 5; i < 40; i++)
		add(&heap, TAP_NODE_VALUE, 0);
	assert_ok(tap_graph_seal(heap.graph, NULL));
	tap_graph_add_edge(heap.graph, 0, 1);
	tap_graph_add_edge(heap.graph, 1, 2);
	tap_graph_add_edge(heap.graph, 1, 4);
	for (uint32_t i = 5; i < 38; i++)
		tap_graph_add_edge(heap.graph, 2, i);
	tap_graph_add_edge(heap.graph, 2, 3);
	tap_graph_add_edge(heap.graph, 4, 38);
	tap_graph_add_edge(heap.graph, 4, 39);
	tap_graph_add_root(heap.graph, 0, 0, 0);
	found = find(&heap, 0.1);
	assert_int_equal(found.count, 1);
	assert_int_equal(found.items[0].node, 2);
	assert_int_equal(found.items[0].retained_bytes, 35 * NODE_BYTES);
	tap_vector_free(&found);
	tap_graph_destroy(heap.graph);
}

/* Nothing holds them together: a class with many instances. */
static void test_instances(void **state)
{
	struct heap heap = {.graph = tap_graph_create()};
	struct tap_suspects_found found;

	(void)state;
	for (int i = 0; i < 40; i++)
		add(&heap, TAP_NODE_VALUE, i % 2 ? 1 : UINT32_MAX);
	assert_ok(tap_graph_seal(heap.graph, NULL));
	for (uint32_t i = 0; i < 40; i++)
		tap_graph_add_root(heap.graph, i, 0, 0);
	found = find(&heap, 0.3);
	assert_int_equal(found.count, 1);
	assert_int_equal(found.items[0].node, TAP_GRAPH_NONE);
	assert_int_equal(found.items[0].type, 1);
	assert_int_equal(found.items[0].instances, 20);
	tap_vector_free(&found);
	tap_graph_destroy(heap.graph);
}

/* A collection that holds nearly everything in one item is not where it is. */
static void test_list_in_a_list(void **state)
{
	struct heap heap = {.graph = tap_graph_create()};
	struct tap_suspects_found found;

	(void)state;
	add(&heap, TAP_NODE_COLLECTION, UINT32_MAX);
	add(&heap, TAP_NODE_COLLECTION, UINT32_MAX);
	for (int i = 2; i < 40; i++)
		add(&heap, TAP_NODE_VALUE, UINT32_MAX);
	assert_ok(tap_graph_seal(heap.graph, NULL));
	tap_graph_add_edge(heap.graph, 0, 1);
	for (uint32_t i = 2; i < 40; i++)
		tap_graph_add_edge(heap.graph, 1, i);
	tap_graph_add_root(heap.graph, 0, 0, 0);
	found = find(&heap, 0.1);
	assert_int_equal(found.count, 1);
	assert_int_equal(found.items[0].node, 1);
	tap_vector_free(&found);
	tap_graph_destroy(heap.graph);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list_in_a_module),
		cmocka_unit_test(test_instances),
		cmocka_unit_test(test_list_in_a_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
