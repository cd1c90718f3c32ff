/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every CPython that is found here runs tests/fixtures/python/pools.py, which
 * tells how many blocks it has; the walk has to find as many.
 */
#include <signal.h>
#include <sys/wait.h>
#include "python_interpreters.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/python/pools.h"
#include "python/runtime.h"

#define START                                                                     \
	"import io, os, sys; "                                                    \
	"sys.version_info < (3, 8) and (os.write(1, b'E\\n'), os.read(0, 1)) or " \
	"eval(compile(io.open(3, encoding='utf-8').read(), 'pools.py', 'exec'))"

struct target {
	pid_t pid;
	int input;
	FILE *told;
	struct tap_memory *memory;
	struct tap_maps maps;
	struct tap_symbols *symbols;
	struct tap_python *python;
};

static void start(struct target *target, const struct interpreter *interpreter)
{
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	target->pid = fork();
	assert_true(target->pid >= 0);
	if (!target->pid)
		run_interpreter(interpreter, "pools.py", START, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	target->input = in[1];
	target->told = fdopen(out[0], "r");
}

static void look(struct target *target)
{
	assert_ok(tap_memory_open(target->pid, false, &target->memory));
	assert_ok(tap_maps_read(target->pid, &target->maps));
	assert_ok(tap_symbols_open(
		target->pid, target->memory, &target->maps, NULL, &target->symbols));
	assert_ok(tap_python_open(target->symbols, target->memory, &target->python));
	assert_non_null(target->python);
}

static void stop(struct target *target)
{
	tap_python_close(target->python);
	tap_symbols_close(target->symbols);
	tap_maps_deinit(&target->maps);
	tap_memory_close(target->memory);
	close(target->input);
	fclose(target->told);
	kill(target->pid, SIGKILL);
	waitpid(target->pid, NULL, 0);
}

/* The last thing that it does is to read its standard input. */
static void wait_until_parked(const struct target *target)
{
	char path[64], text[256];

	snprintf(path, sizeof(path), "/proc/%d/syscall", target->pid);
	for (int tries = 0; tries < 20000; tries++) {
		_cleanup_fclose_ FILE *f = fopen(path, "r");

		assert_non_null(f);
		if (fgets(text, sizeof(text), f) && strncmp(text, "0 0x0 ", 6) == 0)
			return;
		usleep(1000);
	}
	fail_msg("the target does not come to rest: %s", text);
}

/* Blocks over 512 bytes, which are counted with the others: where it is known. */
static int64_t large_blocks(struct target *target)
{
	struct tap_symbol symbol;
	uint64_t count;

	if (tap_module_try_symbol(target->python->module, "raw_allocated_blocks", &symbol) &&
		tap_memory_try_u64(target->memory, symbol.addr, &count))
		return (int64_t)count;
	return -1;
}

struct seen {
	struct target *target;
	uint64_t last, blocks, bytes;
};

static bool see(void *context, uint64_t addr, uint32_t block_bytes)
{
	struct seen *seen = context;

	assert_true(addr > seen->last && !(addr & 15));
	seen->last = addr;
	seen->bytes += block_bytes;
	/* The slow way says the same. */
	if (!(seen->blocks++ % 1000))
		assert_int_equal(
			tap_python_pool_block_size(seen->target->python, addr), block_bytes);
	return true;
}

static void walk(struct target *target, struct tap_pool_walk *walk_ret)
{
	struct seen seen = {.target = target};

	tap_maps_deinit(&target->maps);
	assert_ok(tap_maps_read(target->pid, &target->maps));
	assert_ok(tap_python_pools_walk(
		target->python, target->pid, &target->maps, see, &seen, walk_ret));
	assert_int_equal(walk_ret->mismatches, 0);
	assert_int_equal(walk_ret->blocks, seen.blocks);
	assert_int_equal(walk_ret->bytes, seen.bytes);
}

static void assert_near(uint64_t found, uint64_t told, const char *what)
{
	uint64_t apart = found > told ? found - told : told - found;

	if (apart * 1000 > told)
		fail_msg("%s: %lu found, %lu told", what, found, told);
}

static int64_t read_told(struct target *target, char stage)
{
	char line[64] = "";

	assert_non_null(fgets(line, sizeof(line), target->told));
	if (*line == 'E')
		return -1;
	assert_int_equal(*line, stage);
	wait_until_parked(target);
	return atoll(line + 1);
}

static bool enough(void *context, uint64_t addr, uint32_t block_bytes)
{
	(void)addr;
	(void)block_bytes;
	return ++*(int *)context < 10;
}

static void compare(struct target *target, int64_t told)
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
	struct target target = {0};
	struct tap_pool_walk stats;
	int64_t told;

	start(&target, interpreter);
	told = read_told(&target, '1');
	look(&target);
	if (told >= 0)
		compare(&target, told);
	else
		assert_code(tap_python_pools_walk(
				    target.python, target.pid, &target.maps, see, NULL, &stats),
			TAP_ERR_UNSUPPORTED);
	stop(&target);
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
