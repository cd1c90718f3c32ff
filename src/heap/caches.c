/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that were freed and look as if they were in use. Fast bins hang in
 * their arena. A thread's cache hangs in thread-local storage, but is itself a
 * block of the heap, of a size that tells its layout, and proves itself: its
 * lists hold blocks of the right sizes, as many as their counts say.
 */
#include <stdlib.h>
#include "heaptap/proc/tasks.h"
#include "internal.h"

#define BINS 64
#define BINS_MAX 76
#define LIST_MAX 65536
#define CACHE_BYTES (BINS_MAX * 10)

/* struct tcache_perthread_struct: {counts, heads of lists}. */
struct cache_layout {
	uint32_t chunk_bytes;
	uint8_t count_bytes;
	uint8_t bins;
	bool slots; /* the counts are of what still has room */
};

static const struct cache_layout layouts[] = {
	{0x250, 1, BINS, false},    /* 2.26 to 2.29 */
	{0x290, 2, BINS, false},    /* 2.30 to 2.41 */
	{0x300, 2, BINS_MAX, true}, /* from 2.42 on: the last 12 for large ones */
};

/* Where a link leads that is written at `at`. */
static uint64_t follow(const struct tap_heap_walker *walker, uint64_t at, uint64_t link)
{
	return walker->links == TAP_LINKS_MASKED ? link ^ at >> 12 : link;
}

static bool read_links(struct tap_heap_walker *walker, uint64_t chunk, uint64_t size_bytes,
	uint64_t limit, uint64_t tag, uint64_t *count_ret)
{
	uint64_t words[3], size; /* size of the one before, own, link */
	uint64_t mark = 0, next_mark = 1;

	*count_ret = 0;
	while (chunk) {
		/* A circle comes back to a mark that is moved on at every power of two. */
		if (*count_ret == next_mark) {
			mark = chunk;
			next_mark *= 2;
		} else if (chunk == mark) {
			return false;
		}
		if (*count_ret >= limit || (chunk & 15) ||
			!tap_memory_try_read(walker->glibc->memory, chunk, words, sizeof(words)))
			return false;
		size = words[1] & ~(uint64_t)TAP_CHUNK_FLAGS;
		if (size_bytes ? size != size_bytes : size <= TAP_CHUNK_MIN + 16 * (BINS - 1))
			return false;
		tap_vector_push(&walker->freed, chunk | tag);
		++*count_ret;
		chunk = follow(walker, chunk + TAP_CHUNK_HEADER, words[2]);
		/* Blocks in caches are linked to what their callers had. */
		if (chunk && !tag)
			chunk -= TAP_CHUNK_HEADER;
	}
	return true;
}

/* Walks a list of chunks of one size (0: any large one). False where one is
 * not what it should be; *count_ret: how many were added to `freed`. How links
 * are written is not known before the first list: it ends well one way alone,
 * as a masked end is not 0. */
static bool read_list(struct tap_heap_walker *walker, uint64_t chunk, uint64_t size_bytes,
	uint64_t limit, uint64_t tag, uint64_t *count_ret)
{
	static const enum tap_links ways[] = {TAP_LINKS_MASKED, TAP_LINKS_PLAIN};
	size_t before = walker->freed.count;

	*count_ret = 0;
	if (!chunk)
		return true;
	if (walker->links != TAP_LINKS_UNKNOWN)
		return read_links(walker, chunk, size_bytes, limit, tag, count_ret);
	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		walker->links = ways[i];
		if (read_links(walker, chunk, size_bytes, limit, tag, count_ret))
			return true;
		walker->freed.count = before;
	}
	walker->links = TAP_LINKS_UNKNOWN;
	return false;
}

static uint64_t count_of(const struct cache_layout *layout, const uint8_t *cache, unsigned bin)
{
	return layout->count_bytes == 1
		       ? cache[bin]
		       : (uint64_t)cache[2 * bin] | (uint64_t)cache[2 * bin + 1] << 8;
}

struct cache_sums {
	uint64_t blocks;
	uint64_t capacity; /* of each list, where slots are counted */
	unsigned odd;      /* lists whose count is another by one */
};

static bool read_bin(struct tap_heap_walker *walker, const struct cache_layout *layout,
	const uint8_t *cache, unsigned bin, struct cache_sums *sums)
{
	uint64_t head = tap_heap_u64(cache + layout->bins * layout->count_bytes + 8 * bin);
	uint64_t told = count_of(layout, cache, bin), count = 0;
	uint64_t size = bin < BINS ? TAP_CHUNK_MIN + 16 * bin : 0;
	uint64_t limit = layout->slots ? LIST_MAX : told + 1;

	if (head && !read_list(walker, head - TAP_CHUNK_HEADER, size, limit, 0, &count))
		return false;
	sums->blocks += count;
	if (layout->slots && bin >= BINS)
		return true; /* these may have another capacity */
	if (layout->slots) {
		/* Room and blocks are as many in each list. */
		if (!bin)
			sums->capacity = told + count;
		told = sums->capacity - told;
	}
	if (told != count)
		sums->odd++;
	return told + 1 >= count && count + 1 >= told;
}

/* A thread that was stopped between a list and its count leaves the two apart:
 * in one list (which, where it is the first, makes all others look odd). */
static bool read_cache(struct tap_heap_walker *walker, const struct cache_layout *layout,
	const uint8_t *cache, uint64_t *blocks_ret)
{
	struct cache_sums sums = {0};
	bool is_odd;

	for (unsigned bin = 0; bin < layout->bins; bin++)
		if (!read_bin(walker, layout, cache, bin, &sums))
			return false;
	is_odd = sums.odd == 1 || (layout->slots && sums.odd == BINS - 1);
	if (is_odd && sums.blocks)
		walker->stats->inconsistencies++;
	*blocks_ret = sums.blocks;
	return is_odd || !sums.odd;
}

static bool look_for_cache(struct tap_heap_walker *walker, const struct tap_region *region,
	uint64_t chunk, uint64_t size_bytes, enum tap_chunk_kind kind)
{
	uint8_t cache[CACHE_BYTES];
	size_t before = walker->freed.count;
	enum tap_links links = walker->links;
	uint64_t blocks;

	(void)region;
	if (kind != TAP_CHUNK_LIVE || size_bytes < 0x250 || size_bytes > 0x310)
		return true;
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
		/* 16 bytes more where what was left over was too small for a chunk. */
		if (size_bytes != layouts[i].chunk_bytes &&
			size_bytes != layouts[i].chunk_bytes + 16)
			continue;
		if (!tap_memory_try_read(walker->glibc->memory, chunk + TAP_CHUNK_HEADER, cache,
			    (size_t)layouts[i].bins * (layouts[i].count_bytes + 8u)))
			continue;
		if (!read_cache(walker, &layouts[i], cache, &blocks)) {
			walker->freed.count = before;
			walker->links = links;
		} else if (blocks) {
			walker->stats->caches++;
		}
	}
	return !walker->threads || walker->stats->caches < walker->threads;
}

static void read_fast_bins(struct tap_heap_walker *walker, uint64_t arena)
{
	const struct tap_glibc *glibc = walker->glibc;
	uint64_t heads[TAP_ARENA_FAST_BINS], count, system = 0;

	if (glibc->bins_at != TAP_ARENA_BINS_AT)
		return;
	tap_arena_try_word(glibc, arena, TAP_ARENA_SYSTEM, &system);
	if (!tap_memory_try_read(glibc->memory, arena + glibc->bins_at + (uint64_t)TAP_ARENA_FAST,
		    heads, sizeof(heads)))
		return;
	for (unsigned i = 0; i < TAP_ARENA_FAST_BINS; i++) {
		if (!read_list(walker, heads[i], TAP_CHUNK_MIN + 16 * i, system / TAP_CHUNK_MIN,
			    TAP_FREED_FAST, &count))
			walker->stats->inconsistencies++;
	}
}

static int by_address(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* A block that is in two lists was freed twice. */
static void sort_freed(struct tap_heap_walker *walker)
{
	size_t kept = 0;

	if (!walker->freed.count)
		return;
	qsort(walker->freed.items, walker->freed.count, sizeof(uint64_t), by_address);
	for (size_t i = 1; i < walker->freed.count; i++) {
		if ((walker->freed.items[i] ^ walker->freed.items[kept]) > TAP_FREED_FAST)
			walker->freed.items[++kept] = walker->freed.items[i];
		else
			walker->stats->inconsistencies++;
	}
	walker->freed.count = kept + 1;
}

void tap_caches_read(struct tap_heap_walker *walker)
{
	_cleanup_error_ struct tap_error *err = NULL;
	pid_t *tids = NULL;

	err = tap_tasks_ids(walker->glibc->pid, &tids, &walker->threads);
	if (err)
		walker->threads = 0;
	free(tids);
	for (size_t i = 0; i < walker->regions.count; i++) {
		if (walker->threads && walker->stats->caches >= walker->threads)
			break;
		tap_chunks_walk(walker, &walker->regions.items[i], look_for_cache, false);
	}
	for (size_t i = 0; i < walker->arenas.count; i++)
		read_fast_bins(walker, walker->arenas.items[i]);
	sort_freed(walker);
}
