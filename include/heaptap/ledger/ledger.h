/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_LEDGER_LEDGER_H
#define HEAPTAP_LEDGER_LEDGER_H

/*
 * What was allocated since the start, by stack and size class, what of it is
 * still there, and how many older blocks were freed meanwhile.
 *
 * Memory is bounded by what is live: one entry for each live block, one cell
 * for each (stack, class), one curve for each stack. A block that is freed
 * leaves nothing but its part of the totals.
 *
 * A size class is a number of the recorder's choosing: what the allocator
 * rounds a request up to, so that blocks from before the start (whose request
 * nobody saw) can be set against new ones. TAP_LEDGER_NO_CLASS takes no part
 * in that.
 *
 * Belongs to one thread at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/base/vector.h"

struct tap_ledger;

#define TAP_LEDGER_NO_CLASS 0

struct tap_ledger_block {
	uint64_t size_bytes;     /* requested */
	uint64_t baseline_bytes; /* the part of it that was there before the start: a block from
	                          * before that was reallocated */
	uint32_t stack;
	uint32_t size_class;     /* TAP_LEDGER_NO_CLASS where there is a baseline */
	uint32_t baseline_class; /* of that block, as it was before */
	double weight;           /* how many blocks it stands for: above 1 for a sampled one; 0 is
	                          * taken as 1 */
};

/* Totals of one stack within one size class. */
struct tap_ledger_cell {
	uint32_t stack;
	uint32_t size_class;
	double allocated_blocks, allocated_bytes;
	double freed_blocks, freed_bytes; /* of blocks allocated since the start */
	double live_blocks, live_bytes;
	double variance; /* of live_bytes: the sum of size^2 w (w - 1) (Horvitz and Thompson); 0
	                  * where every call was seen */
};

/* Blocks from before the start that were freed, of one class. */
struct tap_ledger_class {
	uint32_t size_class;
	double unseen_blocks, unseen_bytes;
	double request_blocks, request_bytes; /* of all allocations in the class */
	double unseen_variance; /* of unseen_blocks: the sum of w (w - 1) */
};

TAP_VECTOR_TYPE(tap_ledger_cell_list, struct tap_ledger_cell);
TAP_VECTOR_TYPE(tap_ledger_class_list, struct tap_ledger_class);

struct tap_ledger_totals {
	double allocated_bytes, allocated_blocks;
	double freed_bytes, freed_blocks;
	double unseen_freed_bytes, unseen_freed_blocks;
	double unclassed_unseen_blocks; /* of the unseen: freed where no class was known */
};

struct tap_ledger *tap_ledger_create(void);
void tap_ledger_destroy(struct tap_ledger *ledger); /* takes NULL */

/* A block came. One that is believed to be at this address still was freed
 * behind our back, and is counted as freed. */
void tap_ledger_add(
	struct tap_ledger *ledger, uint64_t addr, const struct tap_ledger_block *block);

/* A block that was seen to come goes: out of the live set and into *ret, not
 * yet counted as freed. False: it was not seen. */
bool tap_ledger_take(struct tap_ledger *ledger, uint64_t addr, struct tap_ledger_block *ret);
/* What became of a taken block: it was freed; or a realloc turned it into
 * another, which is added with the same baseline; or (the realloc failed) it
 * is still there, as if it had not been taken. */
void tap_ledger_freed(struct tap_ledger *ledger, const struct tap_ledger_block *block);
void tap_ledger_replaced(struct tap_ledger *ledger, const struct tap_ledger_block *block);
/* A part of it was: it is smaller from now on (bytes: less than its size), and
 * still taken. */
void tap_ledger_trimmed(
	struct tap_ledger *ledger, struct tap_ledger_block *block, uint64_t bytes);
void tap_ledger_put_back(
	struct tap_ledger *ledger, uint64_t addr, const struct tap_ledger_block *block);

/* A block from before the start was freed. usable_bytes: what the allocator
 * had rounded it to; 0 where unknown. weight as of a block. */
void tap_ledger_free_unseen(struct tap_ledger *ledger, uint32_t size_class, uint64_t usable_bytes,
	double weight);

/* A point in time: the live bytes of every stack that changed since the last
 * one are noted under this number. Numbers ascend. */
void tap_ledger_tick(struct tap_ledger *ledger, uint32_t tick);
/* The live bytes of a stack at each tick from 0 to ticks - 1, added to
 * values. */
void tap_ledger_add_curve(
	const struct tap_ledger *ledger, uint32_t stack, double *values, size_t ticks);

/* Bytes that came less bytes that went since the start, old blocks included. */
int64_t tap_ledger_net_bytes(const struct tap_ledger *ledger);

const struct tap_ledger_totals *tap_ledger_totals(const struct tap_ledger *ledger);
/* In no order; both lists belong to the ledger. */
const struct tap_ledger_cell_list *tap_ledger_cells(const struct tap_ledger *ledger);
const struct tap_ledger_class_list *tap_ledger_classes(const struct tap_ledger *ledger);

#endif
