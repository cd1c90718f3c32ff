/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/map.h"
#include "heaptap/ledger/ledger.h"

/* A live block: its cell and sizes. Entries are reused through a free list. */
struct entry {
	uint64_t size_bytes;
	uint64_t baseline_bytes;
	double weight;
	uint32_t baseline_class;
	uint32_t cell;
	uint32_t next_free; /* plus 1 */
};

struct point {
	uint32_t tick;
	double live_bytes;
};

/* The live bytes of one stack over time: a point only where they changed. */
struct curve {
	double live_bytes;
	bool dirty;
	TAP_VECTOR(struct point) points;
};

struct tap_ledger {
	struct tap_map live; /* address -> index of its entry */
	TAP_VECTOR(struct entry) entries;
	uint32_t first_free; /* plus 1 */
	struct tap_map cell_index;  /* stack << 32 | class -> index */
	struct tap_map class_index; /* class -> index */
	struct tap_ledger_cell_list cells;
	struct tap_ledger_class_list classes;
	TAP_VECTOR(struct curve) curves; /* by stack */
	TAP_VECTOR(uint32_t) dirty;      /* stacks that changed since the last tick */
	struct tap_ledger_totals totals;
};

struct tap_ledger *tap_ledger_create(void)
{
	return tap_alloc(sizeof(struct tap_ledger));
}

void tap_ledger_destroy(struct tap_ledger *ledger)
{
	if (!ledger)
		return;
	for (size_t i = 0; i < ledger->curves.count; i++)
		tap_vector_free(&ledger->curves.items[i].points);
	tap_vector_free(&ledger->curves);
	tap_vector_free(&ledger->dirty);
	tap_vector_free(&ledger->entries);
	tap_vector_free(&ledger->cells);
	tap_vector_free(&ledger->classes);
	tap_map_deinit(&ledger->live);
	tap_map_deinit(&ledger->cell_index);
	tap_map_deinit(&ledger->class_index);
	free(ledger);
}

static uint32_t find_cell(struct tap_ledger *ledger, uint32_t stack, uint32_t size_class)
{
	bool added;
	uint64_t *index =
		tap_map_put(&ledger->cell_index, (uint64_t)stack << 32 | size_class, &added);

	if (added) {
		struct tap_ledger_cell *cell = tap_vector_add(&ledger->cells);

		cell->stack = stack;
		cell->size_class = size_class;
		*index = ledger->cells.count - 1;
	}
	return (uint32_t)*index;
}

static struct tap_ledger_class *find_class(struct tap_ledger *ledger, uint32_t size_class)
{
	bool added;
	uint64_t *index = tap_map_put(&ledger->class_index, size_class, &added);

	if (added) {
		tap_vector_add(&ledger->classes)->size_class = size_class;
		*index = ledger->classes.count - 1;
	}
	return &ledger->classes.items[*index];
}

/* The stack's live bytes change; its curve gets a point at the next tick. */
static void move_curve(struct tap_ledger *ledger, uint32_t stack, double change)
{
	struct curve *curve;

	while (ledger->curves.count <= stack)
		tap_vector_add(&ledger->curves);
	curve = &ledger->curves.items[stack];
	curve->live_bytes += change;
	if (!curve->dirty) {
		curve->dirty = true;
		tap_vector_push(&ledger->dirty, stack);
	}
}

static uint32_t take_entry(struct tap_ledger *ledger)
{
	uint32_t index;

	if (!ledger->first_free) {
		tap_vector_add(&ledger->entries);
		return (uint32_t)ledger->entries.count - 1;
	}
	index = ledger->first_free - 1;
	ledger->first_free = ledger->entries.items[index].next_free;
	return index;
}

static double weight(const struct tap_ledger_block *block)
{
	return block->weight > 1 ? block->weight : 1;
}

/* Only the part beyond the baseline is new. */
static double credit(const struct tap_ledger_block *block)
{
	return ((double)block->size_bytes - (double)block->baseline_bytes) * weight(block);
}

/* A block with a baseline is an old one still: none more than before. */
static double blocks(const struct tap_ledger_block *block)
{
	return block->baseline_bytes ? 0 : weight(block);
}

static double variance(const struct tap_ledger_block *block)
{
	double size = (double)block->size_bytes - (double)block->baseline_bytes;

	return size * size * weight(block) * (weight(block) - 1);
}

/* The block is there, or (direction -1) no longer. */
static void count_live(struct tap_ledger *ledger, struct tap_ledger_cell *cell,
	const struct tap_ledger_block *block, double direction)
{
	cell->live_blocks += direction * blocks(block);
	cell->live_bytes += direction * credit(block);
	cell->variance += direction * variance(block);
	move_curve(ledger, cell->stack, direction * credit(block));
}

static void settle(
	struct tap_ledger *ledger, uint64_t addr, const struct tap_ledger_block *block)
{
	uint32_t index = take_entry(ledger);
	struct entry *entry = &ledger->entries.items[index];

	entry->size_bytes = block->size_bytes;
	entry->baseline_bytes = block->baseline_bytes;
	entry->baseline_class = block->baseline_class;
	entry->weight = block->weight;
	entry->cell = find_cell(ledger, block->stack, block->size_class);
	*tap_map_put(&ledger->live, addr, NULL) = index;
	count_live(ledger, &ledger->cells.items[entry->cell], block, 1);
}

void tap_ledger_add(
	struct tap_ledger *ledger, uint64_t addr, const struct tap_ledger_block *block)
{
	double bytes = credit(block);
	struct tap_ledger_block old;
	struct tap_ledger_cell *cell;

	if (tap_ledger_take(ledger, addr, &old))
		tap_ledger_freed(ledger, &old);
	settle(ledger, addr, block);
	cell = &ledger->cells.items[find_cell(ledger, block->stack, block->size_class)];
	cell->allocated_blocks += blocks(block);
	ledger->totals.allocated_blocks += blocks(block);
	/* Less than the baseline: an old block shrank. That is given back, not
	 * allocated. */
	if (bytes >= 0) {
		cell->allocated_bytes += bytes;
		ledger->totals.allocated_bytes += bytes;
	} else {
		cell->freed_bytes += -bytes;
		ledger->totals.freed_bytes += -bytes;
	}
	if (block->size_class != TAP_LEDGER_NO_CLASS) {
		struct tap_ledger_class *class = find_class(ledger, block->size_class);

		class->request_blocks += weight(block);
		class->request_bytes += (double)block->size_bytes * weight(block);
	}
}

bool tap_ledger_take(struct tap_ledger *ledger, uint64_t addr, struct tap_ledger_block *ret)
{
	struct tap_ledger_cell *cell;
	struct entry *entry;
	uint64_t index;

	if (!tap_map_remove(&ledger->live, addr, &index))
		return false;
	entry = &ledger->entries.items[index];
	cell = &ledger->cells.items[entry->cell];
	*ret = (struct tap_ledger_block){
		.size_bytes = entry->size_bytes,
		.baseline_bytes = entry->baseline_bytes,
		.baseline_class = entry->baseline_class,
		.stack = cell->stack,
		.size_class = cell->size_class,
		.weight = entry->weight,
	};
	count_live(ledger, cell, ret, -1);
	entry->next_free = ledger->first_free;
	ledger->first_free = (uint32_t)index + 1;
	return true;
}

void tap_ledger_replaced(struct tap_ledger *ledger, const struct tap_ledger_block *block)
{
	double bytes = credit(block);
	struct tap_ledger_cell *cell =
		&ledger->cells.items[find_cell(ledger, block->stack, block->size_class)];

	cell->freed_blocks += blocks(block);
	ledger->totals.freed_blocks += blocks(block);
	if (bytes >= 0) {
		cell->freed_bytes += bytes;
		ledger->totals.freed_bytes += bytes;
	} else {
		cell->allocated_bytes += -bytes;
		ledger->totals.allocated_bytes += -bytes;
	}
}

/* An old block went. Its bytes: what was asked for, where somebody knows. */
static void free_old(
	struct tap_ledger *ledger, uint32_t size_class, double bytes, double count)
{
	if (size_class == TAP_LEDGER_NO_CLASS) {
		ledger->totals.unclassed_unseen_blocks += count;
	} else {
		struct tap_ledger_class *class = find_class(ledger, size_class);

		class->unseen_blocks += count;
		class->unseen_bytes += bytes * count;
		class->unseen_variance += count * (count - 1);
	}
	ledger->totals.unseen_freed_blocks += count;
	ledger->totals.unseen_freed_bytes += bytes * count;
}

void tap_ledger_freed(struct tap_ledger *ledger, const struct tap_ledger_block *block)
{
	tap_ledger_replaced(ledger, block);
	/* What it was before the start goes with it. */
	if (block->baseline_bytes)
		free_old(ledger, block->baseline_class, (double)block->baseline_bytes,
			weight(block));
}

void tap_ledger_trimmed(
	struct tap_ledger *ledger, struct tap_ledger_block *block, uint64_t bytes)
{
	block->size_bytes -= bytes;
	ledger->cells.items[find_cell(ledger, block->stack, block->size_class)].freed_bytes += bytes;
	ledger->totals.freed_bytes += bytes;
}

void tap_ledger_put_back(
	struct tap_ledger *ledger, uint64_t addr, const struct tap_ledger_block *block)
{
	/* Somebody else has its place: it was freed after all. */
	if (tap_map_find(&ledger->live, addr))
		tap_ledger_freed(ledger, block);
	else
		settle(ledger, addr, block);
}

void tap_ledger_free_unseen(struct tap_ledger *ledger, uint32_t size_class, uint64_t usable_bytes,
	double count)
{
	const struct tap_ledger_class *class =
		size_class == TAP_LEDGER_NO_CLASS ? NULL : find_class(ledger, size_class);
	double bytes = (double)usable_bytes;

	/* What was asked for nobody saw; what is asked for in this class now is
	 * the best guess, and balances the new blocks. */
	if (class && class->request_blocks)
		bytes = (double)(uint64_t)(class->request_bytes / class->request_blocks);
	free_old(ledger, size_class, bytes, count);
}

void tap_ledger_tick(struct tap_ledger *ledger, uint32_t tick)
{
	for (size_t i = 0; i < ledger->dirty.count; i++) {
		struct curve *curve = &ledger->curves.items[ledger->dirty.items[i]];
		struct point point = {tick, curve->live_bytes};

		curve->dirty = false;
		tap_vector_push(&curve->points, point);
	}
	ledger->dirty.count = 0;
}

void tap_ledger_add_curve(
	const struct tap_ledger *ledger, uint32_t stack, double *values, size_t ticks)
{
	const struct curve *curve;
	size_t next = 0;
	double value = 0;

	if (stack >= ledger->curves.count)
		return;
	curve = &ledger->curves.items[stack];
	for (size_t tick = 0; tick < ticks; tick++) {
		while (next < curve->points.count && curve->points.items[next].tick <= tick)
			value = curve->points.items[next++].live_bytes;
		values[tick] += value;
	}
}

int64_t tap_ledger_net_bytes(const struct tap_ledger *ledger)
{
	const struct tap_ledger_totals *totals = &ledger->totals;

	return (int64_t)(totals->allocated_bytes - totals->freed_bytes - totals->unseen_freed_bytes);
}

const struct tap_ledger_totals *tap_ledger_totals(const struct tap_ledger *ledger)
{
	return &ledger->totals;
}

const struct tap_ledger_cell_list *tap_ledger_cells(const struct tap_ledger *ledger)
{
	return &ledger->cells;
}

const struct tap_ledger_class_list *tap_ledger_classes(const struct tap_ledger *ledger)
{
	return &ledger->classes;
}
