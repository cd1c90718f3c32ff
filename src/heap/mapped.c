/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large blocks are mappings of their own, told by the header that each begins
 * with: {bytes before the chunk, size and a flag}, where both together are
 * whole pages. There are bytes before it where malloc() had to align more than
 * to 16. No list holds them, and the kernel joins mappings that touch, so that
 * every page may be the first of one.
 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "internal.h"

#define PAGE UINT64_C(4096)
#define DATA_MAX_BYTES (UINT64_C(16) << 20)

static bool is_anonymous(const struct tap_mapping *mapping)
{
	return !mapping->inode && mapping->readable && mapping->writable && !mapping->shared &&
	       (!*mapping->path || strncmp(mapping->path, "[anon", 5) == 0);
}

static void add_range(struct tap_ranges *ranges, uint64_t start, uint64_t end)
{
	if (start >= end)
		return;
	if (ranges->count && ranges->items[ranges->count - 1].end == start)
		ranges->items[ranges->count - 1].end = end;
	else
		tap_vector_push(ranges, ((struct tap_range){.start = start, .end = end}));
}

void tap_anonymous_ranges(
	const struct tap_maps *maps, const struct tap_ranges *without, struct tap_ranges *ret)
{
	size_t next = 0;

	for (size_t i = 0; i < maps->count; i++) {
		uint64_t start = maps->items[i].start, end = maps->items[i].end;

		if (!is_anonymous(&maps->items[i]))
			continue;
		while (next < without->count && without->items[next].end <= start)
			next++;
		for (size_t j = next; j < without->count && without->items[j].start < end; j++) {
			add_range(ret, start, without->items[j].start);
			if (without->items[j].end > start)
				start = without->items[j].end;
		}
		add_range(ret, start, end);
	}
}

struct mapped {
	uint64_t lead;  /* bytes before the chunk */
	uint64_t total; /* of the mapping */
	uint64_t usable;
};

static bool is_head(const uint8_t *bytes, uint64_t lead, uint64_t room, struct mapped *ret)
{
	uint64_t before = tap_heap_u64(bytes), word = tap_heap_u64(bytes + 8);
	uint64_t size = word & ~(uint64_t)TAP_CHUNK_FLAGS;

	/* The lowest bit of what is before is another flag, of huge pages. */
	if ((word & TAP_CHUNK_FLAGS) != TAP_CHUNK_MAPPED || (before & ~UINT64_C(1)) != lead ||
		size <= TAP_CHUNK_HEADER || size > room || lead > room - size)
		return false;
	ret->lead = lead;
	ret->total = (lead + size + PAGE - 1) & ~(PAGE - 1);
	ret->usable = size - TAP_CHUNK_HEADER;
	/* From 2.43 on the size is told as of every other chunk, as if a header
	 * followed. */
	if (ret->total - lead - size == TAP_CHUNK_HEADER)
		ret->usable = size - 8;
	else if (ret->total != lead + size)
		return false;
	return ret->total <= room;
}

/* Of a block that is aligned to more than a page the chunk begins in the last
 * header that fits into a page. */
static bool find_far_head(
	struct tap_heap_walker *walker, uint64_t base, uint64_t end, struct mapped *ret)
{
	for (uint64_t align = 2 * PAGE; align < end - base; align *= 2) {
		uint64_t block = (base + TAP_CHUNK_HEADER + align - 1) & ~(align - 1);
		uint64_t lead = block - TAP_CHUNK_HEADER - base;
		uint8_t head[TAP_CHUNK_HEADER];

		if (block >= end)
			return false;
		if (tap_memory_try_read(walker->glibc->memory, base + lead, head, sizeof(head)) &&
			is_head(head, lead, end - base, ret))
			return true;
	}
	return false;
}

/* A chunk whose mapping begins at base. Where it was aligned, the header that
 * it had before is still there. */
static bool find_head(
	struct tap_heap_walker *walker, uint64_t base, uint64_t end, struct mapped *ret)
{
	const uint8_t *page = tap_window_at(&walker->window, base, PAGE);
	struct mapped near;

	if (!page)
		return false;
	for (uint64_t lead = 16; lead < PAGE; lead = lead * 2 + 16)
		if (is_head(page + lead, lead, end - base, ret))
			return true;
	if (!is_head(page, 0, end - base, &near))
		return false;
	if (!find_far_head(walker, base, end, ret))
		*ret = near;
	return true;
}

static void emit(struct tap_heap_walker *walker, uint64_t base, const struct mapped *mapped)
{
	struct tap_heap_block block = {
		.addr = base + mapped->lead + TAP_CHUNK_HEADER,
		.usable_bytes = mapped->usable,
		.chunk_bytes = mapped->total,
		.lead_bytes = mapped->lead + TAP_CHUNK_HEADER,
	};

	walker->stats->mapped_blocks++;
	walker->stats->mapped_bytes += block.chunk_bytes;
	tap_heap_emit_block(walker, &block);
	tap_heap_emit_region(walker, base, base + mapped->total, 0);
}

static bool is_all_found(const struct tap_heap_walker *walker)
{
	return walker->enough || (walker->stats->mapped_told && walker->stats->mapped_blocks >=
									walker->stats->mapped_told);
}

static void sweep(struct tap_heap_walker *walker, const struct tap_range *range)
{
	uint64_t at = range->start;
	struct mapped mapped;

	while (!is_all_found(walker)) {
		at = tap_pagemap_next(walker->pagemap, at, range->end);
		if (at >= range->end)
			return;
		if (find_head(walker, at, range->end, &mapped)) {
			emit(walker, at, &mapped);
			at += mapped.total;
		} else {
			at += PAGE;
		}
	}
}

/* struct malloc_par: {..., int: mappings, limit, the most there were, flag; size_t:
 * their bytes, the most there were, where the break began, lists of a cache,
 * ...}; from 2.43 on there are four bytes of nothing before their bytes.
 * (The bytes are not exact in 2.43: realloc() forgets some.) */
static bool read_told(const uint8_t *break_began, uint32_t *ret)
{
	uint64_t bytes = tap_heap_u64(break_began - 16), most = tap_heap_u64(break_began - 8);
	uint64_t bins = tap_heap_u64(break_began + 8);

	if (bytes > most || !bins || bins > 128)
		return false;
	for (int offset = 32; offset <= 36; offset += 4) {
		uint32_t counts[3];

		memcpy(counts, break_began - offset, sizeof(counts));
		*ret = counts[0];
		if (counts[0] <= counts[1] && counts[0] <= counts[2] && !counts[0] == !bytes)
			return true;
	}
	return false;
}

static bool find_told(struct tap_heap_walker *walker, const struct tap_range *range)
{
	uint64_t size = range->end - range->start;
	size_t got;
	uint8_t *bytes;
	bool found = false;

	if (size > DATA_MAX_BYTES)
		size = DATA_MAX_BYTES;
	bytes = tap_realloc(NULL, size);
	got = tap_memory_read_some(walker->glibc->memory, range->start, bytes, size);
	for (size_t i = 40; i + 16 <= got && !found; i += 8) {
		uint64_t start = tap_heap_u64(bytes + i);

		if (start <= walker->first_chunk && walker->first_chunk - start < 16)
			found = read_told(bytes + i, &walker->stats->mapped_told);
	}
	if (!found)
		walker->stats->mapped_told = 0;
	free(bytes);
	return found;
}

void tap_mapped_walk(struct tap_heap_walker *walker)
{
	const struct tap_ranges *data = &walker->glibc->data;
	struct tap_ranges ranges = {0};
	bool told = false;

	for (size_t i = 0; walker->first_chunk && i < data->count && !told; i++)
		told = find_told(walker, &data->items[i]);
	if (told && !walker->stats->mapped_told)
		return;
	tap_anonymous_ranges(&walker->maps, &walker->taken, &ranges);
	for (size_t i = 0; i < ranges.count && !is_all_found(walker); i++)
		sweep(walker, &ranges.items[i]);
	tap_vector_free(&ranges);
	if (!walker->enough && walker->stats->mapped_told &&
		walker->stats->mapped_blocks != walker->stats->mapped_told)
		walker->stats->inconsistencies++;
}
