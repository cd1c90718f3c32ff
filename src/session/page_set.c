/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "session/page_set.h"

void page_set_add(struct page_set *set, uint64_t start, uint64_t end)
{
	size_t count = set->ranges.count;

	if (start >= end)
		return;
	if (count && set->ranges.items[count - 1].end == start)
		set->ranges.items[count - 1].end = end;
	else
		tap_vector_push(&set->ranges, ((struct page_range){start, end}));
}

static int by_start(const void *a, const void *b)
{
	const struct page_range *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

void page_set_settle(struct page_set *set)
{
	struct page_range *items = set->ranges.items;
	size_t kept = 0;

	set->at = 0;
	if (!set->ranges.count)
		return;
	qsort(items, set->ranges.count, sizeof(*items), by_start);
	for (size_t i = 1; i < set->ranges.count; i++) {
		if (items[i].start > items[kept].end)
			items[++kept] = items[i];
		else if (items[i].end > items[kept].end)
			items[kept].end = items[i].end;
	}
	set->ranges.count = kept + 1;
}

void page_set_deinit(struct page_set *set)
{
	tap_vector_free(&set->ranges);
	set->at = 0;
}

/* The first range that ends behind addr; NULL: none. */
static const struct page_range *range_behind(struct page_set *set, uint64_t addr)
{
	while (set->at < set->ranges.count && set->ranges.items[set->at].end <= addr)
		set->at++;
	return set->at < set->ranges.count ? &set->ranges.items[set->at] : NULL;
}

uint64_t page_set_bytes(struct page_set *set, uint64_t addr)
{
	uint64_t end = addr + PAGE_BYTES, bytes = 0;

	range_behind(set, addr);
	for (size_t i = set->at; i < set->ranges.count && set->ranges.items[i].start < end; i++) {
		const struct page_range *range = &set->ranges.items[i];
		uint64_t from = range->start > addr ? range->start : addr;

		bytes += (range->end < end ? range->end : end) - from;
	}
	return bytes;
}

uint64_t page_set_next(struct page_set *set, uint64_t addr, uint64_t end)
{
	const struct page_range *range = range_behind(set, addr);
	uint64_t page = range ? range->start & ~(PAGE_BYTES - 1) : end;

	if (page < addr)
		page = addr;
	return page < end ? page : end;
}

static void add_bytes(struct page_weights *weights, uint64_t page, uint64_t bytes)
{
	size_t count = weights->blocks.count;
	struct page_blocks *last = count ? &weights->blocks.items[count - 1] : NULL;

	if (last && last->page == page && last->pages == 1)
		last->bytes += bytes;
	else
		tap_vector_push(&weights->blocks, ((struct page_blocks){page, 1, bytes}));
}

void page_weights_add(struct page_weights *weights, uint64_t start, uint64_t end)
{
	uint64_t first = start / PAGE_BYTES, last = (end - 1) / PAGE_BYTES;

	if (start >= end)
		return;
	if (first == last) {
		add_bytes(weights, first, end - start);
		return;
	}
	add_bytes(weights, first, PAGE_BYTES - start % PAGE_BYTES);
	if (last - first > 1)
		tap_vector_push(&weights->blocks,
			((struct page_blocks){first + 1, last - first - 1, PAGE_BYTES}));
	add_bytes(weights, last, (end - 1) % PAGE_BYTES + 1);
}

/* The longest first where they begin together. */
static int by_page(const void *a, const void *b)
{
	const struct page_blocks *x = a, *y = b;

	if (x->page != y->page)
		return x->page < y->page ? -1 : 1;
	return x->pages > y->pages ? -1 : x->pages < y->pages;
}

static void sort_blocks(struct page_weights *weights)
{
	struct page_blocks *items = weights->blocks.items;

	for (size_t i = 1; i < weights->blocks.count; i++) {
		if (by_page(&items[i - 1], &items[i]) > 0) {
			qsort(items, weights->blocks.count, sizeof(*items), by_page);
			return;
		}
	}
}

static uint64_t cut_to_page(uint64_t bytes)
{
	return bytes < PAGE_BYTES ? bytes : PAGE_BYTES;
}

void page_weights_settle(struct page_weights *weights)
{
	struct page_blocks *items = weights->blocks.items, *last = NULL;
	size_t kept = 0;

	weights->at = 0;
	sort_blocks(weights);
	for (size_t i = 0; i < weights->blocks.count; i++) {
		struct page_blocks blocks = items[i];
		uint64_t behind = last ? last->page + last->pages : 0;

		if (last && blocks.page == last->page && blocks.pages == 1 && last->pages == 1) {
			last->bytes = cut_to_page(last->bytes + blocks.bytes);
			continue;
		}
		if (blocks.page < behind) {
			uint64_t cut = behind - blocks.page;

			if (cut >= blocks.pages)
				continue;
			blocks.page += cut;
			blocks.pages -= cut;
		}
		blocks.bytes = cut_to_page(blocks.bytes);
		last = &items[kept++];
		*last = blocks;
	}
	weights->blocks.count = kept;
}

void page_weights_deinit(struct page_weights *weights)
{
	tap_vector_free(&weights->blocks);
	weights->at = 0;
}

uint64_t page_weights_total(const struct page_weights *weights)
{
	uint64_t total = 0;

	for (size_t i = 0; i < weights->blocks.count; i++)
		total += weights->blocks.items[i].pages * weights->blocks.items[i].bytes;
	return total;
}

uint64_t page_weights_bytes(struct page_weights *weights, uint64_t addr)
{
	const struct page_blocks *items = weights->blocks.items;
	uint64_t page = addr / PAGE_BYTES;

	while (weights->at < weights->blocks.count &&
		items[weights->at].page + items[weights->at].pages <= page)
		weights->at++;
	if (weights->at == weights->blocks.count || items[weights->at].page > page)
		return 0;
	return items[weights->at].bytes;
}
