/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <string.h>
#include <time.h>
#include "heaptap/base/clock.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/log.h"
#include "heaptap/heap/glibc.h"
#include "heaptap/proc/maps.h"
#include "heaptap/python/pools.h"
#include "session/sampler.h"

/* How many old blocks are watched at most; where there are more, a Poisson
 * sample of their bytes is. */
#define SEEDS_MAX 100000.0
/* A heap that changes meanwhile may look broken: it is looked at again, for so
 * long. */
#define LOOK_NS UINT64_C(300000000)
#define PAUSE_NS 20000000

struct walk {
	struct sampler *s;
	double interval_bytes; /* 0: every block */
	double left;           /* to the next one */
	bool counting;
	double blocks, bytes;
	struct tap_heap_ranges pools;
};

static bool is_chosen(struct walk *walk, uint64_t size_bytes)
{
	if (walk->interval_bytes <= 0)
		return true;
	walk->left -= (double)size_bytes;
	if (walk->left > 0)
		return false;
	/* Several points in one large block are one block all the same. */
	while (walk->left <= 0)
		walk->left += (double)control_draw(&walk->s->random, walk->interval_bytes);
	return true;
}

static void visit(struct walk *walk, uint64_t addr, uint64_t usable_bytes, bool pooled)
{
	struct cell_info info = {.addr = addr, .old = true, .usable_bytes = usable_bytes};

	if (walk->counting) {
		walk->blocks++;
		walk->bytes += (double)usable_bytes;
		return;
	}
	if (!is_chosen(walk, usable_bytes))
		return;
	info.weight = walk->interval_bytes > 0 ?
		-1 / expm1(-(double)usable_bytes / walk->interval_bytes) :
		1;
	info.size_class = pooled ? block_class_of_pool((uint32_t)usable_bytes) :
				   block_class_of_chunk(usable_bytes);
	cells_add(walk->s, &info);
}

static bool on_chunk(void *context, const struct tap_heap_block *block)
{
	visit(context, block->addr, block->usable_bytes, false);
	return true;
}

static bool on_pool_block(void *context, uint64_t addr, uint32_t size_bytes)
{
	visit(context, addr, size_bytes, true);
	return true;
}

static void on_pool(void *context, const struct tap_pool *pool)
{
	struct walk *walk = context;

	tap_heap_ranges_add(&walk->pools, pool->addr, pool->addr + pool->size_bytes);
}

/* False: it was not walked to its end. */
static bool walk_all(struct walk *walk, struct tap_glibc *glibc, const struct tap_maps *maps)
{
	struct recorder *rec = walk->s->rec;
	_cleanup_error_ struct tap_error *err = NULL;
	const struct tap_pool_visitor on_pools = {
		.context = walk, .block = on_pool_block, .pool = on_pool};
	const struct tap_heap_visitor on_chunks = {
		.context = walk, .others = &walk->pools, .block = on_chunk};
	struct tap_heap_walk chunks = {0};
	struct tap_pool_walk pools;

	walk->pools.count = 0;
	if (rec->python && tap_python_info(rec->python)->supported)
		err = tap_python_pools_visit(rec->python, rec->pid, maps, &on_pools, &pools);
	if (!err && glibc)
		err = tap_glibc_visit(glibc, &on_chunks, &chunks);
	return !err && !chunks.stops;
}

/* Opens the heap and counts what is there. False: something of it was not found,
 * which another look may. */
static bool count(struct walk *walk, struct tap_maps *maps, struct tap_glibc **glibc_ret)
{
	struct recorder *rec = walk->s->rec;
	_cleanup_error_ struct tap_error *err = tap_maps_read(rec->pid, maps);

	if (!err && rec->glibc)
		err = tap_glibc_open(rec->symbols, rec->memory, rec->pid, glibc_ret);
	if (err)
		tap_log_detail("blocks from before the start: %s", err->message);
	walk->blocks = walk->bytes = 0;
	return walk_all(walk, *glibc_ret, maps) && !err;
}

/* The break was moved: malloc has been called. */
static bool has_heap(const struct tap_maps *maps)
{
	for (size_t i = 0; i < maps->count; i++)
		if (!strcmp(maps->items[i].path, "[heap]"))
			return true;
	return false;
}

void seeding_watch_old_blocks(struct sampler *s)
{
	struct recorder *rec = s->rec;
	struct tap_glibc *glibc = NULL;
	struct walk walk = {.s = s, .counting = true};
	struct tap_maps maps = {0};
	uint64_t began = tap_clock_ns();

	while (!count(&walk, &maps, &glibc) && tap_clock_ns() - began < LOOK_NS) {
		struct timespec pause = {0, PAUSE_NS};

		tap_glibc_close(glibc);
		glibc = NULL;
		tap_maps_deinit(&maps);
		nanosleep(&pause, NULL);
	}
	walk.counting = false;
	if (walk.blocks > SEEDS_MAX)
		walk.interval_bytes = walk.bytes / SEEDS_MAX;
	walk.left = walk.interval_bytes > 0 ? (double)control_draw(&s->random, walk.interval_bytes) : 0;
	walk_all(&walk, glibc, &maps);
	rec->old_unknown = !glibc && (!rec->glibc || has_heap(&maps));
	tap_glibc_close(glibc);
	tap_maps_deinit(&maps);
	tap_vector_free(&walk.pools);
	tap_log_detail("%.0f blocks from before the start, %.0f MiB, %s watched", walk.blocks,
		walk.bytes / 0x1p20, walk.interval_bytes > 0 ? "a sample of them" : "all of them");
}
