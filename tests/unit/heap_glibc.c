/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that knows its blocks (heap_target.c) is walked from outside: the
 * blocks that are new since its first stage have to be its own and no others,
 * and the totals have to be what its mallinfo() says.
 *
 * Each argument is a command to start the target with another C library:
 *   unit_heap_glibc '/tree/lib/ld-linux-x86-64.so.2 --library-path /tree/lib target'
 * HEAPTAP_TEST_SID names a tree of another distribution to run it in (as root).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "unit.h"
#include "heap_target.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/map.h"
#include "heaptap/base/vector.h"
#include "heaptap/heap/glibc.h"
#include "heaptap/proc/maps.h"
#include "heaptap/proc/pagemap.h"

enum mode {
	PLAIN,
	FOREIGN,
	BLOCKED,
	DAMAGED,
	LYING,
	BUSY,
	TRIMMED,
};
static const char *const modes[] = {
	"plain", "foreign", "blocked", "damaged", "lying", "busy", "trimmed"};

struct run {
	const char *command; /* words */
	const char *root;    /* "" or where to run it */
	enum mode mode;
};

struct target {
	pid_t pid;
	int input, output;
	struct target_told *told;
	struct tap_memory *memory;
	struct tap_symbols *symbols;
	struct tap_maps maps;
	struct tap_glibc *glibc;
};

struct blocks {
	struct tap_map by_addr; /* index in items */
	TAP_VECTOR(struct tap_heap_block) items;
};

static void run_target(const struct run *run, int in, int out, int file)
{
	char words[3 * PATH_MAX], *arguments[16], *rest = words;
	int count = 0, program;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	snprintf(words, sizeof(words), "%s %s", run->command, modes[run->mode]);
	while (count < 15 && (arguments[count] = strsep(&rest, " ")))
		count++;
	arguments[count] = NULL;
	program = open(arguments[0], O_RDONLY | O_CLOEXEC);
	if (program < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(file, 3) < 0)
		_exit(126);
	if (*run->root && (chroot(run->root) < 0 || chdir("/") < 0))
		_exit(126);
	syscall(SYS_execveat, program, "", arguments, environ, AT_EMPTY_PATH);
	_exit(127);
}

static void wait_for_stage(struct target *target, char stage)
{
	char byte = 0;

	assert_int_equal(read(target->output, &byte, 1), 1);
	assert_int_equal(byte, stage);
}

static void start(struct target *target, const struct run *run)
{
	int in[2], out[2], file;

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	file = fcntl(memfd_create("told", MFD_CLOEXEC), F_DUPFD_CLOEXEC, 20);
	assert_int_equal(ftruncate(file, sizeof(*target->told)), 0);
	target->told =
		mmap(NULL, sizeof(*target->told), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	assert_true(target->told != MAP_FAILED);
	target->pid = fork();
	assert_true(target->pid >= 0);
	if (!target->pid)
		run_target(run, in[0], out[1], file);
	close(in[0]);
	close(out[1]);
	close(file);
	target->input = in[1];
	target->output = out[0];
	wait_for_stage(target, '1');
	assert_ok(tap_memory_open(target->pid, false, &target->memory));
	assert_ok(tap_maps_read(target->pid, &target->maps));
	assert_ok(tap_symbols_open(
		target->pid, target->memory, &target->maps, NULL, &target->symbols));
	assert_ok(tap_glibc_open(target->symbols, target->memory, target->pid, &target->glibc));
}

static void stop(struct target *target)
{
	tap_glibc_close(target->glibc);
	tap_symbols_close(target->symbols);
	tap_maps_deinit(&target->maps);
	tap_memory_close(target->memory);
	munmap(target->told, sizeof(*target->told));
	close(target->input);
	close(target->output);
	kill(target->pid, SIGKILL);
	waitpid(target->pid, NULL, 0);
}

static bool keep(void *context, const struct tap_heap_block *block)
{
	struct blocks *blocks = context;
	bool added;

	*tap_map_put(&blocks->by_addr, block->addr, &added) = blocks->items.count;
	assert_true(added);
	tap_vector_push(&blocks->items, *block);
	return true;
}

static void blocks_deinit(struct blocks *blocks)
{
	tap_map_deinit(&blocks->by_addr);
	tap_vector_free(&blocks->items);
}

static void show(const struct tap_heap_walk *walk)
{
	print_message("live %lu/%lu mapped %lu/%lu (told %u) cached %lu/%lu fast %lu/%lu "
		      "free %lu/%lu overhead %lu system %lu arenas %u heaps %u caches %u\n",
		walk->live_blocks, walk->live_bytes, walk->mapped_blocks, walk->mapped_bytes,
		walk->mapped_told, walk->cached_blocks, walk->cached_bytes, walk->fast_blocks,
		walk->fast_bytes, walk->free_blocks, walk->free_bytes, walk->overhead_bytes,
		walk->system_bytes, walk->arenas, walk->heaps, walk->caches);
	if (walk->stops || walk->inconsistencies)
		print_message("stops %u (%s at 0x%lx), inconsistencies %u\n", walk->stops,
			walk->stop_reason, walk->stop_addr, walk->inconsistencies);
}

static void walk(struct target *target, struct blocks *blocks, struct tap_heap_walk *walk_ret)
{
	tap_memory_cache(target->memory, TAP_MEMORY_CACHE_PIECES);
	assert_ok(tap_glibc_walk(target->glibc, keep, blocks, walk_ret));
	tap_memory_cache(target->memory, TAP_MEMORY_CACHE_OFF);
	assert_int_equal(walk_ret->live_blocks, blocks->items.count);
}

/* Every block that the target holds is there, as large as it is. */
static size_t compare_blocks(const struct target *target, const struct blocks *blocks)
{
	size_t live = 0;

	for (size_t i = 0; i < target->told->count; i++) {
		const struct target_block *told = &target->told->blocks[i];
		const struct tap_heap_block *block;
		uint64_t *slot;

		if (!told->addr)
			continue;
		live++;
		slot = tap_map_find(&blocks->by_addr, told->addr);
		if (!slot)
			fail_msg("block %zu at 0x%lx of %lu bytes was not found", i, told->addr,
				told->size_bytes);
		block = &blocks->items.items[*slot];
		assert_int_equal(block->usable_bytes, told->usable_bytes);
		assert_true(block->usable_bytes >= told->size_bytes);
		assert_true(block->chunk_bytes > block->usable_bytes);
	}
	return live;
}

/* What was there before stage 1 is still there, and nothing is new but what
 * the target holds. */
static void compare_sets(
	const struct target *target, const struct blocks *before, const struct blocks *after)
{
	size_t live = compare_blocks(target, after);

	for (size_t i = 0; i < before->items.count; i++)
		assert_non_null(tap_map_find(&after->by_addr, before->items.items[i].addr));
	assert_int_equal(after->items.count, before->items.count + live);
}

static void compare_totals(
	const struct target_told *told, const struct tap_heap_walk *walk, enum mode mode)
{
	uint64_t sum = walk->live_bytes - walk->mapped_bytes + walk->cached_bytes +
		       walk->fast_bytes + walk->free_bytes + walk->overhead_bytes;

	assert_int_equal(walk->inconsistencies, 0);
	assert_int_equal(walk->stops, 0);
	assert_int_equal(walk->mapped_blocks, told->mapped_blocks);
	assert_int_equal(walk->mapped_told, told->mapped_blocks);
	/* 2.43 forgets 16 bytes each time it moves one. */
	assert_true(walk->mapped_bytes == (told->mapped_bytes & ~UINT64_C(4095)));
	assert_int_equal(walk->fast_blocks, told->fast_blocks);
	assert_int_equal(walk->fast_bytes, told->fast_bytes);
	assert_int_equal(walk->free_blocks, told->free_blocks);
	assert_int_equal(walk->free_bytes + walk->fast_bytes, told->free_bytes);
	assert_int_equal(walk->system_bytes, told->arena);
	assert_int_equal(walk->system_bytes - walk->free_bytes - walk->fast_bytes, told->in_use);
	if (mode != FOREIGN)
		assert_int_equal(sum, walk->system_bytes);
}

/* --- what is no live block -------------------------------------------------- */

#define ARENAS 64

struct arena {
	uint64_t addr; /* 0: mapped */
	uint64_t fast_blocks, fast_bytes, free_blocks, free_bytes;
	uint64_t seen_bytes;   /* by blocks and others */
	uint64_t region_bytes; /* by regions */
};

struct visit {
	struct arena arenas[ARENAS];
	size_t count;
	uint64_t at;    /* behind what was seen of the region */
	uint64_t start; /* where that began */
	TAP_VECTOR(struct tap_heap_range) trimmable;
	TAP_VECTOR(struct tap_heap_range) regions;
};

static struct arena *arena_of(struct visit *visit, uint64_t addr)
{
	for (size_t i = 0; i < visit->count; i++)
		if (visit->arenas[i].addr == addr)
			return &visit->arenas[i];
	assert_true(visit->count < ARENAS);
	visit->arenas[visit->count] = (struct arena){.addr = addr};
	return &visit->arenas[visit->count++];
}

static bool has_arena(const struct visit *visit, uint64_t addr)
{
	for (size_t i = 0; i < visit->count; i++)
		if (visit->arenas[i].addr == addr)
			return true;
	return false;
}

static void pass(struct visit *visit, uint64_t start, uint64_t size, uint64_t arena)
{
	if (!visit->at)
		visit->at = visit->start = start;
	/* A region has no gaps; one that follows begins anew. */
	assert_int_equal(start, visit->at);
	visit->at += size;
	arena_of(visit, arena)->seen_bytes += size;
}

static bool visit_block(void *context, const struct tap_heap_block *block)
{
	pass(context, block->addr - block->lead_bytes, block->chunk_bytes, block->arena);
	assert_true(block->lead_bytes >= 16 && block->usable_bytes < block->chunk_bytes);
	return true;
}

static void visit_free(void *context, const struct tap_heap_free *piece)
{
	struct arena *arena = arena_of(context, piece->arena);

	pass(context, piece->addr, piece->size_bytes, piece->arena);
	if (piece->kind == TAP_HEAP_FREE || piece->kind == TAP_HEAP_TOP) {
		arena->free_blocks++;
		arena->free_bytes += piece->size_bytes;
	} else if (piece->kind == TAP_HEAP_FAST) {
		arena->fast_blocks++;
		arena->fast_bytes += piece->size_bytes;
	}
}

static void visit_region(void *context, const struct tap_heap_range *region)
{
	struct visit *visit = context;

	assert_int_equal(region->start, visit->start);
	assert_int_equal(region->end, visit->at);
	arena_of(visit, region->arena)->region_bytes += region->end - region->start;
	tap_vector_push(&visit->regions, *region);
	visit->at = visit->start = 0;
}

static void visit_trimmable(void *context, const struct tap_heap_range *pages)
{
	struct visit *visit = context;

	assert_true(pages->start < pages->end && !((pages->start | pages->end) & 4095));
	tap_vector_push(&visit->trimmable, *pages);
}

static void visit_all(struct target *target, struct visit *visit, struct tap_heap_walk *walk_ret)
{
	struct tap_heap_visitor visitor = {
		.context = visit,
		.block = visit_block,
		.free = visit_free,
		.region = visit_region,
		.trimmable = visit_trimmable,
	};
	uint64_t trimmable = 0;

	memset(visit, 0, sizeof(*visit));
	assert_ok(tap_glibc_visit(target->glibc, &visitor, walk_ret));
	for (size_t i = 0; i < visit->trimmable.count; i++)
		trimmable += visit->trimmable.items[i].end - visit->trimmable.items[i].start;
	assert_int_equal(walk_ret->trimmable_bytes, trimmable);
	for (size_t i = 0; i < visit->count; i++)
		assert_int_equal(visit->arenas[i].seen_bytes, visit->arenas[i].region_bytes);
}

static void visit_deinit(struct visit *visit)
{
	tap_vector_free(&visit->trimmable);
	tap_vector_free(&visit->regions);
}

/* One line of malloc_info(). */
static bool read_info(const char *line, const char *format, uint64_t *a, uint64_t *b)
{
	return sscanf(line, format, a, b) == (b ? 2 : 1);
}

/* Some arena is as this one, whose figures malloc_info() told. */
static void assert_arena(struct visit *visit, const struct arena *told, bool whole)
{
	for (size_t i = 0; i < visit->count; i++) {
		struct arena *arena = &visit->arenas[i];

		if (!arena->addr || arena->fast_blocks != told->fast_blocks ||
			arena->fast_bytes != told->fast_bytes ||
			arena->free_blocks != told->free_blocks ||
			arena->free_bytes != told->free_bytes ||
			(whole && arena->region_bytes != told->region_bytes))
			continue;
		*arena = visit->arenas[--visit->count];
		return;
	}
	fail_msg("no arena has fast %lu/%lu free %lu/%lu of %lu", told->fast_blocks,
		told->fast_bytes, told->free_blocks, told->free_bytes, told->region_bytes);
}

/* Arena by arena, to the byte. */
static void compare_info(struct target *target, enum mode mode)
{
	struct tap_heap_range arena;
	struct tap_heap_walk walk;
	struct visit visit;
	struct arena told = {0};
	uint64_t system = 0, mapped = 0;
	unsigned heaps = 0;
	bool inside = false;

	visit_all(target, &visit, &walk);
	tap_glibc_main_arena(target->glibc, &arena);
	assert_true(has_arena(&visit, arena.start));
	assert_true(arena.end - arena.start > 127 * 16 && arena.end - arena.start < 2400);
	for (char *rest = target->told->info, *line; (line = strsep(&rest, "\n"));) {
		if (!strncmp(line, "<heap", 5)) {
			told = (struct arena){0};
			inside = true;
		}
		if (inside) {
			read_info(line, "<total type=\"fast\" count=\"%lu\" size=\"%lu\"/>",
				&told.fast_blocks, &told.fast_bytes);
			read_info(line, "<total type=\"rest\" count=\"%lu\" size=\"%lu\"/>",
				&told.free_blocks, &told.free_bytes);
			read_info(line, "<system type=\"current\" size=\"%lu\"/>",
				&told.region_bytes, NULL);
		} else {
			read_info(line, "<total type=\"mmap\" count=\"%lu\" size=\"%lu\"/>",
				&mapped, &told.seen_bytes);
			read_info(line, "<system type=\"current\" size=\"%lu\"/>", &system, NULL);
		}
		if (!strncmp(line, "</heap", 6)) {
			/* It leaves a flag in each size but the top's. */
			told.free_bytes -= told.free_blocks - 1;
			assert_arena(&visit, &told, mode != FOREIGN);
			inside = false;
			heaps++;
		}
	}
	assert_int_equal(heaps, walk.arenas);
	/* All arenas were told, and so taken out. */
	assert_true(visit.count <= 1);
	assert_int_equal(mapped, walk.mapped_blocks);
	assert_int_equal(system, walk.system_bytes);
	print_message("malloc_info() of %u arenas: the same\n", heaps);
	visit_deinit(&visit);
}

static uint64_t resident(struct target *target, const struct tap_heap_range *ranges, size_t count)
{
	struct tap_pagemap *pagemap = tap_pagemap_open(target->pid);
	struct tap_page_run run;
	uint64_t bytes = 0;

	for (size_t i = 0; i < count; i++)
		for (uint64_t at = ranges[i].start & ~UINT64_C(4095);
			tap_pagemap_run(pagemap, at, ranges[i].end, &run); at = run.end)
			bytes += run.kind == TAP_PAGE_PRIVATE ? run.end - run.start : 0;
	tap_pagemap_close(pagemap);
	return bytes;
}

static uint64_t resident_heap(struct target *target, const struct visit *visit)
{
	return resident(target, visit->regions.items, visit->regions.count);
}

/* malloc_trim() gives back what was said, and nothing else. */
static void knows_what_a_trim_gives_back(void **state)
{
	struct target target = {0};
	struct visit before, after;
	struct tap_heap_walk stats;
	uint64_t told, had;

	start(&target, *state);
	assert_int_equal(write(target.input, "g", 1), 1);
	wait_for_stage(&target, '2');
	visit_all(&target, &before, &stats);
	told = resident(&target, before.trimmable.items, before.trimmable.count);
	had = resident_heap(&target, &before);
	assert_int_equal(write(target.input, "g", 1), 1);
	wait_for_stage(&target, '3');
	visit_all(&target, &after, &stats);
	print_message("%lu bytes in %zu places, of %lu: %lu are left\n", told,
		before.trimmable.count, had, resident_heap(&target, &after));
	assert_true(told > 0);
	assert_int_equal(resident(&target, before.trimmable.items, before.trimmable.count), 0);
	assert_int_equal(had - resident_heap(&target, &before), told);
	assert_int_equal(resident(&target, after.trimmable.items, after.trimmable.count), 0);
	visit_deinit(&before);
	visit_deinit(&after);
	stop(&target);
}

static void finds_exactly_what_is_held(void **state)
{
	const struct run *run = *state;
	struct blocks before = {0}, after = {0};
	struct target target = {0};
	struct tap_heap_walk stats;

	start(&target, run);
	walk(&target, &before, &stats);
	show(&stats);
	assert_int_equal(stats.stops, 0);
	assert_int_equal(stats.inconsistencies, 0);
	assert_int_equal(write(target.input, "g", 1), 1);
	wait_for_stage(&target, '2');
	walk(&target, &after, &stats);
	show(&stats);
	compare_sets(&target, &before, &after);
	compare_totals(target.told, &stats, run->mode);
	compare_info(&target, run->mode);
	assert_true(stats.cached_blocks > 0);
	if (!*run->root)
		assert_true(stats.arenas > 1);
	blocks_deinit(&before);
	blocks_deinit(&after);
	stop(&target);
}

static void walks_a_damaged_heap_as_far_as_it_goes(void **state)
{
	const struct run *run = *state;
	struct blocks blocks = {0};
	struct target target = {0};
	struct tap_heap_walk stats;

	start(&target, run);
	assert_int_equal(write(target.input, "g", 1), 1);
	wait_for_stage(&target, '2');
	walk(&target, &blocks, &stats);
	assert_int_equal(stats.stops, 1);
	assert_string_equal(stats.stop_reason, "a chunk's size cannot be right");
	assert_true(stats.live_blocks > stats.mapped_blocks + 100);
	assert_int_equal(stats.mapped_blocks, target.told->mapped_blocks);
	blocks_deinit(&blocks);
	stop(&target);
}

static bool sum(void *context, const struct tap_heap_block *block)
{
	*(uint64_t *)context += block->chunk_bytes;
	return true;
}

static void ends_whatever_it_reads(void **state)
{
	struct target target = {0};
	struct tap_heap_walk stats;

	start(&target, *state);
	assert_int_equal(write(target.input, "g", 1), 1);
	wait_for_stage(&target, '2');
	for (int i = 0; i < 30; i++) {
		uint64_t bytes = 0;

		assert_int_equal(write(target.input, "g", 1), 1);
		wait_for_stage(&target, '3');
		assert_ok(tap_glibc_walk(target.glibc, sum, &bytes, &stats));
		assert_int_equal(stats.live_bytes, bytes);
		assert_true(stats.stops + stats.inconsistencies > 0);
	}
	show(&stats);
	stop(&target);
}

static bool count(void *context, const struct tap_heap_block *block)
{
	(void)block;
	return ++*(uint64_t *)context < 100;
}

static void ends_when_told(void **state)
{
	struct target target = {0};
	struct tap_heap_walk stats;
	uint64_t seen = 0;

	start(&target, *state);
	assert_int_equal(write(target.input, "g", 1), 1);
	wait_for_stage(&target, '2');
	assert_ok(tap_glibc_walk(target.glibc, count, &seen, &stats));
	assert_int_equal(seen, 100);
	assert_int_equal(stats.live_blocks, 100);
	assert_int_equal(stats.stops, 0);
	stop(&target);
}

/* While all threads allocate nothing is exact, but what is held all the time
 * is near enough, and every walk ends. */
static void walks_a_heap_in_motion(void **state)
{
	struct target target = {0};
	struct tap_heap_walk stats;
	uint64_t bytes;

	start(&target, *state);
	assert_int_equal(write(target.input, "g", 1), 1);
	wait_for_stage(&target, '2');
	assert_int_equal(write(target.input, "g", 1), 1);
	for (int i = 0; i < 10; i++) {
		bytes = 0;
		assert_ok(tap_glibc_walk(target.glibc, sum, &bytes, &stats));
		assert_int_equal(stats.live_bytes, bytes);
		assert_true(stats.mapped_blocks > 0);
	}
	show(&stats);
	stop(&target);
}

/* Stopped anywhere, also in the middle of malloc(), a thread leaves apart no
 * more than what it was at. */
static void walks_a_heap_stopped_anywhere(void **state)
{
	struct target target = {0};
	struct tap_heap_walk stats;
	uint64_t bytes;

	start(&target, *state);
	assert_int_equal(write(target.input, "g", 1), 1);
	wait_for_stage(&target, '2');
	assert_int_equal(write(target.input, "g", 1), 1);
	for (int i = 0; i < 15; i++) {
		bytes = 0;
		assert_int_equal(kill(target.pid, SIGSTOP), 0);
		assert_int_equal(waitpid(target.pid, NULL, WUNTRACED), target.pid);
		assert_ok(tap_glibc_walk(target.glibc, sum, &bytes, &stats));
		if (stats.caches != 4 || stats.inconsistencies > 8)
			show(&stats);
		assert_int_equal(stats.caches, 4);
		assert_true(stats.inconsistencies <= 8);
		assert_int_equal(kill(target.pid, SIGCONT), 0);
	}
	stop(&target);
}

static void refuses_what_is_no_glibc(void **state)
{
	struct tap_memory *memory = NULL;
	struct tap_glibc *glibc = NULL;
	struct tap_symbols *symbols = NULL;
	struct tap_maps maps = {0};

	(void)state;
	/* Of ourselves, but with a memory in which nothing is. */
	memory = tap_memory_create_image();
	assert_ok(tap_symbols_open(getpid(), memory, &maps, NULL, &symbols));
	assert_code(tap_glibc_open(symbols, memory, getpid(), &glibc), TAP_ERR_NOT_FOUND);
	tap_symbols_close(symbols);
	tap_memory_close(memory);
}

TAP_VECTOR_TYPE(tests, struct CMUnitTest);

static void add(struct tests *tests, const char *command, const char *root, enum mode mode)
{
	static const CMUnitTestFunction functions[] = {
		[PLAIN] = finds_exactly_what_is_held,
		[FOREIGN] = finds_exactly_what_is_held,
		[BLOCKED] = finds_exactly_what_is_held,
		[DAMAGED] = walks_a_damaged_heap_as_far_as_it_goes,
		[LYING] = ends_whatever_it_reads,
		[BUSY] = walks_a_heap_in_motion,
		[TRIMMED] = knows_what_a_trim_gives_back,
	};
	struct run *run = tap_alloc(sizeof(*run));

	*run = (struct run){.command = command, .root = root, .mode = mode};
	tap_vector_push(tests,
		((struct CMUnitTest){.name = tap_format("%s %s %s", command, modes[mode], root),
			.test_func = functions[mode],
			.initial_state = run}));
}

static void add_all(struct tests *tests, const char *command, const char *root)
{
	for (enum mode mode = PLAIN; mode < BUSY; mode++)
		add(tests, command, root, mode);
	add(tests, command, root, TRIMMED);
	/* How much of a heap in motion a walk sees is a matter of speed. */
	if (!getenv("HEAPTAP_TEST_FULL")) {
		fprintf(stderr, "SKIP: heaps in motion: HEAPTAP_TEST_FULL is not set\n");
		return;
	}
	add(tests, command, root, BUSY);
	add(tests, command, root, BUSY);
	tests->items[tests->count - 1].test_func = walks_a_heap_stopped_anywhere;
}

static void free_tests(struct tests *tests)
{
	for (size_t i = 0; i < tests->count; i++) {
		free((void *)(uintptr_t)tests->items[i].name);
		free(tests->items[i].initial_state);
	}
	tap_vector_free(tests);
}

int main(int argc, char **argv)
{
	const char *target = getenv("TAP_HEAP_TARGET"), *static_target;
	const char *sid = getenv("HEAPTAP_TEST_SID");
	struct tests tests = {0};
	int failed;

	static_target = getenv("TAP_HEAP_TARGET_STATIC");
	for (int i = 1; i < argc; i++)
		add_all(&tests, argv[i], "");
	if (argc == 1 && target) {
		add_all(&tests, target, "");
		add(&tests, target, "", PLAIN);
		tests.items[tests.count - 1].test_func = ends_when_told;
	}
	if (argc == 1 && target && sid && geteuid() == 0)
		add_all(&tests, target, sid);
	else if (argc == 1)
		print_message("SKIP: HEAPTAP_TEST_SID is not set, or this is not root\n");
	if (argc == 1 && static_target && *static_target)
		add_all(&tests, static_target, "");
	else if (argc == 1)
		print_message("SKIP: there is no static C library\n");
	add(&tests, "", "", PLAIN);
	tests.items[tests.count - 1].test_func = refuses_what_is_no_glibc;
	failed = _cmocka_run_group_tests("heap_glibc", tests.items, tests.count, NULL, NULL);
	free_tests(&tests);
	return failed;
}
