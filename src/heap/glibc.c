/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "internal.h"

/* libc.so.6, which was libc-2.31.so to 2.33. */
static bool is_libc(const struct tap_module *module)
{
	return strncmp(module->name, "libc.so", 7) == 0 || strncmp(module->name, "libc-2.", 7) == 0;
}

static void note_data(
	struct tap_glibc *glibc, const struct tap_maps *maps, const struct tap_module *module)
{
	glibc->data.count = 0;
	for (size_t i = 0; i < maps->count; i++) {
		const struct tap_mapping *mapping = &maps->items[i];

		if (mapping->start >= module->start && mapping->start < module->end &&
			mapping->readable && mapping->writable && !mapping->shared)
			tap_vector_push(
				&glibc->data, ((struct tap_range){mapping->start, mapping->end}));
	}
}

static bool find_in_modules(struct tap_glibc *glibc, const struct tap_maps *maps,
	const struct tap_symbols *symbols, bool executable)
{
	for (size_t i = 0; i < tap_symbols_count(symbols); i++) {
		const struct tap_module *module = tap_symbols_at_index(symbols, i);

		if (module->retired || !(executable ? module->executable : is_libc(module)))
			continue;
		note_data(glibc, maps, module);
		if (tap_arena_find(glibc))
			return true;
	}
	return false;
}

struct tap_error *tap_glibc_open(
	struct tap_symbols *symbols, struct tap_memory *memory, pid_t pid, struct tap_glibc **ret)
{
	struct tap_glibc *glibc;
	struct tap_maps maps = {0};
	struct tap_error *err;
	bool found;

	err = tap_maps_read(pid, &maps);
	if (err)
		return err;
	glibc = tap_alloc(sizeof(*glibc));
	glibc->memory = memory;
	glibc->pid = pid;
	/* Linked statically, it is a part of the executable. */
	found = find_in_modules(glibc, &maps, symbols, false) ||
		find_in_modules(glibc, &maps, symbols, true);
	tap_maps_deinit(&maps);
	if (!found) {
		tap_glibc_close(glibc);
		return tap_error_new(TAP_ERR_NOT_FOUND,
			"no heap of glibc's malloc was found in process %d", (int)pid);
	}
	*ret = glibc;
	return NULL;
}

void tap_glibc_close(struct tap_glibc *glibc)
{
	if (!glibc)
		return;
	tap_vector_free(&glibc->data);
	free(glibc);
}

void tap_heap_note_stop(struct tap_heap_walker *walker, uint64_t addr, const char *reason)
{
	if (!walker->stats->stops++) {
		walker->stats->stop_addr = addr;
		walker->stats->stop_reason = reason;
	}
}

/* Is the chunk in a cache or fast bin? Chunks come in ascending order. */
static bool take_freed(
	struct tap_heap_walker *walker, uint64_t chunk, enum tap_heap_free_kind *kind_ret)
{
	const uint64_t *items = walker->freed.items;
	size_t at = walker->freed_at;

	while (at < walker->freed.count && items[at] < chunk)
		at++;
	walker->freed_at = at;
	if (at == walker->freed.count || (items[at] ^ chunk) > TAP_FREED_FAST)
		return false;
	walker->freed_at++;
	*kind_ret = items[at] & TAP_FREED_FAST ? TAP_HEAP_FAST : TAP_HEAP_CACHED;
	return true;
}

static void count_free(
	struct tap_heap_walk *stats, uint64_t size_bytes, enum tap_heap_free_kind kind)
{
	switch (kind) {
	case TAP_HEAP_FREE:
	case TAP_HEAP_TOP:
		stats->free_blocks++;
		stats->free_bytes += size_bytes;
		break;
	case TAP_HEAP_FAST:
		stats->fast_blocks++;
		stats->fast_bytes += size_bytes;
		break;
	case TAP_HEAP_CACHED:
		stats->cached_blocks++;
		stats->cached_bytes += size_bytes;
		break;
	case TAP_HEAP_OVERHEAD:
		stats->overhead_bytes += size_bytes;
		break;
	}
}

static void emit_free(struct tap_heap_walker *walker, const struct tap_region *region,
	uint64_t addr, uint64_t size_bytes, enum tap_heap_free_kind kind)
{
	count_free(walker->stats, size_bytes, kind);
	if (kind == TAP_HEAP_FREE || kind == TAP_HEAP_FAST)
		tap_trim_add(walker, region->arena, addr, size_bytes);
	else if (kind == TAP_HEAP_TOP)
		tap_trim_top(walker, region, addr, size_bytes);
	if (walker->visitor.free) {
		struct tap_heap_free piece = {addr, size_bytes, region->arena, kind};

		walker->visitor.free(walker->visitor.context, &piece);
	}
}

static inline bool give(struct tap_heap_walker *walker, const struct tap_heap_block *block)
{
	walker->stats->live_blocks++;
	walker->stats->live_bytes += block->chunk_bytes;
	if (walker->visitor.block)
		walker->enough = !walker->visitor.block(walker->visitor.context, block);
	return !walker->enough;
}

bool tap_heap_emit_block(struct tap_heap_walker *walker, const struct tap_heap_block *block)
{
	return give(walker, block);
}

static bool emit(struct tap_heap_walker *walker, const struct tap_region *region, uint64_t chunk,
	uint64_t size_bytes, enum tap_chunk_kind kind)
{
	static const enum tap_heap_free_kind kinds[] = {
		[TAP_CHUNK_FREE] = TAP_HEAP_FREE,
		[TAP_CHUNK_TOP] = TAP_HEAP_TOP,
		[TAP_CHUNK_OVERHEAD] = TAP_HEAP_OVERHEAD,
	};
	enum tap_heap_free_kind freed;
	struct tap_heap_block block;

	if (kind != TAP_CHUNK_LIVE || take_freed(walker, chunk, &freed)) {
		emit_free(walker, region, chunk, size_bytes,
			kind == TAP_CHUNK_LIVE ? freed : kinds[kind]);
		return true;
	}
	block.addr = chunk + TAP_CHUNK_HEADER;
	/* The first word of the next header is the caller's while this is live. */
	block.usable_bytes = size_bytes - 8;
	block.chunk_bytes = size_bytes;
	block.lead_bytes = TAP_CHUNK_HEADER;
	block.arena = region->arena;
	return give(walker, &block);
}

void tap_heap_emit_region(
	struct tap_heap_walker *walker, uint64_t start, uint64_t end, uint64_t arena)
{
	struct tap_heap_range range = {start, end, arena};

	if (walker->visitor.region && start < end)
		walker->visitor.region(walker->visitor.context, &range);
}

static void emit_head(struct tap_heap_walker *walker, const struct tap_region *region)
{
	uint64_t addr = region->range.start - region->head_bytes;

	if (!region->head_bytes)
		return;
	emit_free(walker, region, addr, region->head_bytes, TAP_HEAP_OVERHEAD);
}

static void walk_region(struct tap_heap_walker *walker, const struct tap_region *region)
{
	size_t low = 0, high = walker->freed.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (walker->freed.items[middle] < region->range.start)
			low = middle + 1;
		else
			high = middle;
	}
	walker->freed_at = low;
	emit_head(walker, region);
	tap_chunks_walk(walker, region, emit, true);
	tap_trim_end(walker);
}

static void take_others(struct tap_heap_walker *walker)
{
	const struct tap_heap_ranges *others = walker->visitor.others;

	for (size_t i = 0; others && i < others->count; i++)
		tap_vector_push(&walker->taken,
			((struct tap_range){others->items[i].start, others->items[i].end}));
}

static void walk(struct tap_heap_walker *walker)
{
	struct tap_heap_walk *stats = walker->stats;

	take_others(walker);
	tap_arenas_read(walker);
	tap_caches_read(walker);
	for (size_t i = 0; i < walker->regions.count && !walker->enough; i++)
		walk_region(walker, &walker->regions.items[i]);
	if (!walker->enough && stats->cached_blocks + stats->fast_blocks != walker->freed.count)
		stats->inconsistencies++;
	if (!walker->enough)
		tap_mapped_walk(walker);
}

struct tap_error *tap_glibc_walk(struct tap_glibc *glibc, tap_heap_block_fn fn, void *context,
	struct tap_heap_walk *walk_ret)
{
	struct tap_heap_visitor visitor = {.context = context, .block = fn};

	return tap_glibc_visit(glibc, &visitor, walk_ret);
}

struct tap_error *tap_glibc_visit(struct tap_glibc *glibc, const struct tap_heap_visitor *visitor,
	struct tap_heap_walk *walk_ret)
{
	struct tap_heap_walker walker = {.glibc = glibc, .stats = walk_ret, .visitor = *visitor};
	struct tap_error *err;

	memset(walk_ret, 0, sizeof(*walk_ret));
	err = tap_maps_read(glibc->pid, &walker.maps);
	if (err)
		return tap_error_wrap(err, "cannot walk the heap");
	walker.pagemap = tap_pagemap_open(glibc->pid);
	tap_window_init(&walker.window, glibc->memory);
	walk(&walker);
	tap_window_deinit(&walker.window);
	tap_pagemap_close(walker.pagemap);
	tap_maps_deinit(&walker.maps);
	tap_vector_free(&walker.regions);
	tap_vector_free(&walker.taken);
	tap_vector_free(&walker.arenas);
	tap_vector_free(&walker.freed);
	return NULL;
}

void tap_glibc_main_arena(const struct tap_glibc *glibc, struct tap_heap_range *ret)
{
	ret->start = ret->arena = glibc->main_arena;
	ret->end = glibc->main_arena + glibc->bins_at + TAP_ARENA_END;
}
