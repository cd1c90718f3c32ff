/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main arena takes its memory from the break, and where that is blocked
 * from mappings. Every other arena lies in the first of its heaps, mappings
 * aligned to their greatest size, each with a head {arena, the heap before,
 * size in use, ...} (struct heap_info of malloc/arena.c).
 */
#include <stdlib.h>
#include "internal.h"

#define ARENAS_MAX 8192
#define HEAPS_MAX 65536
#define PAGE UINT64_C(4096)
#define NONCONTIGUOUS 2 /* of an arena's flags */

struct heap_head {
	uint64_t arena;
	uint64_t before;
	uint64_t size_bytes;
};

static bool is_known(const struct tap_heap_walker *walker, uint64_t arena)
{
	for (size_t i = 0; i < walker->arenas.count; i++)
		if (walker->arenas.items[i] == arena)
			return true;
	return false;
}

static void read_ring(struct tap_heap_walker *walker)
{
	const struct tap_glibc *glibc = walker->glibc;
	uint64_t at = glibc->main_arena, system;

	do {
		tap_vector_push(&walker->arenas, at);
		walker->stats->arenas++;
		if (tap_arena_try_word(glibc, at, TAP_ARENA_SYSTEM, &system))
			walker->stats->system_bytes += system;
		if (!tap_arena_try_word(glibc, at, TAP_ARENA_NEXT, &at) ||
			walker->arenas.count >= ARENAS_MAX) {
			tap_heap_note_stop(walker, at, "the list of arenas does not end");
			return;
		}
	} while (!is_known(walker, at));
	if (at != glibc->main_arena)
		tap_heap_note_stop(walker, at, "the list of arenas does not close");
}

static bool read_head(struct tap_heap_walker *walker, uint64_t heap, uint64_t arena,
	uint64_t most_bytes, struct heap_head *ret)
{
	return tap_memory_try_read(walker->glibc->memory, heap, ret, sizeof(*ret)) &&
	       ret->arena == arena && ret->size_bytes && ret->size_bytes <= most_bytes &&
	       !(ret->size_bytes % PAGE) && !(ret->before % most_bytes);
}

static void add_heap(
	struct tap_heap_walker *walker, uint64_t heap, uint64_t arena, const struct heap_head *head)
{
	uint64_t head_bytes = arena & (PAGE - 1);
	struct tap_region region = {.arena = arena};

	region.range.start = heap + head_bytes;
	region.range.end = heap + head->size_bytes;
	if (heap + head_bytes == arena) {
		region.range.start = arena + walker->glibc->bins_at + TAP_ARENA_END;
		region.range.start = (region.range.start + 15) & ~UINT64_C(15);
	}
	walker->stats->heaps++;
	if (region.range.start >= region.range.end) {
		tap_heap_note_stop(walker, heap, "a heap is too small");
		return;
	}
	region.head_bytes = region.range.start - heap;
	tap_vector_push(&walker->regions, region);
	tap_vector_push(
		&walker->taken, ((struct tap_range){.start = heap, .end = region.range.end}));
}

/* The newest heap holds the top chunk. Their greatest size is 64 MiB, or four
 * huge pages where glibc was told to use those. */
static uint64_t newest_heap(
	struct tap_heap_walker *walker, uint64_t arena, uint64_t top, uint64_t *most_ret)
{
	static const uint64_t sizes[] = {UINT64_C(64) << 20, UINT64_C(8) << 20, UINT64_C(4) << 30};
	struct heap_head head;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t heap = top & ~(sizes[i] - 1);

		if (read_head(walker, heap, arena, sizes[i], &head)) {
			*most_ret = sizes[i];
			return heap;
		}
	}
	return 0;
}

static void read_heaps(struct tap_heap_walker *walker, uint64_t arena)
{
	uint64_t top, heap, most = 0;
	struct heap_head head;

	if (!tap_arena_try_word(walker->glibc, arena, TAP_ARENA_TOP, &top)) {
		tap_heap_note_stop(walker, arena, "an arena is not mapped");
		return;
	}
	heap = newest_heap(walker, arena, top, &most);
	if (!heap)
		tap_heap_note_stop(walker, top, "an arena's top lies in no heap of it");
	for (int count = 0; heap; count++) {
		if (count == HEAPS_MAX || !read_head(walker, heap, arena, most, &head)) {
			tap_heap_note_stop(walker, heap, "a heap of an arena is not one");
			return;
		}
		add_heap(walker, heap, arena, &head);
		heap = head.before;
	}
}

static int by_start(const void *a, const void *b)
{
	const struct tap_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static void sort_taken(struct tap_heap_walker *walker)
{
	if (walker->taken.count)
		qsort(walker->taken.items, walker->taken.count, sizeof(walker->taken.items[0]),
			by_start);
}

static bool find_break(const struct tap_maps *maps, struct tap_range *ret)
{
	bool found = false;

	for (size_t i = 0; i < maps->count; i++) {
		const struct tap_mapping *mapping = &maps->items[i];

		if (strcmp(mapping->path, "[heap]") != 0)
			continue;
		if (!found)
			ret->start = mapping->start;
		ret->end = mapping->end;
		found = true;
	}
	return found;
}

/* Stretches of the main arena that are mappings: they begin with a page and
 * end with the top or with marks. */
static bool find_strays_in(struct tap_heap_walker *walker, const struct tap_range *range)
{
	struct tap_region region = {.arena = walker->glibc->main_arena, .main = true};
	uint64_t at = range->start;
	bool found = false;

	while ((at = tap_pagemap_next(walker->pagemap, at, range->end)) < range->end) {
		region.range = (struct tap_range){.start = at, .end = range->end};
		at = tap_chunks_follow(walker, &region, region.range.start, 0);
		if (at > region.range.start) {
			tap_vector_push(&walker->regions, region);
			tap_vector_push(&walker->taken,
				((struct tap_range){.start = region.range.start, .end = at}));
			found = true;
		} else {
			at = region.range.start + 1;
		}
		at = (at + PAGE - 1) & ~(PAGE - 1);
	}
	return found;
}

static bool find_strays(struct tap_heap_walker *walker)
{
	struct tap_ranges ranges = {0};
	bool found = false;

	tap_anonymous_ranges(&walker->maps, &walker->taken, &ranges);
	for (size_t i = 0; i < ranges.count; i++)
		found |= find_strays_in(walker, &ranges.items[i]);
	tap_vector_free(&ranges);
	sort_taken(walker);
	return found;
}

static void read_main(struct tap_heap_walker *walker)
{
	const struct tap_glibc *glibc = walker->glibc;
	struct tap_region region = {.arena = glibc->main_arena, .main = true, .searched = true};
	bool found = false;
	uint64_t top = 0;
	uint32_t flags = 0;

	tap_arena_try_word(glibc, glibc->main_arena, TAP_ARENA_TOP, &top);
	tap_memory_try_u32(glibc->memory, glibc->main_arena + 4, &flags);
	if (top == glibc->main_arena + glibc->bins_at - 16)
		return;
	if (find_break(&walker->maps, &region.range)) {
		walker->first_chunk = tap_chunks_search(walker, &region, region.range.start);
		if (walker->first_chunk) {
			region.range.start = walker->first_chunk;
			tap_vector_push(&walker->regions, region);
			found = true;
		}
	}
	if (!found || (flags & NONCONTIGUOUS) || top < region.range.start ||
		top >= region.range.end)
		found |= find_strays(walker);
	if (!found)
		tap_heap_note_stop(walker, top, "the main heap does not begin with a chunk");
}

void tap_arenas_read(struct tap_heap_walker *walker)
{
	read_ring(walker);
	for (size_t i = 1; i < walker->arenas.count; i++)
		read_heaps(walker, walker->arenas.items[i]);
	sort_taken(walker);
	read_main(walker);
}
