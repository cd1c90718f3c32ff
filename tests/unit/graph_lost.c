/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include "graph_make.h"

/* lost: for each head its name and, as hexadecimal bits, the nodes that count to
 * it. */
static const struct {
	const char *what;
	uint32_t count;
	const char *edges;
	const char *roots;
	const char *lost;
} cases[] = {
	{"nothing", 3, "0>1 1>2", "0", ""},
	{"no roots", 2, "0>1", "", "0:3"},
	{"alone", 3, "", "1", "0:1 2:4"},
	{"chain from its end", 4, "2>1 3>2", "0", "3:e"},
	{"cycle", 4, "1>2 2>3 3>1", "0", "1:e"},
	{"to itself", 2, "1>1", "0", "1:2"},
	{"holds what is reached", 4, "0>1 2>13", "0", "2:c"},
	{"cycle led to by a later one", 4, "1>2 2>1 3>2", "0", "3:e"},
	{"cycle that leads to one before it", 5, "1>2 2>1 3>4 4>13", "0", "3:1e"},
	{"two heads share", 5, "1>3 2>3 3>4", "0", "1:1a 2:4"},
	{"two cycles share", 6, "1>2 2>15 3>4 4>35", "0", "1:26 3:18"},
	{"chain of cycles", 7, "1>2 2>1 3>14 4>3 5>36 6>5", "0", "5:7e"},
	{"diamond from its end", 5, "2>1 3>1 4>23", "0", "4:1e"},
	{"between two starts", 6, "1>2 3>2 4>1 5>43", "0", "5:3e"},
};

struct seen {
	char text[256];
	size_t length;
};

static void see(void *context, uint32_t head, uint64_t nodes, uint64_t bytes)
{
	struct seen *seen = context;
	size_t left = sizeof(seen->text) - seen->length;

	assert_int_equal(nodes, __builtin_popcountll(bytes));
	seen->length += (size_t)snprintf(seen->text + seen->length, left, "%s%c:%lx",
		seen->length ? " " : "", NODE_NAMES[head], bytes);
	assert_true(seen->length < sizeof(seen->text));
}

static void known_groups(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		_cleanup_graph_ struct tap_graph *graph =
			make_graph(cases[i].count, cases[i].edges, cases[i].roots);
		struct seen seen = {0};
		size_t heads = tap_graph_lost(graph, see, &seen), colons = 0;

		print_message("%s\n", cases[i].what);
		assert_string_equal(seen.text, cases[i].lost);
		for (const char *c = seen.text; *c; c++)
			colons += *c == ':';
		assert_int_equal(heads, colons);
		assert_int_equal(tap_graph_lost(graph, NULL, NULL), heads);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_groups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
