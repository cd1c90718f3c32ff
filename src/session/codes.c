/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The code objects of CPython that stacks lead through, watched by cells like
 * sampled blocks: the probe of the object domain's free notes in the cell that
 * one is gone, before its memory can be another's. One that is there still
 * need not be read with each sample. The ledger knows nothing of these cells.
 */
#include <string.h>
#include "session/sampler.h"

#define STATE_MASK UINT64_C(0xff)
#define FREE_POINT "obj.free"
/* The rest is for samples. */
#define CELLS_MAX (TAP_PROBE_CELLS / 4)

/* A cell's word is another one in each of its lives, and in each state: the
 * watch is word and index. */
static uint64_t watch_of(const struct sampler *s, uint32_t index)
{
	return atomic_load(&s->shared->cells[index].word) << TAP_PROBE_CELL_BITS | index;
}

static uint64_t begin(void *context, uint64_t addr)
{
	struct sampler *s = context;
	struct cell_info info = {.addr = addr};
	uint32_t index;

	/* A sampled block's cell does as well; one that was freed is not swept yet. */
	if (!cells_find(s, addr, &index) &&
		(s->cells_used >= CELLS_MAX || !cells_add(s, &info) || !cells_find(s, addr, &index)))
		return 0;
	if ((atomic_load(&s->shared->cells[index].word) & STATE_MASK) != TAP_PROBE_CELL_LIVE)
		return 0;
	return watch_of(s, index);
}

static bool holds(void *context, uint64_t watch)
{
	const struct sampler *s = context;

	return watch_of(s, (uint32_t)watch % TAP_PROBE_CELLS) == watch;
}

/* Does the table's pointer lead to a probe? Where it does not (another allocator
 * is in front of it, or there is no probe for it), frees may not be seen. */
static bool sees_frees(const struct sampler *s)
{
	uint64_t probes = tap_probes_private_addr(s->probes) - TAP_PROBE_PRIVATE_AT, free;

	for (size_t i = 0; i < s->rec->points.count; i++) {
		const struct tap_entry_point *point = &s->rec->points.items[i];

		if (point->how == TAP_ENTRY_TABLE && !strcmp(point->symbol, FREE_POINT))
			return tap_memory_try_u64(s->rec->memory, point->addr, &free) &&
			       free >= probes && free < probes + TAP_PROBE_CODE_BYTES;
	}
	return false;
}

void codes_watch(struct sampler *s)
{
	const struct tap_python_watch watch = {begin, holds, s};
	struct recorder *rec = s->rec;
	uint64_t generation;

	pthread_mutex_lock(&rec->lock);
	generation = rec->python && sees_frees(s) ? s->generation : 0;
	if (rec->python && generation != s->codes_generation)
		tap_python_watch(rec->python, generation ? &watch : NULL);
	s->codes_generation = generation;
	pthread_mutex_unlock(&rec->lock);
}

void codes_forget(struct sampler *s)
{
	if (s->rec->python)
		tap_python_watch(s->rec->python, NULL);
}
