/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "session/root_areas.h"
#include "session/root_stacks.h"

#define PIECE ((size_t)256 << 10)

struct finder {
	const struct root_place *place;
	struct root_stacks stacks;
	size_t stack_at;
	struct page_set hidden; /* understood, or not in use */
	struct root_areas *areas;
};

static bool is_wanted(const struct tap_mapping *mapping)
{
	if (strncmp(mapping->path, "[v", 2) == 0)
		return false;
	return mapping->writable || (mapping->readable && !mapping->shared);
}

static bool is_module(const struct finder *finder, const struct tap_mapping *mapping)
{
	const struct tap_module *module;

	if (mapping->shared)
		return false;
	if (mapping->inode)
		return true;
	if (!finder->place->symbols)
		return false;
	module = tap_symbols_module_at(finder->place->symbols, mapping->start);
	return module && !module->retired;
}

static void add_area(struct finder *finder, const struct tap_mapping *mapping, uint64_t start,
	uint64_t end, pid_t tid)
{
	struct root_area area = {.start = start, .end = end, .tid = tid, .name = mapping->path};

	area.kind = tid ? ROOT_STACK : is_module(finder, mapping) ? ROOT_MODULE : ROOT_OTHER;
	area.copies_only = !mapping->writable;
	tap_vector_push(finder->areas, area);
}

/* Parts a piece of a mapping where stacks begin and end. */
static void add_piece(
	struct finder *finder, const struct tap_mapping *mapping, uint64_t start, uint64_t end)
{
	const struct root_stacks *stacks = &finder->stacks;

	while (start < end) {
		const struct root_stack *stack;
		uint64_t stop;

		while (finder->stack_at < stacks->count &&
			stacks->items[finder->stack_at].top <= start)
			finder->stack_at++;
		stack = finder->stack_at < stacks->count ? &stacks->items[finder->stack_at] : NULL;
		if (stack && stack->low <= start) {
			stop = stack->top < end ? stack->top : end;
			add_area(finder, mapping, start, stop, stack->tid);
		} else {
			stop = stack && stack->low < end ? stack->low : end;
			add_area(finder, mapping, start, stop, 0);
		}
		start = stop;
	}
}

static void add_mapping(struct finder *finder, const struct tap_mapping *mapping)
{
	struct page_set *hidden = &finder->hidden;
	uint64_t at = mapping->start;

	while (at < mapping->end) {
		const struct page_range *range;

		while (hidden->at < hidden->ranges.count &&
			hidden->ranges.items[hidden->at].end <= at)
			hidden->at++;
		range = hidden->at < hidden->ranges.count ? &hidden->ranges.items[hidden->at]
							  : NULL;
		if (!range || range->start >= mapping->end) {
			add_piece(finder, mapping, at, mapping->end);
			return;
		}
		if (range->start > at)
			add_piece(finder, mapping, at, range->start);
		at = range->end;
	}
}

static void hide(struct finder *finder, const struct root_thread *threads, size_t count,
	const struct page_set *understood)
{
	for (size_t i = 0; i < understood->ranges.count; i++)
		page_set_add(&finder->hidden, understood->ranges.items[i].start,
			understood->ranges.items[i].end);
	for (size_t i = 0; i < finder->stacks.count; i++)
		page_set_add(
			&finder->hidden, finder->stacks.items[i].base, finder->stacks.items[i].low);
	root_stacks_find_dead(finder->place, threads, count, understood, &finder->hidden);
	page_set_settle(&finder->hidden);
}

void root_areas_find(const struct root_place *place, const struct root_thread *threads,
	size_t count, const struct page_set *understood, struct root_areas *ret)
{
	struct finder finder = {.place = place, .areas = ret};

	memset(ret, 0, sizeof(*ret));
	root_stacks_find(place, threads, count, &finder.stacks);
	hide(&finder, threads, count, understood);
	for (size_t i = 0; i < place->maps->count; i++)
		if (is_wanted(&place->maps->items[i]))
			add_mapping(&finder, &place->maps->items[i]);
	tap_vector_free(&finder.stacks);
	page_set_deinit(&finder.hidden);
}

/* False: enough. */
static bool scan_run(const struct root_place *place, const struct root_area *area, uint64_t start,
	uint64_t end, uint64_t *words, root_words_fn fn, void *context)
{
	start = (start + 7) & ~UINT64_C(7);
	while (start + 8 <= end) {
		size_t size = end - start < PIECE ? (size_t)(end - start) : PIECE;

		size = tap_memory_glance(place->memory, start, words, size) & ~(size_t)7;
		if (!size)
			return true;
		if (!fn(context, area, start, words, size / 8))
			return false;
		start += size;
	}
	return true;
}

uint64_t root_area_scan(const struct root_place *place, const struct root_area *area, bool swapped,
	root_words_fn fn, void *context)
{
	_cleanup_free_ uint64_t *words = tap_alloc(PIECE);
	uint64_t page_end = (area->end + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
	uint64_t at = area->start & ~(PAGE_BYTES - 1), left_out = 0;
	struct tap_page_run run;

	for (; tap_pagemap_run(place->pagemap, at, page_end, &run); at = run.end) {
		uint64_t start = run.start > area->start ? run.start : area->start;
		uint64_t end = run.end < area->end ? run.end : area->end;

		if (run.kind == TAP_PAGE_ZERO || (area->copies_only && run.kind == TAP_PAGE_FILE))
			continue;
		if (run.kind == TAP_PAGE_SWAPPED && !swapped)
			left_out += end - start;
		else if (!scan_run(place, area, start, end, words, fn, context))
			break;
	}
	return left_out;
}
