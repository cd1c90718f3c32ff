/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools (Objects/obmalloc.c): a header, then blocks of one size. Those up to
 * nextoffset were handed out at least once, and are in use but for those in
 * the list that begins at freeblock, linked by their first words.
 *
 * An arena is a mapping of 64 pools' size, those of 4 KiB, as of 16 KiB. Its
 * pools get their headers one after the other, so that the first that is seen
 * is its first, and none of another arena begins within an arena's size.
 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/proc/pagemap.h"
#include "heaptap/python/pools.h"
#include "python/runtime.h"

#define ALIGNMENT 16
#define CLASSES 32
#define PAGE UINT64_C(4096)
#define WINDOW_BYTES ((size_t)256 << 10)
#define POOL_MAX_BYTES 65536
#define BLOCKS_MAX (POOL_MAX_BYTES / ALIGNMENT)
#define ARENA_POOLS 64
#define PINNED_SHARE 10

struct arena {
	uint64_t start; /* its first pool; 0: none yet */
	uint64_t live_bytes;
	uint64_t free_bytes; /* in its pools */
};

struct walker {
	struct tap_memory *memory;
	struct tap_pagemap *pagemap;
	const struct tap_python_layout *layout;
	uint32_t pool_bytes, header_bytes;
	uint8_t *window;
	uint64_t free_map[BLOCKS_MAX / 64]; /* of one pool: a bit per block */
	const struct tap_pool_visitor *visitor;
	struct tap_pool_walk *stats;
	struct arena arena;
	bool enough;
};

struct pool {
	const uint8_t *bytes;
	uint64_t addr;
	uint32_t block_bytes;
	uint32_t capacity; /* blocks that fit */
	uint32_t begun;    /* blocks that were handed out at least once */
	uint32_t count;    /* blocks in use, as the header says */
};

/* Is it a pool? The size class and the last place where a block can begin tell
 * the same twice. */
static bool read_header(const struct walker *walker, const uint8_t *bytes, struct pool *pool)
{
	const struct tap_python_layout *layout = walker->layout;
	uint32_t class_index = tap_python_u32(bytes, layout->pool.class_index);
	uint32_t next_offset;

	if (class_index >= CLASSES)
		return false;
	pool->block_bytes = (class_index + 1) * ALIGNMENT;
	if (tap_python_u32(bytes, layout->pool.max_next_offset) !=
		walker->pool_bytes - pool->block_bytes)
		return false;
	pool->capacity = (walker->pool_bytes - walker->header_bytes) / pool->block_bytes;
	pool->count = tap_python_u32(bytes, layout->pool.count);
	next_offset = tap_python_u32(bytes, layout->pool.next_offset);
	if (pool->count > pool->capacity || next_offset < walker->header_bytes ||
		next_offset > walker->pool_bytes + pool->block_bytes)
		return false;
	pool->begun = (next_offset - walker->header_bytes) / pool->block_bytes;
	if ((next_offset - walker->header_bytes) % pool->block_bytes ||
		pool->begun > pool->capacity)
		return false;
	pool->bytes = bytes;
	return true;
}

/* Marks the blocks of the free list; false where it leads out of the pool or
 * in a circle. */
static bool mark_free(struct walker *walker, const struct pool *pool, uint32_t *count_ret)
{
	uint64_t at = tap_python_u64(pool->bytes, walker->layout->pool.free_block);
	/* Division by a multiple of 16 up to 512: exact for offsets below 64 KiB. */
	uint32_t inverse = (UINT32_C(1) << 26) / pool->block_bytes + 1;
	uint32_t count = 0;

	memset(walker->free_map, 0, (pool->begun + 63) / 64 * 8);
	for (; at; count++) {
		uint64_t offset = at - pool->addr - walker->header_bytes;
		uint32_t index;

		if (offset >= (uint64_t)pool->begun * pool->block_bytes)
			return false;
		index = (uint32_t)((offset * inverse) >> 26);
		if (index * pool->block_bytes != offset ||
			(walker->free_map[index / 64] >> index % 64 & 1))
			return false;
		walker->free_map[index / 64] |= UINT64_C(1) << index % 64;
		memcpy(&at, pool->bytes + (at - pool->addr), sizeof(at));
	}
	*count_ret = count;
	return true;
}

static void emit(struct walker *walker, const struct pool *pool)
{
	uint64_t first = pool->addr + walker->header_bytes;
	tap_pool_block_fn fn = walker->visitor->block;
	void *context = walker->visitor->context;

	for (uint32_t base = 0; base < pool->begun; base += 64) {
		uint64_t live = ~walker->free_map[base / 64];

		if (pool->begun - base < 64)
			live &= (UINT64_C(1) << (pool->begun - base)) - 1;
		for (; live; live &= live - 1) {
			uint32_t index = base + (uint32_t)__builtin_ctzll(live);

			walker->stats->blocks++;
			walker->stats->bytes += pool->block_bytes;
			if (fn && !fn(context, first + index * pool->block_bytes,
					  pool->block_bytes)) {
				walker->enough = true;
				return;
			}
		}
	}
}

static void end_arena(struct walker *walker)
{
	const struct arena *arena = &walker->arena;
	uint64_t size = (uint64_t)ARENA_POOLS * walker->pool_bytes;

	if (arena->live_bytes) {
		walker->stats->arenas++;
		if (arena->live_bytes <= size / PINNED_SHARE) {
			walker->stats->pinned_arenas++;
			walker->stats->pinned_free_bytes += arena->free_bytes;
		}
	}
	walker->arena = (struct arena){0};
}

static void note_pool(struct walker *walker, const struct pool *pool, uint32_t live_blocks)
{
	struct tap_pool told = {.addr = pool->addr,
		.size_bytes = walker->pool_bytes,
		.block_bytes = pool->block_bytes,
		.live_bytes = live_blocks * pool->block_bytes};
	struct arena *arena = &walker->arena;

	if (pool->addr - arena->start >= (uint64_t)ARENA_POOLS * walker->pool_bytes) {
		end_arena(walker);
		arena->start = pool->addr;
	}
	arena->live_bytes += told.live_bytes;
	arena->free_bytes += told.size_bytes - told.live_bytes;
	if (walker->visitor->pool)
		walker->visitor->pool(walker->visitor->context, &told);
}

static void walk_pool(struct walker *walker, const struct pool *pool)
{
	struct tap_pool_walk *stats = walker->stats;
	uint32_t free_count;

	if (!pool->count) {
		stats->empty_pools++;
		note_pool(walker, pool, 0);
		return;
	}
	if (!mark_free(walker, pool, &free_count)) {
		stats->mismatches++;
		return;
	}
	if (pool->begun - free_count != pool->count)
		stats->mismatches++;
	note_pool(walker, pool, pool->begun - free_count);
	free_count += pool->capacity - pool->begun;
	stats->pools++;
	stats->free_blocks += free_count;
	stats->free_bytes += (uint64_t)free_count * pool->block_bytes;
	emit(walker, pool);
}

/* How much to read at once from a page that exists on: up to one that was
 * never touched and begins a pool. */
static size_t run_of(struct walker *walker, uint64_t at, uint64_t end)
{
	uint64_t step = walker->pool_bytes;
	size_t size = step;

	while (size + step <= WINDOW_BYTES && end - at >= size + step &&
		tap_pagemap_next(walker->pagemap, at + size, at + size + PAGE) == at + size)
		size += step;
	return size;
}

/* Pools lie at multiples of their size in [start, end). */
static void walk_range(struct walker *walker, uint64_t start, uint64_t end)
{
	uint64_t at = start, step = walker->pool_bytes;

	while (!walker->enough) {
		size_t size;

		at = tap_pagemap_next(walker->pagemap, (at + step - 1) & ~(step - 1), end);
		if (at >= end || end - at < step)
			return;
		/* The header of a pool is in its first page. */
		if (at & (step - 1))
			continue;
		size = tap_memory_read_some(
			walker->memory, at, walker->window, run_of(walker, at, end));
		for (size_t i = 0; i + step <= size && !walker->enough; i += step) {
			struct pool pool = {.addr = at + i};

			if (read_header(walker, walker->window + i, &pool))
				walk_pool(walker, &pool);
		}
		at += size < step ? step : size;
	}
}

static bool is_anonymous(const struct tap_mapping *mapping)
{
	return !mapping->inode && mapping->readable && mapping->writable && !mapping->shared &&
	       (!*mapping->path || strncmp(mapping->path, "[anon", 5) == 0);
}

/* Mappings that touch are walked as one: a pool may lie in two of them. */
static void walk_maps(struct walker *walker, const struct tap_maps *maps)
{
	uint64_t start = 0, end = 0;

	for (size_t i = 0; i < maps->count; i++) {
		const struct tap_mapping *mapping = &maps->items[i];

		if (!is_anonymous(mapping))
			continue;
		if (mapping->start != end) {
			walk_range(walker, start, end);
			start = mapping->start;
		}
		end = mapping->end;
	}
	walk_range(walker, start, end);
}

struct tap_error *tap_python_pools_walk(struct tap_python *python, pid_t pid,
	const struct tap_maps *maps, tap_pool_block_fn fn, void *context,
	struct tap_pool_walk *walk_ret)
{
	struct tap_pool_visitor visitor = {.context = context, .block = fn};

	return tap_python_pools_visit(python, pid, maps, &visitor, walk_ret);
}

struct tap_error *tap_python_pools_visit(struct tap_python *python, pid_t pid,
	const struct tap_maps *maps, const struct tap_pool_visitor *visitor,
	struct tap_pool_walk *walk_ret)
{
	struct walker *walker;

	memset(walk_ret, 0, sizeof(*walk_ret));
	if (!python->info.supported || python->layout.pool.size > POOL_MAX_BYTES)
		return tap_error_new(TAP_ERR_UNSUPPORTED,
			"the pools of this interpreter are not known: %s", python->info.reason);
	walker = tap_alloc(sizeof(*walker));
	walker->memory = python->memory;
	walker->pagemap = tap_pagemap_open(pid);
	walker->layout = &python->layout;
	walker->pool_bytes = (uint32_t)python->layout.pool.size;
	walker->header_bytes = (uint32_t)python->layout.pool.header_size;
	walker->window = tap_realloc(NULL, WINDOW_BYTES);
	walker->visitor = visitor;
	walker->stats = walk_ret;
	walk_maps(walker, maps);
	end_arena(walker);
	tap_pagemap_close(walker->pagemap);
	free(walker->window);
	free(walker);
	return NULL;
}
