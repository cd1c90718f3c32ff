/* SPDX-License-Identifier: Apache-2.0 */
/* Some hundred small graphs, against what follows from the definitions by trying. */
#include "graph_make.h"

#define NODES_MAX 40
#define GRAPHS 600

/* All sets of nodes are bits. */
struct model {
	uint32_t count;
	uint64_t edges[NODES_MAX];
	uint64_t roots;
	uint8_t rank[NODES_MAX]; /* of roots */
	uint64_t owned[NODES_MAX];
	uint64_t without[NODES_MAX]; /* what is reached without the node */
	uint64_t reached;
};

static uint32_t random_state;

static uint32_t below(uint32_t limit)
{
	random_state = random_state * 1664525 + 1013904223;
	return (random_state >> 8) % limit;
}

static uint64_t bit(uint32_t node)
{
	return (uint64_t)1 << node;
}

static uint64_t edges_of_all(const struct model *model, uint64_t nodes)
{
	uint64_t edges = 0;

	for (uint32_t i = 0; i < model->count; i++)
		if (nodes & bit(i))
			edges |= model->edges[i];
	return edges;
}

/* What these lead to, themselves included, where nothing goes through `removed`. */
static uint64_t reach(const struct model *model, uint64_t from, uint64_t removed)
{
	uint64_t reached = from & ~removed, before = 0;

	while (reached != before) {
		before = reached;
		reached |= edges_of_all(model, before) & ~removed;
	}
	return reached;
}

static void make_model(struct model *model)
{
	uint32_t edges, roots;

	*model = (struct model){.count = 1 + below(NODES_MAX)};
	edges = below(model->count * 3);
	roots = below(4);
	for (uint32_t i = 0; i < edges; i++) {
		uint32_t from = below(model->count);
		/* Near ones make for long ways. */
		uint32_t to = below(2) ? below(model->count) : (from + below(4)) % model->count;

		model->edges[from] |= bit(to);
	}
	for (uint32_t i = 0; i < roots; i++) {
		uint32_t node = below(model->count);

		model->roots |= bit(node);
		model->rank[node] = (uint8_t)below(3);
	}
	for (uint32_t i = 0; i < model->count; i++)
		model->owned[i] = below(3) ? below(1000) : (uint64_t)below(1000) << 24;
	model->reached = reach(model, model->roots, 0);
	for (uint32_t i = 0; i < model->count; i++)
		model->without[i] = reach(model, model->roots, bit(i));
}

static struct tap_graph *make_of(const struct model *model)
{
	struct tap_graph *graph = tap_graph_create();

	for (uint32_t i = 0; i < model->count; i++)
		tap_graph_add_node(graph, NODE_ADDR(i), NODE_BYTES, model->owned[i], i);
	assert_ok(tap_graph_seal(graph, NULL));
	for (uint32_t from = 0; from < model->count; from++)
		for (uint32_t to = 0; to < model->count; to++)
			if (model->edges[from] & bit(to))
				tap_graph_add_edge(graph, from, to);
	for (uint32_t i = 0; i < model->count; i++)
		if (model->roots & bit(i))
			tap_graph_add_root(graph, i, model->rank[i], i);
	assert_ok(tap_graph_finish(graph));
	return graph;
}

static bool dominates(const struct model *model, uint32_t above, uint32_t node)
{
	return model->reached & bit(node) && !(model->without[above] & bit(node));
}

/* Of the nodes that dominate it, the one that all others dominate. */
static uint32_t dominator_of(const struct model *model, uint32_t node)
{
	uint32_t nearest = TAP_GRAPH_NONE;

	for (uint32_t i = 0; i < model->count; i++)
		if (i != node && dominates(model, i, node) &&
			(nearest == TAP_GRAPH_NONE || dominates(model, nearest, i)))
			nearest = i;
	return nearest;
}

static uint64_t sum(const struct model *model, uint64_t nodes)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < model->count; i++)
		if (nodes & bit(i))
			bytes += model->owned[i];
	return bytes;
}

static void check_dominators(const struct model *model, const struct tap_graph *graph)
{
	for (uint32_t i = 0; i < model->count; i++) {
		uint64_t retained = model->reached & ~model->without[i];
		size_t count;
		const uint32_t *nodes = tap_graph_dominated(graph, i, &count);

		assert_int_equal(tap_graph_is_reached(graph, i), model->reached >> i & 1);
		assert_int_equal(tap_graph_dominator(graph, i), dominator_of(model, i));
		assert_int_equal(tap_graph_retained(graph, i), sum(model, retained));
		assert_int_equal(
			tap_graph_retained_nodes(graph, i), __builtin_popcountll(retained));
		for (size_t j = 0; j < count; j++)
			assert_int_equal(tap_graph_dominator(graph, nodes[j]), i);
	}
}

/* The nodes that other members dominate are left out. */
static void check_sets(const struct model *model, const struct tap_graph *graph)
{
	uint32_t classes[NODES_MAX];
	uint64_t members[2] = {0}, bytes[2];

	for (uint32_t i = 0; i < model->count; i++) {
		classes[i] = below(3);
		if (classes[i] < 2)
			members[classes[i]] |= bit(i);
	}
	tap_graph_retained_by_class(graph, classes, 2, bytes);
	for (int class = 0; class < 2; class ++) {
		uint64_t retained = 0;

		for (uint32_t i = 0; i < model->count; i++)
			if (members[class] & bit(i))
				retained |= model->reached & ~model->without[i];
		assert_int_equal(bytes[class], sum(model, retained));
		assert_int_equal(
			tap_graph_retained_by_set(graph, &members[class]), sum(model, retained));
	}
}

static uint64_t roots_of_rank(const struct model *model, uint8_t rank)
{
	uint64_t roots = 0;

	for (uint32_t i = 0; i < model->count; i++)
		if (model->roots & bit(i) && model->rank[i] == rank)
			roots |= bit(i);
	return roots;
}

/* How many nodes there are on the way to one that is reached, and where it may begin. */
static size_t distance(const struct model *model, uint32_t node, uint64_t *roots_ret)
{
	uint64_t wave;
	uint8_t rank = 0;
	size_t nodes = 1;

	while (!(reach(model, roots_of_rank(model, rank), 0) & bit(node)))
		rank++;
	*roots_ret = wave = roots_of_rank(model, rank);
	for (; !(wave & bit(node)); nodes++)
		wave |= edges_of_all(model, wave);
	return nodes;
}

static void check_paths(const struct model *model, const struct tap_graph *graph)
{
	for (uint32_t i = 0; i < model->count; i++) {
		uint32_t path[NODES_MAX], label;
		uint64_t roots;
		size_t length = tap_graph_path(graph, i, path, NODES_MAX, &label, NULL);

		if (!(model->reached & bit(i))) {
			assert_int_equal(length, 0);
			continue;
		}
		assert_int_equal(length, distance(model, i, &roots));
		assert_true(roots & bit(path[0]));
		assert_int_equal(label, path[0]);
		assert_int_equal(path[length - 1], i);
		for (size_t j = 1; j < length; j++)
			assert_true(model->edges[path[j - 1]] & bit(path[j]));
	}
}

struct lost {
	const struct model *model;
	uint64_t counted;
	uint64_t heads;
};

static void check_head(void *context, uint32_t head, uint64_t nodes, uint64_t bytes)
{
	struct lost *lost = context;
	uint64_t share = reach(lost->model, bit(head), lost->model->reached) & ~lost->counted;

	assert_true(head >= 64 - (lost->heads ? __builtin_clzll(lost->heads) : 64));
	assert_int_equal(nodes, __builtin_popcountll(share));
	assert_int_equal(bytes, sum(lost->model, share));
	lost->counted |= share;
	lost->heads |= bit(head);
}

static void check_lost(const struct model *model, const struct tap_graph *graph)
{
	struct lost lost = {.model = model};
	uint64_t expected = 0;

	for (uint32_t i = 0; i < model->count; i++) {
		uint64_t below_it = reach(model, bit(i), 0);
		bool is_head = !(model->reached & bit(i));

		for (uint32_t j = 0; j < model->count && is_head; j++)
			if (reach(model, bit(j), 0) & bit(i))
				is_head = j >= i && below_it & bit(j);
		/* Of its component the first, which nothing else leads to. */
		if (is_head)
			expected |= bit(i);
	}
	assert_int_equal(tap_graph_lost(graph, check_head, &lost), __builtin_popcountll(expected));
	assert_int_equal(lost.heads, expected);
	assert_int_equal(lost.counted,
		~model->reached & (bit(model->count - 1) | (bit(model->count - 1) - 1)));
}

static void as_by_the_definitions(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= GRAPHS; seed++) {
		struct model model;

		random_state = seed;
		make_model(&model);
		{
			_cleanup_graph_ struct tap_graph *graph = make_of(&model);

			check_dominators(&model, graph);
			check_sets(&model, graph);
			check_paths(&model, graph);
			check_lost(&model, graph);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_by_the_definitions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
