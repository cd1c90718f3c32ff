/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long it takes to walk the heaps of a process, and how many times as long
 * as it takes just to read the memory they lie in: bench_heap_walk PID
 */
#include <stdio.h>
#include <stdlib.h>
#include "heaptap/base/clock.h"
#include "heaptap/heap/glibc.h"
#include "heaptap/proc/maps.h"
#include "heaptap/python/pools.h"

#define RUNS 5
#define PIECE ((size_t)256 << 10)

static bool see_block(void *context, const struct tap_heap_block *block)
{
	*(uint64_t *)context += block->addr;
	return true;
}

static bool see_pool_block(void *context, uint64_t addr, uint32_t block_bytes)
{
	*(uint64_t *)context += addr + block_bytes;
	return true;
}

static double read_all(struct tap_memory *memory, const struct tap_maps *maps)
{
	static uint8_t buffer[PIECE];
	uint64_t start = tap_clock_ns();

	for (size_t i = 0; i < maps->count; i++) {
		const struct tap_mapping *mapping = &maps->items[i];

		if (mapping->inode || !mapping->writable || mapping->shared)
			continue;
		for (uint64_t at = mapping->start; at < mapping->end; at += PIECE)
			tap_memory_read_some(memory, at, buffer,
				mapping->end - at < PIECE ? mapping->end - at : PIECE);
	}
	return (double)(tap_clock_ns() - start) * 1e-9;
}

static void report(const char *what, uint64_t blocks, double seconds, double read_seconds)
{
	printf("%-8s %10lu blocks %8.1f M/s %6.2f times a read of all memory\n", what, blocks,
		(double)blocks / seconds / 1e6, seconds / read_seconds);
}

static struct tap_error *walk_chunks(
	struct tap_symbols *symbols, struct tap_memory *memory, pid_t pid, double read_seconds)
{
	_cleanup_glibc_ struct tap_glibc *glibc = NULL;
	struct tap_heap_walk walk;
	double best = 1e9;
	uint64_t seen = 0;
	struct tap_error *err = tap_glibc_open(symbols, memory, pid, &glibc);

	for (int i = 0; i < RUNS && !err; i++) {
		uint64_t start = tap_clock_ns();
		double seconds;

		err = tap_glibc_walk(glibc, see_block, &seen, &walk);
		seconds = (double)(tap_clock_ns() - start) * 1e-9;
		best = seconds < best ? seconds : best;
	}
	if (!err)
		report("chunks", walk.live_blocks, best, read_seconds);
	return err;
}

static struct tap_error *walk_pools(struct tap_symbols *symbols, struct tap_memory *memory,
	const struct tap_maps *maps, pid_t pid, double read_seconds)
{
	struct tap_python *python = NULL;
	struct tap_pool_walk walk;
	double best = 1e9;
	uint64_t seen = 0;
	struct tap_error *err = tap_python_open(symbols, memory, &python);

	for (int i = 0; i < RUNS && python && !err; i++) {
		uint64_t start = tap_clock_ns();
		double seconds;

		err = tap_python_pools_walk(python, pid, maps, see_pool_block, &seen, &walk);
		seconds = (double)(tap_clock_ns() - start) * 1e-9;
		best = seconds < best ? seconds : best;
	}
	if (python && !err)
		report("pools", walk.blocks, best, read_seconds);
	tap_python_close(python);
	return err;
}

int main(int argc, char **argv)
{
	_cleanup_symbols_ struct tap_symbols *symbols = NULL;
	_cleanup_memory_ struct tap_memory *memory = NULL;
	_cleanup_error_ struct tap_error *err = NULL;
	struct tap_maps maps = {0};
	pid_t pid = argc == 2 ? atoi(argv[1]) : 0;
	double read_seconds = 0;

	if (pid <= 0) {
		fputs("usage: bench_heap_walk PID\n", stderr);
		return 2;
	}
	err = tap_memory_open(pid, false, &memory);
	if (!err)
		err = tap_maps_read(pid, &maps);
	if (!err)
		err = tap_symbols_open(pid, memory, &maps, NULL, &symbols);
	if (!err) {
		read_all(memory, &maps);
		read_seconds = read_all(memory, &maps);
		/* As where it stands still, which it does. */
		tap_memory_cache(memory, TAP_MEMORY_CACHE_PIECES);
		err = walk_chunks(symbols, memory, pid, read_seconds);
	}
	if (!err)
		tap_memory_cache(memory, TAP_MEMORY_CACHE_OFF);
	if (!err)
		err = walk_pools(symbols, memory, &maps, pid, read_seconds);
	if (err)
		fprintf(stderr, "%s\n", err->message);
	tap_maps_deinit(&maps);
	return err != NULL;
}
