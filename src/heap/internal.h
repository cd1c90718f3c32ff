/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAP_HEAP_INTERNAL_H
#define TAP_HEAP_INTERNAL_H

/* What the modules of this layer share of a glibc that was found. */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "heaptap/base/vector.h"
#include "heaptap/heap/glibc.h"
#include "heaptap/memory/window.h"
#include "heaptap/proc/maps.h"
#include "heaptap/proc/pagemap.h"

/* A chunk begins with {size of the one before if that is free, own size and
 * three flags}; the caller's memory follows. */
#define TAP_CHUNK_HEADER 16
#define TAP_CHUNK_MIN 32
#define TAP_CHUNK_IN_USE 1 /* the one before is */
#define TAP_CHUNK_MAPPED 2
#define TAP_CHUNK_NOT_MAIN 4
#define TAP_CHUNK_FLAGS 7

/* struct malloc_state: {mutex, flags, ..., fast bins to 2.42, top,
 * last_remainder, bins, binmap, next, next_free, attached_threads,
 * system_mem, max_system_mem}. Offsets from the bins. */
#define TAP_ARENA_BINS 127
#define TAP_ARENA_TOP (-16)
#define TAP_ARENA_FAST (-96)
#define TAP_ARENA_NEXT (TAP_ARENA_BINS * 16 + 16)
#define TAP_ARENA_SYSTEM (TAP_ARENA_NEXT + 24)
#define TAP_ARENA_END (TAP_ARENA_SYSTEM + 16)
#define TAP_ARENA_FAST_BINS 10
/* Where the bins begin, with and without fast bins before them. */
#define TAP_ARENA_BINS_AT 112
#define TAP_ARENA_BINS_AT_NO_FAST 24

struct tap_range {
	uint64_t start; /* inclusive */
	uint64_t end;   /* exclusive */
};
TAP_VECTOR_TYPE(tap_ranges, struct tap_range);

/* A stretch of chunks. */
struct tap_region {
	struct tap_range range; /* where the first chunk can begin; no chunk lies beyond */
	uint64_t arena;
	uint64_t head_bytes; /* of heads, right before it */
	bool main;
	bool searched; /* the break: the first chunk need not be at its start */
};
TAP_VECTOR_TYPE(tap_regions, struct tap_region);

/* How links in caches and fast bins are written: from 2.32 on masked by their
 * own address. Told by the first link that is seen. */
enum tap_links {
	TAP_LINKS_UNKNOWN,
	TAP_LINKS_PLAIN,
	TAP_LINKS_MASKED,
};

struct tap_glibc {
	struct tap_memory *memory;
	pid_t pid;
	struct tap_ranges data; /* the writable mappings of its module */
	uint64_t main_arena;
	uint32_t bins_at; /* of an arena */
};

/* One walk. */
struct tap_heap_walker {
	struct tap_glibc *glibc;
	struct tap_heap_walk *stats;
	struct tap_window window;
	struct tap_pagemap *pagemap;
	struct tap_maps maps;
	struct tap_regions regions;
	struct tap_ranges taken; /* by others, thread arenas and strays of the main one, ascending */
	TAP_VECTOR(uint64_t) arenas;
	TAP_VECTOR(uint64_t) freed; /* chunks in caches and fast bins, ascending */
	size_t freed_at;            /* the next of them that the walk can meet */
	enum tap_links links;
	size_t threads;       /* each has one cache at most; 0: unknown */
	uint64_t first_chunk; /* of the main arena; 0: unknown */
	struct tap_heap_visitor visitor;
	struct tap_heap_range unused; /* chunks without one in use between them */
	bool enough;                  /* the visitor said so */
};

static inline uint64_t tap_heap_u64(const uint8_t *bytes)
{
	uint64_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

/* Set in an address of `freed`: it is in a fast bin. */
#define TAP_FREED_FAST 1

/* Less than a page and a header gives nothing back. */
#define TAP_TRIM_LEAST 4096

/* What a chunk in a region is. */
enum tap_chunk_kind {
	TAP_CHUNK_LIVE, /* or in a cache or fast bin: those look the same */
	TAP_CHUNK_FREE,
	TAP_CHUNK_TOP,
	TAP_CHUNK_OVERHEAD, /* a mark where a region ends */
};

/* False ends the walk of the region. */
typedef bool (*tap_chunk_fn)(struct tap_heap_walker *walker, const struct tap_region *region,
	uint64_t chunk, uint64_t size_bytes, enum tap_chunk_kind kind);

/* Calls fn for every chunk of the region, ascending. noisy: what does not fit
 * goes to the statistics, and the visitor sees regions. */
void tap_chunks_walk(struct tap_heap_walker *walker, const struct tap_region *region,
	tap_chunk_fn fn, bool noisy);
/* Where a chain of chunks that begins at `from` leads: to behind the arena's
 * top or the marks that end it, or behind `limit` chunks (0: no limit). 0 where
 * there is no chain. */
uint64_t tap_chunks_follow(struct tap_heap_walker *walker, const struct tap_region *region,
	uint64_t from, size_t limit);
/* The first chain from `from` on; 0: none. */
uint64_t tap_chunks_search(
	struct tap_heap_walker *walker, const struct tap_region *region, uint64_t from);

/* What malloc_trim() would give back, from the chunks that are free or in a fast
 * bin, as they come: those without a gap between them are one. A top ends what
 * lies before it. */
void tap_trim_end(struct tap_heap_walker *walker);
static inline void tap_trim_add(
	struct tap_heap_walker *walker, uint64_t arena, uint64_t chunk, uint64_t size_bytes)
{
	struct tap_heap_range *unused = &walker->unused;

	if (chunk != unused->end) {
		if (unused->end - unused->start >= TAP_TRIM_LEAST)
			tap_trim_end(walker);
		*unused = (struct tap_heap_range){.start = chunk, .arena = arena};
	}
	unused->end = chunk + size_bytes;
}
void tap_trim_top(struct tap_heap_walker *walker, const struct tap_region *region, uint64_t chunk,
	uint64_t size_bytes);

/* Finds the main arena. */
bool tap_arena_find(struct tap_glibc *glibc);
/* Fills arenas, heaps and regions. */
void tap_arenas_read(struct tap_heap_walker *walker);
/* A word of an arena, by its offset from the bins. */
bool tap_arena_try_word(const struct tap_glibc *glibc, uint64_t arena, int offset, uint64_t *ret);

/* Fills freed. */
void tap_caches_read(struct tap_heap_walker *walker);

/* Runs of writable private anonymous memory, without the break, stacks and
 * what is in `without` (ascending). */
void tap_anonymous_ranges(
	const struct tap_maps *maps, const struct tap_ranges *without, struct tap_ranges *ret);
/* Chunks that are mappings of their own. */
void tap_mapped_walk(struct tap_heap_walker *walker);

bool tap_heap_emit_block(struct tap_heap_walker *walker, const struct tap_heap_block *block);
void tap_heap_emit_region(
	struct tap_heap_walker *walker, uint64_t start, uint64_t end, uint64_t arena);
void tap_heap_note_stop(struct tap_heap_walker *walker, uint64_t addr, const char *reason);

#endif
