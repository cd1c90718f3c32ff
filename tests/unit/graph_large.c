/* SPDX-License-Identifier: Apache-2.0 */
/* Shapes on which a search that recurs, or that goes the same way again and
 * again, does not come to an end. */
#include <stdlib.h>
#include "unit.h"
#include "heaptap/graph/graph.h"

#define NODES UINT32_C(1000000)
#define NODE_BYTES 32

static struct tap_graph *make_nodes(void)
{
	struct tap_graph *graph = tap_graph_create();

	for (uint32_t i = 0; i < NODES; i++)
		tap_graph_add_node(
			graph, 0x10000 + (uint64_t)i * NODE_BYTES, NODE_BYTES, NODE_BYTES, 0);
	assert_ok(tap_graph_seal(graph, NULL));
	return graph;
}

static void assert_chain(const struct tap_graph *graph)
{
	for (uint32_t i = 0; i < NODES; i++) {
		assert_int_equal(tap_graph_dominator(graph, i), i ? i - 1 : TAP_GRAPH_NONE);
		assert_int_equal(tap_graph_retained_nodes(graph, i), NODES - i);
		assert_int_equal(tap_graph_retained(graph, i), (uint64_t)(NODES - i) * NODE_BYTES);
	}
}

static void a_chain(void **state)
{
	_cleanup_graph_ struct tap_graph *graph = make_nodes();
	uint32_t path[3];
	bool cut;

	(void)state;
	for (uint32_t i = 0; i < NODES - 1; i++)
		tap_graph_add_edge(graph, i, i + 1);
	tap_graph_add_edge(graph, NODES - 1, NODES / 2);
	tap_graph_add_edge(graph, NODES - 1, 0);
	tap_graph_add_root(graph, 0, 0, 0);
	assert_ok(tap_graph_finish(graph));
	assert_chain(graph);
	assert_int_equal(tap_graph_path(graph, NODES - 1, path, 3, NULL, &cut), 3);
	assert_true(cut);
	assert_int_equal(path[0], NODES - 3);
}

static void a_chain_from_its_end(void **state)
{
	_cleanup_graph_ struct tap_graph *graph = make_nodes();

	(void)state;
	for (uint32_t i = 1; i < NODES; i++)
		tap_graph_add_edge(graph, i, i - 1);
	tap_graph_add_root(graph, NODES - 1, 0, 0);
	assert_ok(tap_graph_finish(graph));
	for (uint32_t i = 0; i < NODES; i++)
		assert_int_equal(tap_graph_retained_nodes(graph, i), i + 1);
}

/* Each node has the end of the chain before it too: long ways to the least. */
static void a_chain_that_leads_back(void **state)
{
	_cleanup_graph_ struct tap_graph *graph = make_nodes();

	(void)state;
	for (uint32_t i = 0; i < NODES - 1; i++) {
		if (i)
			tap_graph_add_edge(graph, i, i - 1);
		tap_graph_add_edge(graph, i, i + 1);
	}
	for (uint32_t i = 0; i < NODES; i++)
		tap_graph_add_edge(graph, NODES - 1, i);
	tap_graph_add_root(graph, 0, 0, 0);
	assert_ok(tap_graph_finish(graph));
	assert_chain(graph);
}

/* The first leads to all, all to the last. */
static void a_star(void **state)
{
	_cleanup_graph_ struct tap_graph *graph = make_nodes();
	size_t count;

	(void)state;
	for (uint32_t i = 1; i < NODES; i++)
		tap_graph_add_edge(graph, 0, i);
	for (uint32_t i = 1; i < NODES; i++)
		tap_graph_add_edge(graph, i, NODES - 1);
	tap_graph_add_root(graph, 0, 0, 0);
	assert_ok(tap_graph_finish(graph));
	for (uint32_t i = 1; i < NODES; i++) {
		assert_int_equal(tap_graph_dominator(graph, i), 0);
		assert_int_equal(tap_graph_retained(graph, i), NODE_BYTES);
	}
	tap_graph_dominated(graph, 0, &count);
	assert_int_equal(count, NODES - 1);
	tap_graph_referrers(graph, NODES - 1, &count);
	assert_int_equal(count, NODES);
	assert_int_equal(tap_graph_retained(graph, 0), (uint64_t)NODES * NODE_BYTES);
}

/* A long way down to many members: no part of it is gone up twice. */
static void a_set_below_a_chain(void **state)
{
	_cleanup_graph_ struct tap_graph *graph = make_nodes();
	uint64_t *bits = calloc(NODES / 64, sizeof(*bits));

	(void)state;
	for (uint32_t i = 0; i < NODES / 2; i++)
		tap_graph_add_edge(graph, i, i + 1);
	for (uint32_t i = NODES / 2 + 1; i < NODES; i++)
		tap_graph_add_edge(graph, NODES / 2, i);
	tap_graph_add_root(graph, 0, 0, 0);
	assert_ok(tap_graph_finish(graph));
	for (uint32_t i = NODES / 2 + 1; i < NODES; i++)
		bits[i / 64] |= UINT64_C(1) << (i % 64);
	assert_int_equal(
		tap_graph_retained_by_set(graph, bits), (uint64_t)(NODES / 2 - 1) * NODE_BYTES);
	/* And all below one member. */
	bits[0] |= 2;
	assert_int_equal(
		tap_graph_retained_by_set(graph, bits), (uint64_t)(NODES - 1) * NODE_BYTES);
	free(bits);
}

static void see_all(void *context, uint32_t head, uint64_t nodes, uint64_t bytes)
{
	*(uint32_t *)context = head;
	assert_int_equal(nodes, NODES);
	assert_int_equal(bytes, (uint64_t)NODES * NODE_BYTES);
}

static void a_chain_that_is_lost(void **state)
{
	_cleanup_graph_ struct tap_graph *graph = make_nodes();
	uint32_t head = 0;

	(void)state;
	for (uint32_t i = 1; i < NODES; i++)
		tap_graph_add_edge(graph, i, i - 1);
	assert_ok(tap_graph_finish(graph));
	assert_int_equal(tap_graph_lost(graph, see_all, &head), 1);
	assert_int_equal(head, NODES - 1);
	assert_false(tap_graph_is_reached(graph, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_chain),
		cmocka_unit_test(a_chain_from_its_end),
		cmocka_unit_test(a_chain_that_leads_back),
		cmocka_unit_test(a_star),
		cmocka_unit_test(a_set_below_a_chain),
		cmocka_unit_test(a_chain_that_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
