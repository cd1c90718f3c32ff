/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main arena is a static variable without a name in a stripped library.
 * Its bins are 127 list heads in a row, each laid out as if it were a chunk 16
 * bytes before it: an empty one holds that address twice. The last of them is
 * never used, so that there always is one to begin with.
 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "internal.h"

#define DATA_MAX_BYTES (UINT64_C(16) << 20)
#define ARENAS_MAX 8192

struct piece {
	struct tap_memory *memory;
	const uint8_t *bytes;
	uint64_t addr;
	size_t size_bytes;
};

static bool is_empty_bin(const struct piece *piece, size_t offset)
{
	uint64_t self = piece->addr + offset - 16;

	return tap_heap_u64(piece->bytes + offset) == self &&
	       tap_heap_u64(piece->bytes + offset + 8) == self;
}

/* Also one with chunks in it: the first and the last of them point back. */
static bool is_bin(const struct piece *piece, size_t offset)
{
	uint64_t first = tap_heap_u64(piece->bytes + offset);
	uint64_t last = tap_heap_u64(piece->bytes + offset + 8);
	uint64_t self = piece->addr + offset - 16, back, forth;

	if (is_empty_bin(piece, offset))
		return true;
	if (!first || !last || (first & 15) || (last & 15))
		return false;
	return tap_memory_try_u64(piece->memory, first + 24, &back) && back == self &&
	       tap_memory_try_u64(piece->memory, last + 16, &forth) && forth == self;
}

/* The offset of the first of the bins that surround an empty one; SIZE_MAX
 * where there are not 127 of them. */
static size_t first_bin(const struct piece *piece, size_t offset)
{
	size_t first = offset, end = offset + 16;

	while (end - first <= TAP_ARENA_BINS * 16 && first >= 16 && is_bin(piece, first - 16))
		first -= 16;
	while (end - first <= TAP_ARENA_BINS * 16 && end + 16 <= piece->size_bytes &&
		is_bin(piece, end))
		end += 16;
	return end - first == TAP_ARENA_BINS * 16 ? first : SIZE_MAX;
}

bool tap_arena_try_word(const struct tap_glibc *glibc, uint64_t arena, int offset, uint64_t *ret)
{
	return tap_memory_try_u64(
		glibc->memory, arena + glibc->bins_at + (uint64_t)(int64_t)offset, ret);
}

/* The arenas' ring closes on the right address alone, which tells where the
 * structure begins. */
static bool ring_closes(const struct tap_glibc *glibc, uint64_t arena)
{
	uint64_t at = arena;

	for (int i = 0; i < ARENAS_MAX; i++) {
		if (!tap_arena_try_word(glibc, at, TAP_ARENA_NEXT, &at) || !at)
			return false;
		if (at == arena)
			return true;
	}
	return false;
}

static bool sizes_add_up(const struct tap_glibc *glibc, uint64_t arena)
{
	uint64_t top, size, system, most;

	if (!tap_arena_try_word(glibc, arena, TAP_ARENA_TOP, &top) ||
		!tap_arena_try_word(glibc, arena, TAP_ARENA_SYSTEM, &system) ||
		!tap_arena_try_word(glibc, arena, TAP_ARENA_SYSTEM + 8, &most))
		return false;
	/* Nothing was taken from the system yet: top is the first bin. */
	if (top == arena + glibc->bins_at - 16)
		return true;
	return system <= most && tap_memory_try_u64(glibc->memory, top + 8, &size) &&
	       (size & ~UINT64_C(7)) <= system;
}

static bool believe(struct tap_glibc *glibc, uint64_t bins)
{
	static const uint32_t heads[] = {TAP_ARENA_BINS_AT, TAP_ARENA_BINS_AT_NO_FAST};

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		glibc->bins_at = heads[i];
		glibc->main_arena = bins - heads[i];
		if (ring_closes(glibc, glibc->main_arena) && sizes_add_up(glibc, glibc->main_arena))
			return true;
	}
	glibc->main_arena = 0;
	return false;
}

static bool search(struct tap_glibc *glibc, const struct piece *piece)
{
	for (size_t offset = 0; offset + 16 <= piece->size_bytes; offset += 8) {
		size_t first;

		if (!is_empty_bin(piece, offset))
			continue;
		first = first_bin(piece, offset);
		if (first != SIZE_MAX && believe(glibc, piece->addr + first))
			return true;
		/* What was just looked at is not looked at from each of its bins. */
		if (first == SIZE_MAX)
			while (offset + 32 <= piece->size_bytes && is_bin(piece, offset + 16))
				offset += 16;
	}
	return false;
}

bool tap_arena_find(struct tap_glibc *glibc)
{
	for (size_t i = 0; i < glibc->data.count; i++) {
		const struct tap_range *range = &glibc->data.items[i];
		uint64_t size = range->end - range->start;
		struct piece piece = {.memory = glibc->memory, .addr = range->start};
		uint8_t *bytes;
		bool found;

		if (size > DATA_MAX_BYTES)
			size = DATA_MAX_BYTES;
		bytes = tap_realloc(NULL, size);
		piece.bytes = bytes;
		piece.size_bytes = tap_memory_read_some(glibc->memory, range->start, bytes, size);
		found = search(glibc, &piece);
		free(bytes);
		if (found)
			return true;
	}
	return false;
}
