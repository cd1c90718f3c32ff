/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "heaptap/analysis/growth.h"

#define ROUNDS_MAX 64

static int by_class(const void *a, const void *b)
{
	const struct tap_growth_cell *x = a, *y = b;

	return (x->size_class > y->size_class) - (x->size_class < y->size_class);
}

static double room(const struct tap_growth_cell *cell, double replaced)
{
	return cell->live_blocks > 0 ? cell->live_blocks - replaced : 0;
}

/* Those that free blocks of their own, as far as they do. */
static double own_weight(const struct tap_growth_cell *cell, double replaced)
{
	double left = room(cell, replaced);

	return left < cell->freed_blocks ? left : cell->freed_blocks;
}

/* Shares `blocks` out by weight, never more to one than it has room for;
 * returns what is left over. */
static double share_out(const struct tap_growth_cell *cells, double *replaced, size_t count,
	double blocks, double (*weight)(const struct tap_growth_cell *, double))
{
	for (int round = 0; round < ROUNDS_MAX && blocks > 1e-9; round++) {
		double sum = 0, given = 0;

		for (size_t i = 0; i < count; i++)
			sum += weight(&cells[i], replaced[i]);
		if (sum <= 0)
			break;
		for (size_t i = 0; i < count; i++) {
			double part = blocks * weight(&cells[i], replaced[i]) / sum;
			double left = room(&cells[i], replaced[i]);

			part = part < left ? part : left;
			replaced[i] += part;
			given += part;
		}
		blocks -= given;
		if (given <= 1e-9)
			break;
	}
	return blocks;
}

static void net_class(const struct tap_growth_cell *cells, size_t count, double unseen_blocks,
	double *replaced_bytes)
{
	double *replaced = tap_alloc(count * sizeof(*replaced));
	double left;

	left = share_out(cells, replaced, count, unseen_blocks, own_weight);
	share_out(cells, replaced, count, left, room);
	for (size_t i = 0; i < count; i++)
		if (cells[i].live_blocks > 0)
			replaced_bytes[cells[i].site] +=
				replaced[i] * cells[i].live_bytes / cells[i].live_blocks;
	free(replaced);
}

void tap_growth_net(struct tap_growth_cell *cells, size_t count,
	const struct tap_ledger_class_list *classes, double *replaced_bytes)
{
	qsort(cells, count, sizeof(*cells), by_class);
	for (size_t c = 0; c < classes->count; c++) {
		const struct tap_ledger_class *class = &classes->items[c];
		size_t first = 0, end;

		if (!class->unseen_blocks)
			continue;
		/* Lower bound of the class among the sorted cells. */
		for (size_t size = count; size > 0;) {
			size_t half = size / 2;

			if (cells[first + half].size_class < class->size_class) {
				first += half + 1;
				size -= half + 1;
			} else {
				size = half;
			}
		}
		for (end = first; end < count && cells[end].size_class == class->size_class; end++)
			;
		if (end > first)
			net_class(cells + first, end - first, class->unseen_blocks, replaced_bytes);
	}
}
