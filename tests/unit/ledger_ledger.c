/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "unit.h"
#include "heaptap/ledger/ledger.h"

#define ADDRESSES 300
#define STACKS 7
#define CLASSES 4

static uint32_t random_state;

static uint32_t next_random(uint32_t below)
{
	random_state = random_state * 1664525 + 1013904223;
	return (random_state >> 8) % below;
}

/* --- a naive model: every block by address, every total by counting -------- */

struct model {
	struct {
		bool live;
		struct tap_ledger_block block;
	} at[ADDRESSES];
	int64_t allocated_bytes, freed_bytes, allocated_blocks, freed_blocks;
	int64_t unseen_bytes, unseen_blocks, unclassed_blocks;
	int64_t class_unseen[CLASSES];
};

static int64_t new_bytes(const struct tap_ledger_block *block)
{
	return (int64_t)block->size_bytes - (int64_t)block->baseline_bytes;
}

static int64_t new_blocks(const struct tap_ledger_block *block)
{
	return block->baseline_bytes ? 0 : 1;
}

static void model_came(struct model *model, uint64_t addr, const struct tap_ledger_block *block)
{
	model->at[addr].live = true;
	model->at[addr].block = *block;
	model->allocated_blocks += new_blocks(block);
	if (new_bytes(block) >= 0)
		model->allocated_bytes += new_bytes(block);
	else
		model->freed_bytes -= new_bytes(block);
}

static void model_replaced(struct model *model, const struct tap_ledger_block *block)
{
	model->freed_blocks += new_blocks(block);
	if (new_bytes(block) >= 0)
		model->freed_bytes += new_bytes(block);
	else
		model->allocated_bytes -= new_bytes(block);
}

static void model_freed(struct model *model, const struct tap_ledger_block *block)
{
	model_replaced(model, block);
	if (!block->baseline_bytes)
		return;
	model->unseen_blocks++;
	model->unseen_bytes += (int64_t)block->baseline_bytes;
	if (block->baseline_class == TAP_LEDGER_NO_CLASS)
		model->unclassed_blocks++;
	else
		model->class_unseen[block->baseline_class]++;
}

static struct tap_ledger_block random_block(void)
{
	struct tap_ledger_block block = {
		.size_bytes = next_random(1000),
		.stack = next_random(STACKS),
		.size_class = next_random(CLASSES),
	};

	if (!next_random(5)) {
		block.baseline_bytes = 1 + next_random(1000);
		block.baseline_class = next_random(CLASSES);
		block.size_class = TAP_LEDGER_NO_CLASS;
	}
	return block;
}

static void check_totals(const struct tap_ledger *ledger, const struct model *model)
{
	const struct tap_ledger_totals *totals = tap_ledger_totals(ledger);

	assert_int_equal(totals->allocated_bytes, model->allocated_bytes);
	assert_int_equal(totals->allocated_blocks, model->allocated_blocks);
	assert_int_equal(totals->freed_bytes, model->freed_bytes);
	assert_int_equal(totals->freed_blocks, model->freed_blocks);
	assert_int_equal(totals->unseen_freed_blocks, model->unseen_blocks);
	assert_int_equal(totals->unseen_freed_bytes, model->unseen_bytes);
	assert_int_equal(totals->unclassed_unseen_blocks, model->unclassed_blocks);
	assert_int_equal(tap_ledger_net_bytes(ledger),
		model->allocated_bytes - model->freed_bytes - model->unseen_bytes);
}

/* Every cell is live = allocated - freed, and live is what the model has. */
static void check_cells(const struct tap_ledger *ledger, const struct model *model)
{
	const struct tap_ledger_cell_list *cells = tap_ledger_cells(ledger);
	int64_t live[STACKS][CLASSES] = {{0}}, bytes[STACKS][CLASSES] = {{0}};

	for (size_t i = 0; i < ADDRESSES; i++) {
		const struct tap_ledger_block *block = &model->at[i].block;

		if (!model->at[i].live)
			continue;
		live[block->stack][block->size_class] += new_blocks(block);
		bytes[block->stack][block->size_class] += new_bytes(block);
	}
	for (size_t i = 0; i < cells->count; i++) {
		const struct tap_ledger_cell *cell = &cells->items[i];

		assert_int_equal(cell->live_blocks, live[cell->stack][cell->size_class]);
		assert_int_equal(cell->live_bytes, bytes[cell->stack][cell->size_class]);
		assert_int_equal(
			cell->live_blocks, (int64_t)(cell->allocated_blocks - cell->freed_blocks));
		assert_int_equal(
			cell->live_bytes, (int64_t)(cell->allocated_bytes - cell->freed_bytes));
		live[cell->stack][cell->size_class] = bytes[cell->stack][cell->size_class] = 0;
	}
	for (size_t i = 0; i < STACKS; i++)
		for (size_t j = 0; j < CLASSES; j++)
			assert_true(!live[i][j] && !bytes[i][j]);
}

static void check_classes(const struct tap_ledger *ledger, const struct model *model)
{
	const struct tap_ledger_class_list *classes = tap_ledger_classes(ledger);
	int64_t seen[CLASSES] = {0};

	for (size_t i = 0; i < classes->count; i++) {
		assert_int_not_equal(classes->items[i].size_class, TAP_LEDGER_NO_CLASS);
		seen[classes->items[i].size_class] = (int64_t)classes->items[i].unseen_blocks;
	}
	assert_memory_equal(seen, model->class_unseen, sizeof(seen));
}

static void add(struct tap_ledger *ledger, struct model *model, uint64_t addr)
{
	struct tap_ledger_block block = random_block();

	/* Whatever is believed to be there was freed behind our back. */
	if (model->at[addr].live)
		model_freed(model, &model->at[addr].block);
	tap_ledger_add(ledger, addr, &block);
	model_came(model, addr, &block);
}

static void take(struct tap_ledger *ledger, struct model *model, uint64_t addr)
{
	struct tap_ledger_block block = {0}, *own = &model->at[addr].block;

	assert_int_equal(tap_ledger_take(ledger, addr, &block), model->at[addr].live);
	if (!model->at[addr].live)
		return;
	assert_int_equal(block.size_bytes, own->size_bytes);
	assert_int_equal(block.baseline_bytes, own->baseline_bytes);
	assert_int_equal(block.stack, own->stack);
	assert_int_equal(block.size_class, own->size_class);
	if (own->baseline_bytes)
		assert_int_equal(block.baseline_class, own->baseline_class);
	model->at[addr].live = false;
	switch (next_random(4)) {
	case 0:
		tap_ledger_freed(ledger, &block);
		model_freed(model, own);
		break;
	case 1: { /* a realloc to anywhere */
		uint64_t to = next_random(ADDRESSES);
		struct tap_ledger_block moved = block;

		moved.size_bytes = next_random(2000);
		tap_ledger_replaced(ledger, &block);
		model_replaced(model, own);
		if (model->at[to].live)
			model_freed(model, &model->at[to].block);
		tap_ledger_add(ledger, to, &moved);
		model_came(model, to, &moved);
		break;
	}
	case 2: { /* a part of it is unmapped */
		uint64_t bytes = next_random((uint32_t)block.size_bytes + 1);

		tap_ledger_trimmed(ledger, &block, bytes);
		model->freed_bytes += (int64_t)bytes;
		own->size_bytes -= bytes;
		assert_int_equal(block.size_bytes, own->size_bytes);
		__attribute__((fallthrough));
	}
	default:
		tap_ledger_put_back(ledger, addr, &block);
		model->at[addr].live = true;
	}
}

static void free_unseen(struct tap_ledger *ledger, struct model *model)
{
	uint32_t class = next_random(CLASSES);
	uint64_t before = tap_ledger_totals(ledger)->unseen_freed_bytes;

	tap_ledger_free_unseen(ledger, class, next_random(100), 1);
	model->unseen_blocks++;
	/* a guess: what it is, is another test */
	model->unseen_bytes += (int64_t)(tap_ledger_totals(ledger)->unseen_freed_bytes - before);
	if (class == TAP_LEDGER_NO_CLASS)
		model->unclassed_blocks++;
	else
		model->class_unseen[class]++;
}

static void agrees_with_the_model(void **state)
{
	(void)state;
	for (uint32_t seed = 1; seed <= 20; seed++) {
		struct tap_ledger *ledger = tap_ledger_create();
		struct model *model = calloc(1, sizeof(*model));

		random_state = seed;
		for (int step = 0; step < 5000; step++) {
			uint64_t addr = next_random(ADDRESSES);

			if (next_random(2))
				add(ledger, model, addr);
			else if (next_random(8))
				take(ledger, model, addr);
			else
				free_unseen(ledger, model);
			check_totals(ledger, model);
			if (step % 100 == 0)
				check_cells(ledger, model);
		}
		check_cells(ledger, model);
		check_classes(ledger, model);
		free(model);
		tap_ledger_destroy(ledger);
	}
}

/* --- what reallocated old blocks come to ----------------------------------- */

static void an_old_block_counts_only_what_it_grew_by(void **state)
{
	struct tap_ledger *ledger = tap_ledger_create();
	struct tap_ledger_block block = {.size_bytes = 1500, .baseline_bytes = 1000,
		.baseline_class = 3};
	const struct tap_ledger_totals *totals = tap_ledger_totals(ledger);

	(void)state;
	tap_ledger_add(ledger, 0x1000, &block);
	assert_int_equal(tap_ledger_net_bytes(ledger), 500);
	assert_int_equal(totals->allocated_blocks, 0);
	assert_int_equal(tap_ledger_cells(ledger)->items[0].live_blocks, 0);
	/* it grows again, then shrinks below what it was */
	for (size_t i = 0; i < 2; i++) {
		assert_true(tap_ledger_take(ledger, 0x1000, &block));
		tap_ledger_replaced(ledger, &block);
		block.size_bytes = i ? 400 : 4000;
		tap_ledger_add(ledger, 0x1000, &block);
		assert_int_equal(tap_ledger_net_bytes(ledger), i ? -600 : 3000);
	}
	assert_int_equal(totals->unseen_freed_blocks, 0);
	/* and goes: an old block of its class is gone */
	assert_true(tap_ledger_take(ledger, 0x1000, &block));
	tap_ledger_freed(ledger, &block);
	assert_int_equal(tap_ledger_net_bytes(ledger), -1000);
	assert_int_equal(totals->unseen_freed_blocks, 1);
	assert_int_equal(totals->unclassed_unseen_blocks, 0);
	assert_int_equal(tap_ledger_classes(ledger)->items[0].unseen_blocks, 1);
	assert_int_equal(tap_ledger_cells(ledger)->items[0].live_bytes, 0);
	tap_ledger_destroy(ledger);
}

static void a_failed_realloc_changes_nothing(void **state)
{
	struct tap_ledger *ledger = tap_ledger_create();
	struct tap_ledger_block block = {.size_bytes = 100, .stack = 2, .size_class = 5}, other;

	(void)state;
	tap_ledger_add(ledger, 0x2000, &block);
	assert_true(tap_ledger_take(ledger, 0x2000, &block));
	assert_false(tap_ledger_take(ledger, 0x2000, &other));
	assert_int_equal(tap_ledger_cells(ledger)->items[0].live_blocks, 0);
	tap_ledger_put_back(ledger, 0x2000, &block);
	assert_int_equal(tap_ledger_totals(ledger)->freed_blocks, 0);
	assert_int_equal(tap_ledger_cells(ledger)->items[0].live_bytes, 100);
	/* where somebody else was given its place meanwhile, it is gone */
	assert_true(tap_ledger_take(ledger, 0x2000, &block));
	tap_ledger_add(ledger, 0x2000, &(struct tap_ledger_block){.size_bytes = 7});
	tap_ledger_put_back(ledger, 0x2000, &block);
	assert_int_equal(tap_ledger_net_bytes(ledger), 7);
	assert_int_equal(tap_ledger_totals(ledger)->freed_bytes, 100);
	assert_true(tap_ledger_take(ledger, 0x2000, &other));
	assert_int_equal(other.size_bytes, 7);
	tap_ledger_destroy(ledger);
}

/* What an old block was asked for is what its class is asked for now: a full
 * container of 33-byte blocks in chunks of 48 balances. */
static void old_blocks_weigh_what_new_ones_do(void **state)
{
	struct tap_ledger *ledger = tap_ledger_create();

	(void)state;
	tap_ledger_free_unseen(ledger, 3, 40, 1); /* nothing known yet: its room */
	assert_int_equal(tap_ledger_net_bytes(ledger), -40);
	for (uint64_t i = 0; i < 1000; i++) {
		tap_ledger_add(ledger, 0x1000 + 64 * i,
			&(struct tap_ledger_block){.size_bytes = 33, .size_class = 3});
		if (i)
			tap_ledger_free_unseen(ledger, 3, 40, 1);
	}
	assert_int_equal(tap_ledger_net_bytes(ledger), 33 - 40);
	tap_ledger_free_unseen(ledger, 9, 0, 1);
	assert_int_equal(tap_ledger_net_bytes(ledger), 33 - 40);
	tap_ledger_destroy(ledger);
}

/* --- curves ---------------------------------------------------------------- */

static void curves_are_the_live_bytes_at_each_tick(void **state)
{
	enum { TICKS = 200 };
	struct tap_ledger *ledger = tap_ledger_create();
	static double expected[STACKS][TICKS], values[TICKS];
	int64_t live[STACKS] = {0};

	(void)state;
	random_state = 3;
	for (uint32_t tick = 0; tick < TICKS; tick++) {
		for (uint32_t i = next_random(4); i > 0; i--) {
			struct tap_ledger_block block = {.size_bytes = next_random(900),
				.stack = next_random(STACKS - 1)}, old;
			uint64_t addr = next_random(50);

			if (tap_ledger_take(ledger, addr, &old)) {
				tap_ledger_freed(ledger, &old);
				live[old.stack] -= (int64_t)old.size_bytes;
			}
			tap_ledger_add(ledger, addr, &block);
			live[block.stack] += (int64_t)block.size_bytes;
		}
		/* Some ticks are missed: what changed is noted at the next. */
		if (tick % 5 != 4)
			tap_ledger_tick(ledger, tick);
		for (size_t stack = 0; stack < STACKS; stack++)
			expected[stack][tick] =
				tick % 5 != 4 ? (double)live[stack] : expected[stack][tick - 1];
	}
	for (uint32_t stack = 0; stack < STACKS + 2; stack++) {
		for (size_t tick = 0; tick < TICKS; tick++)
			values[tick] = 1;
		tap_ledger_add_curve(ledger, stack, values, TICKS);
		for (size_t tick = 0; tick < TICKS; tick++) {
			double wanted = stack < STACKS ? expected[stack][tick] : 0;

			assert_true(values[tick] == wanted + 1);
		}
	}
	/* fewer ticks than there are points */
	values[3] = 5;
	tap_ledger_add_curve(ledger, 0, values, 3);
	assert_true(values[3] == 5);
	tap_ledger_destroy(ledger);
}

static void sizes_without_bound(void **state)
{
	struct tap_ledger *ledger = tap_ledger_create();
	struct tap_ledger_block block = {.size_bytes = UINT64_C(1) << 62, .stack = 0};

	(void)state;
	tap_ledger_add(ledger, UINT64_MAX, &block);
	assert_int_equal(tap_ledger_net_bytes(ledger), INT64_C(1) << 62);
	assert_true(tap_ledger_take(ledger, UINT64_MAX, &block));
	tap_ledger_freed(ledger, &block);
	assert_int_equal(tap_ledger_net_bytes(ledger), 0);
	assert_false(tap_ledger_take(ledger, 0, &block));
	tap_ledger_destroy(ledger);
	tap_ledger_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees_with_the_model),
		cmocka_unit_test(an_old_block_counts_only_what_it_grew_by),
		cmocka_unit_test(a_failed_realloc_changes_nothing),
		cmocka_unit_test(old_blocks_weigh_what_new_ones_do),
		cmocka_unit_test(curves_are_the_live_bytes_at_each_tick),
		cmocka_unit_test(sizes_without_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
