/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "session/sampler.h"

#define STATE_BITS 8
#define STATE_MASK UINT64_C(0xff)

void cells_init(struct sampler *s)
{
	s->cells = tap_alloc(TAP_PROBE_CELLS * sizeof(*s->cells));
	s->marks = tap_alloc((1u << TAP_PROBE_FILTER_BITS) * sizeof(*s->marks));
}

void cells_deinit(struct sampler *s)
{
	free(s->cells);
	free(s->marks);
}

/* What the filter does not hold itself: how many watched blocks have an index,
 * and all their tags, so that the last one's is known again. */
static void mark(struct sampler *s, uint64_t addr, bool on)
{
	uint64_t index = tap_probe_filter_index(addr);
	struct cell_mark *mark = &s->marks[index];

	mark->tags ^= tap_probe_filter_tag(addr);
	mark->blocks += on ? 1 : UINT32_MAX;
	atomic_store(&s->shared->filter[index],
		mark->blocks > 1 ? (uint8_t)TAP_PROBE_TAG_SEVERAL : mark->tags);
}

bool cells_find(const struct sampler *s, uint64_t addr, uint32_t *index_ret)
{
	for (uint32_t i = 0; i < TAP_PROBE_CELL_REACH; i++) {
		*index_ret = (tap_probe_cell_home(addr) + i) % TAP_PROBE_CELLS;
		if (s->cells[*index_ret].used && s->cells[*index_ret].addr == addr)
			return true;
	}
	return false;
}

static void set_word(struct sampler *s, uint32_t index, enum tap_probe_cell_state state)
{
	struct tap_probe_cell *cell = &s->shared->cells[index];

	/* Each life of a cell has a number of its own. */
	atomic_store(&cell->word, ((atomic_load(&cell->word) >> STATE_BITS) + 1) << STATE_BITS | state);
}

bool cells_add(struct sampler *s, const struct cell_info *info)
{
	for (uint32_t i = 0; i < TAP_PROBE_CELL_REACH; i++) {
		uint32_t index = (tap_probe_cell_home(info->addr) + i) % TAP_PROBE_CELLS;

		if (s->cells[index].used)
			continue;
		s->cells[index] = *info;
		s->cells[index].used = true;
		s->cells_used++;
		atomic_store(&s->shared->cells[index].addr, info->addr);
		set_word(s, index, TAP_PROBE_CELL_LIVE);
		mark(s, info->addr, true);
		return true;
	}
	s->full++;
	return false;
}

static void drop(struct sampler *s, uint32_t index)
{
	set_word(s, index, TAP_PROBE_CELL_EMPTY);
	mark(s, s->cells[index].addr, false);
	s->cells[index].used = false;
	s->cells_used--;
}

bool cells_take(struct sampler *s, uint64_t addr, struct cell_info *ret)
{
	uint32_t index;

	if (!cells_find(s, addr, &index))
		return false;
	*ret = s->cells[index];
	drop(s, index);
	return true;
}

static void tell_ledger(struct sampler *s, const struct cell_info *info)
{
	struct tap_ledger_block block;

	if (info->old)
		tap_ledger_free_unseen(
			s->rec->ledger, info->size_class, info->usable_bytes, info->weight);
	else if (tap_ledger_take(s->rec->ledger, info->addr, &block))
		tap_ledger_freed(s->rec->ledger, &block);
}

static void end_if_freed(struct sampler *s, uint32_t index)
{
	uint64_t word = atomic_load(&s->shared->cells[index].word);

	/* Its address may have been given out, and noted, again. */
	if (!s->cells[index].used || (word & STATE_MASK) != TAP_PROBE_CELL_FREED)
		return;
	tell_ledger(s, &s->cells[index]);
	drop(s, index);
}

void cells_sweep(struct sampler *s)
{
	for (uint32_t i = 0; i < TAP_PROBE_CELLS / 64; i++) {
		uint64_t freed = 0;

		if (atomic_load_explicit(&s->shared->freed[i], memory_order_relaxed))
			freed = atomic_exchange(&s->shared->freed[i], 0);
		for (; freed; freed &= freed - 1)
			end_if_freed(s, i * 64 + (uint32_t)__builtin_ctzll(freed));
	}
}
