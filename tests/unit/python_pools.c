/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every CPython that is found here runs tests/fixtures/python/pools.py, which
 * tells how many blocks it has; the walk has to find as many.
 */
#include "python_target.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/python/pools.h"
#include "python/runtime.h"

/* Blocks over 512 bytes, which are counted with the others: where it is known. */
static int64_t large_blocks(struct python_target *target)
{
	struct tap_symbol symbol;
	uint64_t count;

	if (tap_module_try_symbol(target->python->module, "raw_allocated_blocks", &symbol) &&
		tap_memory_try_u64(target->memory, symbol.addr, &count))
		return (int64_t)count;
	return -1;
}

struct seen {
	struct python_target *target;
	uint64_t last, blocks, bytes;
	struct tap_pool pool;
	uint64_t pool_left; /* bytes of blocks that are still to come */
	uint64_t pools, empty_pools, pool_bytes;
};

static bool see(void *context, uint64_t addr, uint32_t block_bytes)
{
	struct seen *seen = context;

	assert_true(addr > seen->last && !(addr & 15));
	assert_true(addr - seen->pool.addr <= seen->pool.size_bytes - block_bytes);
	assert_int_equal(block_bytes, seen->pool.block_bytes);
	seen->pool_left -= block_bytes;
	seen->last = addr;
	seen->bytes += block_bytes;
	/* The slow way says the same. */
	if (!(seen->blocks++ % 1000))
		assert_int_equal(
			tap_python_pool_block_size(seen->target->python, addr), block_bytes);
	return true;
}

static void see_pool(void *context, const struct tap_pool *pool)
{
	struct seen *seen = context;

	assert_int_equal(seen->pool_left, 0);
	assert_true(pool->addr >= seen->pool.addr + seen->pool.size_bytes);
	assert_int_equal(pool->addr % pool->size_bytes, 0);
	assert_true(pool->live_bytes < pool->size_bytes);
	seen->pool = *pool;
	seen->pool_left = pool->live_bytes;
	seen->pool_bytes += pool->size_bytes;
	seen->pools += pool->live_bytes != 0;
	seen->empty_pools += pool->live_bytes == 0;
}

static void walk(struct python_target *target, struct tap_pool_walk *walk_ret)
{
	struct seen seen = {.target = target};
	struct tap_pool_visitor visitor = {.context = &seen, .block = see, .pool = see_pool};

	tap_maps_deinit(&target->maps);
	assert_ok(tap_maps_read(target->pid, &target->maps));
	assert_ok(tap_python_pools_visit(
		target->python, target->pid, &target->maps, &visitor, walk_ret));
	assert_int_equal(walk_ret->mismatches, 0);
	assert_int_equal(seen.pool_left, 0);
	assert_int_equal(walk_ret->pools, seen.pools);
	assert_int_equal(walk_ret->empty_pools, seen.empty_pools);
	assert_true(walk_ret->arenas >= (seen.pool_bytes / seen.pool.size_bytes + 63) / 64);
	assert_int_equal(walk_ret->blocks, seen.blocks);
	assert_int_equal(walk_ret->bytes, seen.bytes);
}

static void assert_near(uint64_t found, uint64_t told, const char *what)
{
	uint64_t apart = found > told ? found - told : told - found;

	if (apart * 1000 > told)
		fail_msg("%s: %lu found, %lu told", what, found, told);
}

static int64_t read_told(struct python_target *target, char stage)
{
	char line[64] = "";

	assert_non_null(fgets(line, sizeof(line), target->told));
	if (*line == 'E')
		return -1;
	assert_int_equal(*line, stage);
	python_target_wait_parked(target);
	return atoll(line + 1);
}

static bool enough(void *context, uint64_t addr, uint32_t block_bytes)
{
	(void)addr;
	(void)block_bytes;
	return ++*(int *)context < 10;
}

static void compare(struct python_target *target, int64_t told)
{
	struct tap_pool_walk before, after;
	int64_t more, large;
	int count = 0;

	walk(target, &before);
	large = large_blocks(target);
	print_message("%lu pools, %lu blocks, %lu large of %ld\n", before.pools, before.blocks,
		large, told);
	if (large >= 0)
		assert_near(before.blocks + (uint64_t)large, (uint64_t)told, "at the start");
	else
		assert_true(
			before.blocks <= (uint64_t)told && before.blocks > (uint64_t)told / 10 * 9);
	assert_int_equal(write(target->input, "g", 1), 1);
	more = read_told(target, '2');
	walk(target, &after);
	assert_true(after.blocks > before.blocks + 300000);
	assert_true(after.free_blocks > before.free_blocks);
	assert_near(after.blocks - before.blocks, (uint64_t)(more - told), "what is new");
	assert_ok(tap_python_pools_walk(
		target->python, target->pid, &target->maps, enough, &count, &after));
	assert_int_equal(count, 10);
	assert_int_equal(after.blocks, 10);
}

static void finds_as_many_as_there_are(void **state)
{
	const struct interpreter *interpreter = *state;
	struct python_target target = {0};
	struct tap_pool_walk stats;
	int64_t told;

	python_target_start(&target, interpreter, "pools.py");
	told = read_told(&target, '1');
	python_target_look(&target);
	if (told >= 0)
		compare(&target, told);
	else
		assert_code(tap_python_pools_walk(
				    target.python, target.pid, &target.maps, see, NULL, &stats),
			TAP_ERR_UNSUPPORTED);
	python_target_stop(&target);
}

int main(void)
{
	TAP_VECTOR(struct CMUnitTest) tests = {0};
	struct interpreters list = {0};
	int failed;

	find_interpreters(&list);
	for (size_t i = 0; i < list.count; i++)
		tap_vector_push(&tests, ((struct CMUnitTest){.name = list.items[i].path,
						.test_func = finds_as_many_as_there_are,
						.initial_state = &list.items[i]}));
	failed = tests.count ? _cmocka_run_group_tests(
				       "python_pools", tests.items, tests.count, NULL, NULL)
			     : 77;
	tap_vector_free(&tests);
	tap_vector_free(&list);
	return failed;
}
