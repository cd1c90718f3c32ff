/* SPDX-License-Identifier: Apache-2.0 */
#include "graph_make.h"

/* label: the place of the root in the text of roots. */
static const struct {
	const char *what;
	const char *edges;
	const char *roots;
	char node;
	const char *path;
	uint32_t label;
} cases[] = {
	{"a root", "0>1", "0", '0', "0", 0},
	{"not reached", "0>1 2>3", "0", '3', "", 0},
	{"the shortest", "0>1 1>2 2>35 3>4 5>4", "0 1:0", '4', "1234", 2},
	{"past a loop", "0>1 1>2 2>03 3>2", "0", '3', "0123", 0},
	{"to itself", "0>01 1>1", "0", '1', "01", 0},
	{"a lower rank, though longer", "0>1 1>2 2>3 4>3", "4:1 0:0", '3', "0123", 4},
	{"a lower rank, though added later", "0>2 1>2", "0:7 1:6", '2', "12", 4},
	{"a higher rank where no lower one leads", "0>1 1>2 3>4 4>5 5>1", "0 3:9", '5', "345", 2},
	{"of the same rank the first", "0>2 1>2", "1:3 0:3", '2', "12", 0},
	{"a root of a higher rank on the way", "0>1 1>2", "1:2 0:1", '2', "012", 4},
	{"a root by a path of a lower rank", "0>1", "1:2 0:1", '1', "01", 4},
	{"a root of two ranks", "0>1", "0:5 0:2 0:2", '1', "01", 4},
	{"from two roots the nearer", "0>1 1>2 2>3 4>3", "0 4", '3', "43", 2},
};

static void known_paths(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		_cleanup_graph_ struct tap_graph *graph =
			make_graph(6, cases[i].edges, cases[i].roots);
		uint32_t path[8], label = 0;
		char text[9] = "";
		bool cut = true;
		size_t length =
			tap_graph_path(graph, node_named(cases[i].node), path, 8, &label, &cut);

		print_message("%s\n", cases[i].what);
		for (size_t j = 0; j < length; j++)
			text[j] = NODE_NAMES[path[j]];
		assert_string_equal(text, cases[i].path);
		assert_int_equal(label, cases[i].label);
		if (length)
			assert_false(cut);
	}
}

static void the_innermost_part_is_kept(void **state)
{
	_cleanup_graph_ struct tap_graph *graph = make_graph(6, "0>1 1>2 2>3 3>4 4>5", "0");
	const uint32_t expected[] = {3, 4, 5};
	uint32_t path[4] = {0, 0, 0, 99}, label = 7;
	bool cut = false;

	(void)state;
	assert_int_equal(tap_graph_path(graph, 5, path, 3, &label, &cut), 3);
	assert_memory_equal(path, expected, sizeof(expected));
	assert_int_equal(path[3], 99);
	assert_int_equal(label, 0);
	assert_true(cut);
	assert_int_equal(tap_graph_path(graph, 2, path, 3, NULL, NULL), 3);
	assert_int_equal(path[0], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_paths),
		cmocka_unit_test(the_innermost_part_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
