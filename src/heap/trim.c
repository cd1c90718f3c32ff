/* SPDX-License-Identifier: Apache-2.0 */
/*
 * malloc_trim(0) first joins what is in fast bins with the free chunks beside
 * it. Then it gives back the whole pages of each free chunk, behind its header
 * and its links, and what the main arena has at the end of the break, but for a
 * smallest chunk and a byte (mtrim() and systrim() of malloc/malloc.c).
 */
#include "internal.h"

#define PAGE UINT64_C(4096)
#define HEAD_BYTES 48 /* struct malloc_chunk */

static void give_back(struct tap_heap_walker *walker, uint64_t start, uint64_t end, uint64_t arena)
{
	struct tap_heap_range pages = {start, end, arena};

	walker->stats->trimmable_bytes += end - start;
	if (walker->visitor.trimmable)
		walker->visitor.trimmable(walker->visitor.context, &pages);
}

void tap_trim_end(struct tap_heap_walker *walker)
{
	const struct tap_heap_range *unused = &walker->unused;
	uint64_t start = (unused->start + HEAD_BYTES + PAGE - 1) & ~(PAGE - 1);
	uint64_t end = unused->end & ~(PAGE - 1);

	if (unused->end - unused->start > HEAD_BYTES + PAGE - 1 && start < end)
		give_back(walker, start, end, unused->arena);
	walker->unused.start = walker->unused.end = 0;
}

/* Of thread arenas the top stays as it is, and so does what was joined with it. */
void tap_trim_top(struct tap_heap_walker *walker, const struct tap_region *region, uint64_t chunk,
	uint64_t size_bytes)
{
	uint64_t end = chunk + size_bytes;
	uint64_t start = walker->unused.end == chunk ? walker->unused.start : chunk;
	uint64_t extra;

	if (start == chunk)
		tap_trim_end(walker);
	walker->unused.start = walker->unused.end = 0;
	if (!region->searched || end != region->range.end || end - start <= TAP_CHUNK_MIN + 1)
		return;
	extra = (end - start - TAP_CHUNK_MIN - 1) & ~(PAGE - 1);
	if (extra)
		give_back(walker, end - extra, end, region->arena);
}
