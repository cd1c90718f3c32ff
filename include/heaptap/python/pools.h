/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PYTHON_POOLS_H
#define HEAPTAP_PYTHON_POOLS_H

/*
 * Every block that pymalloc has handed out, block by block, from outside. Its
 * pools are known by their headers, which check themselves, in anonymous
 * memory: no symbol is needed, and the pools of all interpreters are found.
 * What is larger than 512 bytes is not pymalloc's: it lies in the C heap.
 *
 * Exact where the process stands still: in each pool the blocks found are as
 * many as its header says. Where it runs, the pools that change meanwhile are
 * counted. What is read is untrusted.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/base/error.h"
#include "heaptap/proc/maps.h"
#include "heaptap/python/python.h"

struct tap_pool_walk {
	uint64_t pools; /* that hold a block */
	uint64_t blocks;
	uint64_t bytes;       /* of the blocks' size classes */
	uint64_t free_blocks; /* in those pools: freed, or never handed out */
	uint64_t free_bytes;
	uint64_t empty_pools;   /* that held blocks once */
	uint64_t arenas;        /* mappings that pools are cut from: those without a block are given
	                       * back by pymalloc */
	uint64_t pinned_arenas; /* of which at most a tenth is in use */
	uint64_t pinned_free_bytes; /* in the pools of those: what few blocks keep */
	uint64_t mismatches; /* pools whose count is another, or whose free list is broken: the
	                       * blocks of the latter are left out */
};

/* block_bytes: of the size class, 16 to 512. False: enough, the walk ends. */
typedef bool (*tap_pool_block_fn)(void *context, uint64_t addr, uint32_t block_bytes);

/* One that holds together. Its live_bytes are the blocks that follow it; all else
 * in it, its header as well, is free. */
struct tap_pool {
	uint64_t addr;
	uint32_t size_bytes;
	uint32_t block_bytes;
	uint32_t live_bytes; /* 0: it is empty */
};

/* Who sees a walk. What is not wanted is NULL. */
struct tap_pool_visitor {
	void *context;
	tap_pool_block_fn block;
	void (*pool)(void *context, const struct tap_pool *pool); /* before its blocks */
};

/* Calls fn for every block, in address order. Nothing is kept. maps: of the
 * process, new enough. Pages that were never touched are not read. UNSUPPORTED
 * where the runtime has no layout; no pool is found under PYTHONMALLOC=malloc. */
struct tap_error *tap_python_pools_walk(struct tap_python *python, pid_t pid,
	const struct tap_maps *maps, tap_pool_block_fn fn, void *context,
	struct tap_pool_walk *walk_ret);
struct tap_error *tap_python_pools_visit(struct tap_python *python, pid_t pid,
	const struct tap_maps *maps, const struct tap_pool_visitor *visitor,
	struct tap_pool_walk *walk_ret);

#endif
