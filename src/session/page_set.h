/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAP_SESSION_PAGE_SET_H
#define TAP_SESSION_PAGE_SET_H

/*
 * Stretches of memory, collected in any order and then asked for in ascending
 * order: how many bytes of a page are in the set.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/base/vector.h"

#define PAGE_BYTES UINT64_C(4096)

struct page_range {
	uint64_t start; /* inclusive */
	uint64_t end;   /* exclusive */
};

/* Zero-initialised it is empty. */
struct page_set {
	TAP_VECTOR(struct page_range) ranges;
	size_t at;
};

void page_set_add(struct page_set *set, uint64_t start, uint64_t end);
/* Sorts and joins; to be called before the questions. */
void page_set_settle(struct page_set *set);
void page_set_deinit(struct page_set *set);

/* Questions: addr never descends from one call to the next; page_set_rewind()
 * begins anew. */
static inline void page_set_rewind(struct page_set *set)
{
	set->at = 0;
}
/* Bytes of the page at addr. */
uint64_t page_set_bytes(struct page_set *set, uint64_t addr);
/* The first page from the one at addr on, before end, of which anything is in
 * the set; end where there is none. */
uint64_t page_set_next(struct page_set *set, uint64_t addr, uint64_t end);

/* Blocks: as many bytes on each of some pages. */
struct page_blocks {
	uint64_t page; /* number of the first */
	uint64_t pages;
	uint64_t bytes; /* on each */
};

struct page_weights {
	TAP_VECTOR(struct page_blocks) blocks;
	size_t at;
};

void page_weights_add(struct page_weights *weights, uint64_t start, uint64_t end);
/* Sorts; a page that lies in a whole stretch and is told again keeps the first
 * figure, others add up, to a page at most. */
void page_weights_settle(struct page_weights *weights);
void page_weights_deinit(struct page_weights *weights);
uint64_t page_weights_total(const struct page_weights *weights);
/* As page_set_bytes(). */
uint64_t page_weights_bytes(struct page_weights *weights, uint64_t addr);

#endif
