/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_HEAP_GLIBC_H
#define HEAPTAP_HEAP_GLIBC_H

/*
 * The heap of glibc's malloc in another process: every block that is handed
 * out, block by block, from outside. Needs no symbols and no version: an arena
 * is known by its bins, 127 list heads in a row of which the empty ones point
 * to themselves, and what lies before and behind them is believed only if it
 * holds (the ring of arenas closes, each thread arena is named by its own
 * heap). Layouts as in malloc/malloc.c and malloc/arena.c of 2.26 to 2.43,
 * x86-64, shared and static alike.
 *
 * A block is live if the chunk behind it says so and it lies in no thread's
 * cache (tcache) and in no fast bin. Thread caches are found as what they are
 * made of, a block of the heap: nothing of the threads is needed.
 *
 * The result is exact where the process stands still. Where it runs, the walk
 * ends all the same and the statistics say what did not fit together. What is
 * read is untrusted: a damaged heap is walked as far as it goes.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/base/error.h"
#include "heaptap/base/vector.h"
#include "heaptap/memory/memory.h"
#include "heaptap/symbol/symbols.h"

struct tap_glibc;

struct tap_heap_block {
	uint64_t addr;         /* what malloc() returned */
	uint64_t usable_bytes; /* malloc_usable_size() */
	uint64_t chunk_bytes;  /* what it takes of the heap, its header included */
	uint64_t lead_bytes;   /* of these: what lies before addr */
	uint64_t arena;        /* address of its arena; 0: mapped on its own */
};

/* What is no live block. Together they fill the regions. */
enum tap_heap_free_kind {
	TAP_HEAP_FREE, /* in a bin */
	TAP_HEAP_TOP,  /* the rest at the end of an arena */
	TAP_HEAP_FAST,
	TAP_HEAP_CACHED,   /* by a thread; "in use" to malloc_info() */
	TAP_HEAP_OVERHEAD, /* heads of arenas and heaps, marks at their ends */
};

struct tap_heap_free {
	uint64_t addr; /* of its header */
	uint64_t size_bytes;
	uint64_t arena;
	enum tap_heap_free_kind kind;
};

struct tap_heap_range {
	uint64_t start; /* inclusive */
	uint64_t end;   /* exclusive */
	uint64_t arena; /* 0: a block that is mapped on its own */
};

TAP_VECTOR_TYPE(tap_heap_ranges, struct tap_heap_range);

/* Puts [start, end) behind those that are there, which end before it. */
static inline void tap_heap_ranges_add(struct tap_heap_ranges *ranges, uint64_t start, uint64_t end)
{
	if (ranges->count && ranges->items[ranges->count - 1].end == start)
		ranges->items[ranges->count - 1].end = end;
	else
		tap_vector_push(ranges, ((struct tap_heap_range){.start = start, .end = end}));
}

struct tap_heap_walk {
	uint64_t live_blocks;
	uint64_t live_bytes;    /* of chunks, mapped ones included */
	uint64_t mapped_blocks; /* of the live ones: mapped on their own */
	uint64_t mapped_bytes;
	uint64_t cached_blocks; /* freed, in a thread's cache; "in use" to mallinfo() */
	uint64_t cached_bytes;
	uint64_t fast_blocks; /* freed, in a fast bin */
	uint64_t fast_bytes;
	uint64_t free_blocks; /* in the other bins, and the rest at the end of each arena */
	uint64_t free_bytes;
	uint64_t trimmable_bytes; /* of the free: what malloc_trim(0) would give back, whether it is
	                           * in memory or not */
	uint64_t overhead_bytes;  /* heads of arenas and heaps, marks at their ends */
	uint64_t system_bytes;    /* what the arenas say they took; the sum of the above but for
	                           * the mapped, where nobody else moved the break */
	uint32_t mapped_told;     /* how many glibc says it mapped; 0 where that was not found */
	uint32_t arenas;
	uint32_t heaps;           /* of thread arenas */
	uint32_t caches;          /* of threads, those that hold anything */
	uint32_t inconsistencies; /* two places that should say the same and do not */
	uint32_t stops;           /* regions that could not be walked to their end */
	uint64_t stop_addr;       /* of the first of them, */
	const char *stop_reason;  /* and why; NULL: none */
};

/* False: enough, the walk ends. */
typedef bool (*tap_heap_block_fn)(void *context, const struct tap_heap_block *block);

/* Who sees a walk. What is not wanted is NULL. */
struct tap_heap_visitor {
	void *context;
	/* Memory of another allocator, pymalloc's pools for one, ascending: a block that
	 * glibc has mapped on its own is known by two words in front of it alone, and a
	 * number in an object can look like them. */
	const struct tap_heap_ranges *others;
	tap_heap_block_fn block;
	void (*free)(void *context, const struct tap_heap_free *piece);
	/* A stretch whose every byte was seen, by the two above; it follows them.
	 * What could not be walked is in none. */
	void (*region)(void *context, const struct tap_heap_range *region);
	/* Whole pages that malloc_trim(0) would give back: in free chunks, as they
	 * are when fast bins were emptied into them (mtrim() of malloc/malloc.c),
	 * and at the end of the break (systrim()). */
	void (*trimmable)(void *context, const struct tap_heap_range *pages);
};

/* NOT_FOUND where there is no glibc, or nobody has called its malloc yet.
 * memory must outlive it; symbols are used during the call alone. */
struct tap_error *tap_glibc_open(
	struct tap_symbols *symbols, struct tap_memory *memory, pid_t pid, struct tap_glibc **ret);
void tap_glibc_close(struct tap_glibc *glibc); /* takes NULL */

/* Calls fn for every live block, in no order, once each. It keeps the
 * addresses in fast bins and thread caches, nothing else. Fast bins are
 * followed link by link: turn the memory's cache on where the process stands
 * still. Pages of other mappings that were never touched are not read, so that
 * the process does not grow. */
struct tap_error *tap_glibc_walk(struct tap_glibc *glibc, tap_heap_block_fn fn, void *context,
	struct tap_heap_walk *walk_ret);
/* The same, and all that is no live block. Addresses ascend within a region. */
struct tap_error *tap_glibc_visit(struct tap_glibc *glibc, const struct tap_heap_visitor *visitor,
	struct tap_heap_walk *walk_ret);

/* The main arena itself, in the data of its module: its words are addresses of
 * free chunks, and what lies right before one of those is no more held by them
 * than by chance. */
void tap_glibc_main_arena(const struct tap_glibc *glibc, struct tap_heap_range *ret);

static inline void tap_glibc_cleanup(struct tap_glibc **glibc)
{
	tap_glibc_close(*glibc);
}
#define _cleanup_glibc_ __attribute__((cleanup(tap_glibc_cleanup)))

#endif
