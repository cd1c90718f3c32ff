/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ANALYSIS_GROWTH_H
#define HEAPTAP_ANALYSIS_GROWTH_H

/*
 * Net growth: what is new and stays, less what took the place of blocks from
 * before the start. A full deque that drops an old block for each new one has
 * many live new blocks and no growth.
 *
 * Old blocks that were freed are known by size class alone, so they are set
 * against the sites that allocate in that class: first against those that
 * free blocks of their own (a container that drops what it holds also drops
 * what is new), then against all. They are counted in blocks, since requests
 * and rounded sizes do not balance. No set of sites comes out with more growth
 * than its class has.
 */

#include <stddef.h>
#include <stdint.h>
#include "heaptap/ledger/ledger.h"

/* One site's totals within one size class. */
struct tap_growth_cell {
	size_t site; /* the caller's number, from 0 */
	uint32_t size_class;
	double live_blocks;
	double live_bytes;
	double freed_blocks; /* of its own new blocks */
};

/* Adds to replaced_bytes[site] what of each cell's live bytes took the place
 * of older blocks, and to variance[site] the variance of that, where those that
 * went were sampled: growth has it on top of that of the live bytes, as new and
 * old blocks are sampled apart. cells are sorted by class on return. */
void tap_growth_net(struct tap_growth_cell *cells, size_t count,
	const struct tap_ledger_class_list *classes, double *replaced_bytes, double *variance);

#endif
