/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "session/recorder.h"

#define PAGE_BYTES UINT64_C(4096)

/*
 * munmap takes any part of what was mapped: allocators map too much and give
 * head and tail back. The ledger knows blocks by their first byte alone.
 */

static uint64_t round_up(uint64_t size_bytes)
{
	return (size_bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
}

/* The first that ends behind addr. */
static size_t first_behind(const struct recorder *rec, uint64_t addr)
{
	size_t low = 0, high = rec->mappings.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (rec->mappings.items[middle].end <= addr)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void insert(struct recorder *rec, uint64_t start, uint64_t end)
{
	size_t i = first_behind(rec, start);

	tap_vector_add(&rec->mappings);
	memmove(&rec->mappings.items[i + 1], &rec->mappings.items[i],
		(rec->mappings.count - 1 - i) * sizeof(rec->mappings.items[0]));
	rec->mappings.items[i] = (struct mapping){start, end};
}

static void remove_at(struct recorder *rec, size_t i)
{
	rec->mappings.count--;
	memmove(&rec->mappings.items[i], &rec->mappings.items[i + 1],
		(rec->mappings.count - i) * sizeof(rec->mappings.items[0]));
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Of a hole's two sides one is the block, the other a new one. */
static void cut(struct recorder *rec, struct mapping mapping, uint64_t start, uint64_t end)
{
	bool head = start > mapping.start, tail = end < mapping.end;
	struct tap_ledger_block block, rest;

	if (!tap_ledger_take(rec->ledger, mapping.start, &block))
		return;
	if (!head && !tail) {
		tap_ledger_freed(rec->ledger, &block);
		return;
	}
	rest = block;
	rest.size_bytes = tail ? block.size_bytes - least(end - mapping.start, block.size_bytes) : 0;
	if (head) {
		tap_ledger_trimmed(rec->ledger, &block,
			block.size_bytes - least(start - mapping.start, block.size_bytes));
		tap_ledger_put_back(rec->ledger, mapping.start, &block);
		insert(rec, mapping.start, start);
		rest.baseline_bytes = 0;
		if (tail)
			tap_ledger_add(rec->ledger, end, &rest);
	} else {
		tap_ledger_trimmed(rec->ledger, &block, block.size_bytes - rest.size_bytes);
		tap_ledger_put_back(rec->ledger, end, &block);
	}
	if (tail)
		insert(rec, end, mapping.end);
}

bool mappings_unmap(struct recorder *rec, uint64_t start, uint64_t size_bytes)
{
	uint64_t end = start + round_up(size_bytes);
	bool any = false;

	if (start % PAGE_BYTES || end <= start)
		return false;
	for (;;) {
		size_t i = first_behind(rec, start);
		struct mapping mapping;

		if (i == rec->mappings.count || rec->mappings.items[i].start >= end)
			return any;
		mapping = rec->mappings.items[i];
		remove_at(rec, i);
		cut(rec, mapping, start, end);
		any = true;
	}
}

void mappings_forget(struct recorder *rec, uint64_t start)
{
	size_t i = first_behind(rec, start);

	if (i < rec->mappings.count && rec->mappings.items[i].start == start)
		remove_at(rec, i);
}

void mappings_add(struct recorder *rec, uint64_t start, uint64_t size_bytes)
{
	/* MAP_FIXED takes the place of what was there. */
	mappings_unmap(rec, start, size_bytes);
	if (start + round_up(size_bytes) > start)
		insert(rec, start, start + round_up(size_bytes));
}
