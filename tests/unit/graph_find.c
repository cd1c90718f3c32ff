/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"
#include "heaptap/graph/graph.h"

#define GIB (UINT64_C(1) << 30)

struct block {
	uint64_t addr;
	uint64_t size;
};

static struct tap_graph *make_blocks(
	const struct block *blocks, uint32_t count, uint64_t dropped_expected)
{
	struct tap_graph *graph = tap_graph_create();
	uint64_t dropped;

	for (uint32_t i = 0; i < count; i++)
		tap_graph_add_node(graph, blocks[i].addr, blocks[i].size, blocks[i].size + i, i);
	assert_ok(tap_graph_seal(graph, &dropped));
	assert_int_equal(dropped, dropped_expected);
	assert_int_equal(tap_graph_count(graph), count - dropped);
	return graph;
}

/* The block is a node, all of it and not a byte more, unless the next one begins there. */
static void assert_found(const struct tap_graph *graph, const struct block *block, uint32_t tag)
{
	uint32_t node = tap_graph_find(graph, block->addr), other;

	assert_int_not_equal(node, TAP_GRAPH_NONE);
	assert_int_equal(tap_graph_addr(graph, node), block->addr);
	assert_int_equal(tap_graph_size(graph, node), block->size);
	assert_int_equal(tap_graph_owned(graph, node), block->size + tag);
	assert_int_equal(tap_graph_tag(graph, node), tag);
	assert_int_equal(tap_graph_find(graph, block->addr + block->size / 2), node);
	assert_int_equal(tap_graph_find(graph, block->addr + block->size - 1), node);
	other = tap_graph_find(graph, block->addr - 1);
	assert_true(other == TAP_GRAPH_NONE || other == node - 1);
	other = tap_graph_find(graph, block->addr + block->size);
	assert_true(other == TAP_GRAPH_NONE || other == node + 1);
}

static void assert_all_found(const struct block *blocks, uint32_t count)
{
	_cleanup_graph_ struct tap_graph *graph = make_blocks(blocks, count, 0);

	for (uint32_t i = 0; i < count; i++)
		assert_found(graph, &blocks[i], i);
	for (uint32_t i = 1; i < count; i++)
		assert_true(tap_graph_addr(graph, i - 1) < tap_graph_addr(graph, i));
}

static void blocks_are_found_in_any_order(void **state)
{
	const struct block blocks[] = {
		{0x7f0000001000, 0x20},
		{0x7f0000001020, 0x20}, /* touches the last */
		{0x7f0000001fff, 2},    /* over the end of a page */
		{0x555500000010, 0x30},
		{0x7f0000000ff0, 0x10}, /* up to a page */
		{0x10000, 1},
		{0x7ffffffff000, 0x1000}, /* the last page of user space */
		{0x555500003008, 0x5000}, /* several pages */
		{0x555500008008, 8},      /* in the last page of that */
		{0x7f00fffffff8, 0x10},   /* the upper half changes within */
		{0x7f0100000008, 0x10},
	};

	(void)state;
	assert_all_found(blocks, sizeof(blocks) / sizeof(blocks[0]));
}

/* All over user space: every bit of an address counts. */
static void many_blocks_are_put_in_order(void **state)
{
	enum { BLOCKS = 20000 };
	_cleanup_graph_ struct tap_graph *graph = tap_graph_create();
	uint64_t addrs[256], random = 1, dropped;

	(void)state;
	for (int i = 0; i < BLOCKS; i++) {
		uint64_t *addr = &addrs[i % 256];

		random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
		*addr = ((random >> 58) * 80141 % 131072) * GIB + (random >> 20) % GIB;
		tap_graph_add_node(graph, *addr, 1, 1, 0);
	}
	assert_ok(tap_graph_seal(graph, &dropped));
	assert_int_equal(tap_graph_count(graph), BLOCKS - dropped);
	assert_true(dropped < BLOCKS / 100);
	for (uint32_t i = 1; i < tap_graph_count(graph); i++)
		assert_true(tap_graph_addr(graph, i - 1) < tap_graph_addr(graph, i));
	for (int i = 0; i < 256; i++)
		assert_int_equal(tap_graph_addr(graph, tap_graph_find(graph, addrs[i])), addrs[i]);
}

static void large_blocks_are_found(void **state)
{
	const struct block blocks[] = {
		{GIB - 0x1000, GIB + 0x2000}, /* all of a GiB, and more on both sides */
		{2 * GIB + 0x1000, 0x1000},
		{3 * GIB, GIB},          /* exactly one */
		{4 * GIB, 12 * GIB + 8}, /* sizes beyond 32 bits */
		{16 * GIB + 8, 8},
		{16 * GIB + 0x10, 2 * GIB - 0x10}, /* just within 31 bits */
		{18 * GIB, 1},
		{64 * GIB, (UINT64_C(1) << 46) - 1},
	};
	_cleanup_graph_ struct tap_graph *graph = make_blocks(blocks, 8, 0);

	(void)state;
	assert_all_found(blocks, sizeof(blocks) / sizeof(blocks[0]));
	assert_int_equal(tap_graph_find(graph, 10 * GIB + 3), 3);
	/* The same lower half, further up. */
	assert_int_equal(tap_graph_find(graph, 22 * GIB + 1), TAP_GRAPH_NONE);
}

static void what_is_no_block_is_not_found(void **state)
{
	const struct block blocks[] = {{0x555500000010, 0x10}, {0x7f0000000000, 0x100}};
	const uint64_t others[] = {0, 1, 0xfff, 0x55550000000f, 0x555500000020, 0x555500001000,
		0x556500000010, 0x600000000000, 0x7effffffffff, 0x7f0000000100, 0x7f0100000000,
		0x7fffffffffff, UINT64_C(1) << 47, 0x8000555500000010, 0x0001555500000010,
		0x3ff0000000000000, UINT64_MAX};
	_cleanup_graph_ struct tap_graph *graph = make_blocks(blocks, 2, 0);

	(void)state;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(tap_graph_find(graph, others[i]), TAP_GRAPH_NONE);
}

static void what_overlaps_is_dropped(void **state)
{
	const struct block blocks[] = {
		{0x1000, 0x100},
		{0x10ff, 0x10},               /* in the first's last byte */
		{0x1050, 0x8},                /* within it */
		{0x1000, 0x10},               /* begins where it does, and came later */
		{0x1105, 0x10},               /* on what was dropped: stays */
		{0x2000, 0},                  /* empty */
		{UINT64_C(1) << 47, 8},       /* beyond user space */
		{(UINT64_C(1) << 47) - 8, 9}, /* up to beyond it */
		{0x3000, UINT64_MAX},         /* round the end */
		{UINT64_MAX, UINT64_MAX},
	};
	_cleanup_graph_ struct tap_graph *graph = make_blocks(blocks, 10, 8);

	(void)state;
	assert_found(graph, &blocks[0], 0);
	assert_found(graph, &blocks[4], 4);
}

/* Blocks at random places, then every byte of where they are. */
static void every_byte_is_right(void **state)
{
	enum { BYTES = 3 << 12, BASE = 0x55550fff };
	_cleanup_graph_ struct tap_graph *graph = tap_graph_create();
	uint32_t random = 7, count = 0, node = 0;
	uint64_t at = (uint64_t)BASE << 12;

	(void)state;
	while (at < ((uint64_t)BASE << 12) + BYTES) {
		uint32_t size;

		random = random * 1664525 + 1013904223;
		size = 1 + (random >> 24) % 40;
		at += (random >> 16) % 3 ? 0 : (random >> 20) % 64;
		tap_graph_add_node(graph, at, size, size, size);
		at += size;
		count++;
	}
	assert_ok(tap_graph_seal(graph, NULL));
	assert_int_equal(tap_graph_count(graph), count);
	for (uint64_t addr = tap_graph_addr(graph, 0); addr < at; addr++) {
		bool is_within = addr >= tap_graph_addr(graph, node);

		assert_int_equal(tap_graph_find(graph, addr), is_within ? node : TAP_GRAPH_NONE);
		node += addr + 1 == tap_graph_addr(graph, node) + tap_graph_size(graph, node);
	}
	assert_int_equal(node, count);
}

static void tags_can_be_changed(void **state)
{
	const struct block blocks[] = {{0x1000, 8}, {0x2000, 8}};
	_cleanup_graph_ struct tap_graph *graph = make_blocks(blocks, 2, 0);

	(void)state;
	tap_graph_set_tag(graph, 1, 77);
	assert_int_equal(tap_graph_tag(graph, 0), 0);
	assert_int_equal(tap_graph_tag(graph, 1), 77);
}

static void an_empty_graph_answers(void **state)
{
	_cleanup_graph_ struct tap_graph *graph = make_blocks(NULL, 0, 0);
	size_t count;

	(void)state;
	assert_int_equal(tap_graph_find(graph, 0), TAP_GRAPH_NONE);
	tap_graph_add_edge(graph, 0, 0);
	tap_graph_add_root(graph, 0, 0, 0);
	assert_ok(tap_graph_finish(graph));
	tap_graph_dominated(graph, TAP_GRAPH_NONE, &count);
	assert_int_equal(count, 0);
	assert_int_equal(tap_graph_lost(graph, NULL, NULL), 0);
	assert_int_equal(tap_graph_retained_by_set(graph, NULL), 0);
	tap_graph_retained_by_class(graph, NULL, 0, NULL);
	tap_graph_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_are_found_in_any_order),
		cmocka_unit_test(many_blocks_are_put_in_order),
		cmocka_unit_test(large_blocks_are_found),
		cmocka_unit_test(what_is_no_block_is_not_found),
		cmocka_unit_test(what_overlaps_is_dropped),
		cmocka_unit_test(every_byte_is_right),
		cmocka_unit_test(tags_can_be_changed),
		cmocka_unit_test(an_empty_graph_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
