/* SPDX-License-Identifier: Apache-2.0 */
#include "graph_make.h"

/* dominators: for each node the name of its dominator, R: the roots, -: not
 * reached. */
static const struct {
	const char *what;
	const char *edges;
	const char *roots;
	const char *dominators;
} cases[] = {
	{"one", "", "0", "R"},
	{"no root", "0>1", "", "--"},
	{"no edge", "", "0 2", "R-R"},
	{"chain", "0>1 1>2 2>3", "0", "R012"},
	{"chain from its end", "1>0 2>1 3>2", "3", "123R"},
	{"diamond", "0>12 1>3 2>3", "0", "R000"},
	{"diamond with a tail", "0>12 1>3 2>3 3>4 4>5", "0", "R00034"},
	{"to itself", "0>01 1>1", "0", "R0"},
	{"repeated", "0>1121 1>22", "0", "R00"},
	{"loop", "0>1 1>2 2>3 3>1", "0", "R012"},
	{"loop through the root", "0>1 1>2 2>0", "0", "R01"},
	{"both ways", "0>1 1>02 2>13 3>2", "0", "R012"},
	{"loop with two ways in", "0>12 1>2 2>1", "0", "R00"},
	{"two roots to one", "0>2 1>2 2>3", "0 1", "RRR2"},
	{"root below a root", "0>1 1>2", "0 1", "RR1"},
	{"root twice", "0>1", "0 0:3 0:1", "R0"},
	{"root in a loop", "0>1 1>2 2>0", "0 2", "R0R"},
	{"garbage leads in", "0>1 2>13 3>2", "0", "R0--"},
	{"garbage led to by none", "0>1 2>3", "0", "R0--"},
	{"way back up", "0>1 1>2 2>3 3>4 4>5 5>2", "0", "R01234"},
	{"past the loop", "0>13 1>2 2>13", "0", "R010"},
	{"loop beside a way", "0>1 1>24 2>3 3>4 4>25", "0", "R01214"},
	{"dominator above the semidominator", "0>12 1>23 2>3", "0", "R000"},
	/* The graph of Lengauer and Tarjan, 1979: R, A to L are 0 to c. */
	{"Lengauer and Tarjan", "0>123 1>4 2>145 3>67 4>c 5>8 6>9 7>9a 8>5b 9>b a>9 b>90 c>8", "0",
		"R000003300704"},
};

static void assert_dominator(const struct tap_graph *graph, uint32_t node, char expected)
{
	uint32_t dominator = tap_graph_dominator(graph, node);

	if (expected == 'R' || expected == '-')
		assert_int_equal(dominator, TAP_GRAPH_NONE);
	else
		assert_int_equal(dominator, node_named(expected));
	assert_int_equal(tap_graph_is_reached(graph, node), expected != '-');
}

/* A bit for each node that is `node` or has it above itself. */
static uint64_t expected_retained(const char *dominators, uint32_t node)
{
	uint64_t retained = 0;

	if (dominators[node] == '-')
		return 0;
	for (uint32_t i = 0; dominators[i]; i++) {
		uint32_t at = i;

		while (at != node && dominators[at] != 'R' && dominators[at] != '-')
			at = node_named(dominators[at]);
		if (at == node)
			retained |= (uint64_t)1 << i;
	}
	return retained;
}

/* The children of a node, or of the roots ('R'), by number. */
static void assert_dominated(
	const struct tap_graph *graph, const char *dominators, uint32_t node, char name)
{
	size_t count, seen = 0;
	const uint32_t *below = tap_graph_dominated(graph, node, &count);

	for (uint32_t i = 0; dominators[i]; i++) {
		if (dominators[i] != name)
			continue;
		assert_true(seen < count);
		assert_int_equal(below[seen++], i);
	}
	assert_int_equal(seen, count);
}

static void known_graphs(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *dominators = cases[i].dominators;
		uint32_t count = (uint32_t)strlen(dominators);
		_cleanup_graph_ struct tap_graph *graph =
			make_graph(count, cases[i].edges, cases[i].roots);

		print_message("%s\n", cases[i].what);
		for (uint32_t node = 0; node < count; node++) {
			uint64_t retained = expected_retained(dominators, node);

			assert_dominator(graph, node, dominators[node]);
			assert_int_equal(tap_graph_retained(graph, node), retained);
			assert_int_equal(tap_graph_retained_nodes(graph, node),
				__builtin_popcountll(retained));
			assert_dominated(graph, dominators, node, NODE_NAMES[node]);
		}
		assert_dominated(graph, dominators, TAP_GRAPH_NONE, 'R');
	}
}

static void sets_count_nothing_twice(void **state)
{
	static const struct {
		uint64_t members;
		uint64_t retained;
	} sets[] = {
		{0x00, 0x00},
		{0x01, 0x7f},
		{0x0e, 0x3e}, /* all children of 0 but one */
		{0x11, 0x7f}, /* 0 and below it */
		{0x30, 0x30}, /* 5 is below 4 */
		{0x70, 0x70},
		{0xc0, 0x40}, /* 7 is not reached */
		{0xff, 0x7f},
	};
	/* 1 > 4 > 5; 7 is garbage. */
	_cleanup_graph_ struct tap_graph *graph = make_graph(8, "0>1236 1>4 4>5 7>5", "0");

	(void)state;
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		uint32_t classes[8];
		uint64_t bytes[2];

		for (unsigned node = 0; node < 8; node++)
			classes[node] = sets[i].members >> node & 1;
		assert_int_equal(
			tap_graph_retained_by_set(graph, &sets[i].members), sets[i].retained);
		tap_graph_retained_by_class(graph, classes, 2, bytes);
		assert_int_equal(bytes[1], sets[i].retained);
	}
}

static void classes_out_of_range_are_none(void **state)
{
	_cleanup_graph_ struct tap_graph *graph = make_graph(3, "0>1 1>2", "0");
	const uint32_t classes[] = {7, 0, UINT32_MAX};
	uint64_t bytes[] = {99};

	(void)state;
	tap_graph_retained_by_class(graph, classes, 1, bytes);
	assert_int_equal(bytes[0], 6);
}

/* Sums are of 64 bits, whatever they are kept in. */
static void sums_are_large(void **state)
{
	_cleanup_graph_ struct tap_graph *graph = tap_graph_create();
	const uint64_t owned[] = {
		1, UINT64_C(0x7fffffff), UINT64_C(0x80000000), UINT64_C(1) << 45, 0};

	(void)state;
	for (uint32_t i = 0; i < 5; i++)
		tap_graph_add_node(graph, NODE_ADDR(i), NODE_BYTES, owned[i], 0);
	assert_ok(tap_graph_seal(graph, NULL));
	make_edges(graph, "0>1 1>2 2>3 3>4");
	make_roots(graph, "0");
	assert_ok(tap_graph_finish(graph));
	for (uint32_t i = 5, sum = 0; i--;) {
		uint64_t expected = 0;

		for (uint32_t j = i; j < 5; j++)
			expected += owned[j];
		assert_int_equal(tap_graph_owned(graph, i), owned[i]);
		assert_int_equal(tap_graph_retained(graph, i), expected);
		assert_int_equal(tap_graph_retained_nodes(graph, i), ++sum);
	}
}

static void edges_both_ways(void **state)
{
	_cleanup_graph_ struct tap_graph *graph = make_graph(4, "0>33130 2>3", "0");
	const uint32_t expected_out[] = {3, 1, 3, 0}, expected_in[] = {0, 0, 2};
	size_t count;
	const uint32_t *nodes = tap_graph_edges(graph, 0, &count);

	(void)state;
	assert_int_equal(count, 4);
	assert_memory_equal(nodes, expected_out, sizeof(expected_out));
	nodes = tap_graph_referrers(graph, 3, &count);
	assert_int_equal(count, 3);
	assert_memory_equal(nodes, expected_in, sizeof(expected_in));
	tap_graph_edges(graph, 3, &count);
	assert_int_equal(count, 0);
	tap_graph_referrers(graph, 2, &count);
	assert_int_equal(count, 0);
}

static void edges_out_of_order_are_refused(void **state)
{
	_cleanup_graph_ struct tap_graph *graph = make_nodes(3);

	(void)state;
	make_edges(graph, "1>2 0>1");
	assert_code(tap_graph_finish(graph), TAP_ERR_BAD_DATA);
}

static void none_adds_nothing(void **state)
{
	_cleanup_graph_ struct tap_graph *graph = make_nodes(2);
	size_t count;

	(void)state;
	tap_graph_add_edge(graph, 0, TAP_GRAPH_NONE);
	tap_graph_add_edge(graph, 0, 2);
	tap_graph_add_edge(graph, 2, 0);
	tap_graph_add_root(graph, TAP_GRAPH_NONE, 0, 0);
	tap_graph_add_root(graph, 2, 0, 0);
	assert_ok(tap_graph_finish(graph));
	tap_graph_edges(graph, 0, &count);
	assert_int_equal(count, 0);
	tap_graph_dominated(graph, TAP_GRAPH_NONE, &count);
	assert_int_equal(count, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_graphs),
		cmocka_unit_test(sets_count_nothing_twice),
		cmocka_unit_test(classes_out_of_range_are_none),
		cmocka_unit_test(sums_are_large),
		cmocka_unit_test(edges_both_ways),
		cmocka_unit_test(edges_out_of_order_are_refused),
		cmocka_unit_test(none_adds_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
