/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "heaptap/analysis/growth.h"

#define ROUNDS_MAX 64

static int by_class(const void *a, const void *b)
{
	const struct tap_growth_cell *x = a, *y = b;

	if (x->size_class != y->size_class)
		return x->size_class > y->size_class ? 1 : -1;
	return (x->site > y->site) - (x->site < y->site);
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

static void net_class(const struct tap_growth_cell *cells, size_t count,
	const struct tap_ledger_class *class, double *replaced_bytes, double *variance)
{
	double *replaced = tap_alloc(count * sizeof(*replaced));
	double left;

	left = share_out(cells, replaced, count, class->unseen_blocks, own_weight);
	share_out(cells, replaced, count, left, room);
	for (size_t i = 0, end; i < count; i = end) {
		double bytes = 0;

		for (end = i; end < count && cells[end].site == cells[i].site; end++)
			if (cells[end].live_blocks > 0)
				bytes += replaced[end] * cells[end].live_bytes /
					cells[end].live_blocks;
		replaced_bytes[cells[i].site] += bytes;
		/* Its part of one estimate errs as that does. */
		variance[cells[i].site] += class->unseen_variance *
			(bytes / class->unseen_blocks) * (bytes / class->unseen_blocks);
	}
	free(replaced);
}

void tap_growth_net(struct tap_growth_cell *cells, size_t count,
	const struct tap_ledger_class_list *classes, double *replaced_bytes, double *variance)
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
			net_class(cells + first, end - first, class, replaced_bytes, variance);
	}
}
