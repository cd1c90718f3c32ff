/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "source.h"

#define PAGES (TAP_CACHE_PIECE / TAP_CACHE_PAGE)
#define KEPT_PIECES 32
#define ALL_PAGES ((1u << PAGES) - 1)

static struct tap_memory_piece *find(struct tap_memory_cache *cache, uint64_t addr)
{
	uint64_t *slot = tap_map_find(&cache->by_addr, addr);

	return slot ? (struct tap_memory_piece *)*slot : NULL;
}

/* An empty piece for addr; the one that was made first gives way. */
static struct tap_memory_piece *make(struct tap_memory_cache *cache, uint64_t addr)
{
	struct tap_memory_piece *piece;

	if (cache->count < TAP_CACHE_PIECES) {
		/* Not zeroed: only pages that are marked readable are looked at. */
		if (cache->count == cache->made)
			cache->pieces[cache->made++] = tap_realloc(NULL, sizeof(*piece));
		piece = cache->pieces[cache->count++];
	} else {
		piece = cache->pieces[cache->oldest];
		cache->oldest = (cache->oldest + 1) % TAP_CACHE_PIECES;
		tap_map_remove(&cache->by_addr, piece->addr, NULL);
	}
	piece->addr = addr;
	piece->known = piece->readable = 0;
	*tap_map_put(&cache->by_addr, addr, NULL) = (uint64_t)piece;
	return piece;
}

/* Reads pages [first, last] up to a hole; the page after the last it read. */
static unsigned fill(
	struct tap_memory *memory, struct tap_memory_piece *piece, unsigned first, unsigned last)
{
	size_t at = (size_t)first * TAP_CACHE_PAGE;
	size_t got = tap_source_read(memory, piece->addr + at, piece->bytes + at,
		(size_t)(last - first + 1) * TAP_CACHE_PAGE);
	unsigned end = first + (unsigned)(got / TAP_CACHE_PAGE);

	for (unsigned i = first; i < end; i++)
		piece->readable |= (uint16_t)(1u << i);
	for (unsigned i = first; i <= end && i <= last; i++)
		piece->known |= (uint16_t)(1u << i);
	return end;
}

/* A reader goes no further than the first hole, and neither does this: the end
 * of a stack is read beyond with every stack. */
static void fill_unknown(
	struct tap_memory *memory, struct tap_memory_piece *piece, unsigned first, unsigned last)
{
	while (first <= last && (piece->readable & (1u << first)))
		first++;
	if (first <= last && !(piece->known & (1u << first)))
		fill(memory, piece, first, last);
}

static void fill_whole(struct tap_memory *memory, struct tap_memory_piece *piece)
{
	piece->known = piece->readable = 0;
	for (unsigned at = 0; at < PAGES; at++)
		at = fill(memory, piece, at, PAGES - 1);
}

/* The first look at a piece reads the pages it needs, the second the rest:
 * pointers that lead anywhere stay cheap, walks get large reads. */
static struct tap_memory_piece *piece_with(
	struct tap_memory *memory, uint64_t addr, unsigned first, unsigned last)
{
	struct tap_memory_piece *piece = find(memory->cache, addr);
	unsigned wanted = (ALL_PAGES << first) & (ALL_PAGES >> (PAGES - 1 - last));

	if (!piece) {
		piece = make(memory->cache, addr);
		fill(memory, piece, first, last);
	} else if ((piece->known & wanted) == wanted) {
		return piece;
	} else if (memory->cached == TAP_MEMORY_CACHE_PAGES) {
		fill_unknown(memory, piece, first, last);
	} else {
		fill_whole(memory, piece);
	}
	return piece;
}

/* A page that is not readable as a whole can still have bytes where an image's
 * regions do not end at a page. */
static size_t copy_page(struct tap_memory *memory, const struct tap_memory_piece *piece,
	size_t at, uint8_t *buf, size_t size_bytes)
{
	if (!(piece->readable & (1u << (at / TAP_CACHE_PAGE))))
		return memory->fd < 0 ?
			tap_source_read(memory, piece->addr + at, buf, size_bytes) :
			0;
	memcpy(buf, piece->bytes + at, size_bytes);
	return size_bytes;
}

size_t tap_cache_read(struct tap_memory *memory, uint64_t addr, void *buf, size_t size_bytes)
{
	size_t done = 0;

	if (size_bytes >= TAP_CACHE_PIECE)
		return tap_source_read(memory, addr, buf, size_bytes);
	while (done < size_bytes) {
		uint64_t base = (addr + done) & ~(uint64_t)(TAP_CACHE_PIECE - 1);
		size_t at = (size_t)(addr + done - base);
		size_t end = at + (size_bytes - done);
		const struct tap_memory_piece *piece;

		if (end > TAP_CACHE_PIECE)
			end = TAP_CACHE_PIECE;
		piece = piece_with(memory, base, (unsigned)(at / TAP_CACHE_PAGE),
			(unsigned)((end - 1) / TAP_CACHE_PAGE));
		while (at < end) {
			size_t room = TAP_CACHE_PAGE - at % TAP_CACHE_PAGE;
			size_t n = room < end - at ? room : end - at;
			size_t got = copy_page(memory, piece, at, (uint8_t *)buf + done, n);

			done += got;
			at += got;
			if (got < n)
				return done;
		}
	}
	return done;
}

void tap_cache_forget(struct tap_memory_cache *cache, uint64_t addr, size_t size_bytes)
{
	for (size_t i = 0; i < cache->count; i++) {
		struct tap_memory_piece *piece = cache->pieces[i];

		if (piece->addr + TAP_CACHE_PIECE > addr && piece->addr < addr + size_bytes)
			piece->known = piece->readable = 0;
	}
}

void tap_cache_empty(struct tap_memory_cache *cache)
{
	while (cache->made > KEPT_PIECES)
		free(cache->pieces[--cache->made]);
	cache->count = cache->oldest = 0;
	tap_map_clear(&cache->by_addr);
}

void tap_cache_destroy(struct tap_memory_cache *cache)
{
	if (!cache)
		return;
	for (size_t i = 0; i < cache->made; i++)
		free(cache->pieces[i]);
	tap_map_deinit(&cache->by_addr);
	free(cache);
}
