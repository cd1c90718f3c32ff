/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "session/memory_table.h"
#include "session/page_set.h"

struct owner {
	struct page_set regions;
	struct page_weights live;
};

struct memory_shares {
	struct owner owners[MEMORY_OWNERS];
	struct page_set trimmable;
	struct page_set stacks;
};

/* While it is counted. */
struct counter {
	struct memory_shares *shares;
	struct memory_table *table;
	uint64_t live_present; /* bytes of live blocks, in memory or in swap */
};

struct memory_shares *memory_shares_create(void)
{
	return tap_alloc(sizeof(struct memory_shares));
}

void memory_shares_destroy(struct memory_shares *shares)
{
	if (!shares)
		return;
	for (int i = 0; i < MEMORY_OWNERS; i++) {
		page_set_deinit(&shares->owners[i].regions);
		page_weights_deinit(&shares->owners[i].live);
	}
	page_set_deinit(&shares->trimmable);
	page_set_deinit(&shares->stacks);
	free(shares);
}

void memory_shares_add_region(
	struct memory_shares *shares, enum memory_owner owner, uint64_t start, uint64_t end)
{
	page_set_add(&shares->owners[owner].regions, start, end);
}

void memory_shares_add_live(
	struct memory_shares *shares, enum memory_owner owner, uint64_t start, uint64_t end)
{
	page_weights_add(&shares->owners[owner].live, start, end);
}

void memory_shares_add_trimmable(struct memory_shares *shares, uint64_t start, uint64_t end)
{
	page_set_add(&shares->trimmable, start, end);
}

void memory_shares_add_stack(struct memory_shares *shares, uint64_t start, uint64_t end)
{
	page_set_add(&shares->stacks, start, end);
}

static bool begins_with(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

/* smaps shows no Rss for these. */
static bool is_counted(const struct tap_mapping *mapping)
{
	return !begins_with(mapping->path, "[vvar") && !begins_with(mapping->path, "[vsyscall") &&
	       !begins_with(mapping->path, "/anon_hugepage") &&
	       !begins_with(mapping->path, "/dev/hugepages/");
}

static bool is_shared_memory(const struct tap_mapping *mapping)
{
	return begins_with(mapping->path, "/dev/shm/") || begins_with(mapping->path, "/memfd:") ||
	       begins_with(mapping->path, "/SYSV") || begins_with(mapping->path, "/dev/zero");
}

static enum memory_row row_of(const struct tap_mapping *mapping)
{
	if (begins_with(mapping->path, "[stack"))
		return MEMORY_STACK;
	if (begins_with(mapping->path, "[vdso") || (mapping->inode && !is_shared_memory(mapping)))
		return MEMORY_CODE;
	return MEMORY_OTHER;
}

/* Pages that no owner knows. */
static void count_plain(
	struct counter *counter, const struct tap_mapping *mapping, uint64_t start, uint64_t end)
{
	enum memory_row row = row_of(mapping);

	while (start < end) {
		uint64_t stack = page_set_next(&counter->shares->stacks, start, end);

		counter->table->rows[row] += stack - start;
		if (stack == end)
			return;
		counter->table->rows[MEMORY_STACK] += PAGE_BYTES;
		start = stack + PAGE_BYTES;
	}
}

/* What owners have of a page, by rows. */
static uint64_t weigh(struct counter *counter, uint64_t addr, uint64_t *weights)
{
	uint64_t room = PAGE_BYTES;

	for (int i = 0; i < MEMORY_OWNERS; i++) {
		struct owner *owner = &counter->shares->owners[i];
		uint64_t bytes = page_set_bytes(&owner->regions, addr);
		uint64_t live = page_weights_bytes(&owner->live, addr);

		bytes = bytes < room ? bytes : room;
		live = live < bytes ? live : bytes;
		weights[2 * i] = live;
		weights[2 * i + 1] = bytes - live;
		counter->live_present += live;
		room -= bytes;
	}
	return PAGE_BYTES - room;
}

/* Rounded so that the shares add up to a page. */
static void count_shared(struct counter *counter, uint64_t addr, bool resident)
{
	uint64_t weights[2 * MEMORY_OWNERS], total = weigh(counter, addr, weights);
	uint64_t sum = 0, given = 0;

	for (int i = 0; i < 2 * MEMORY_OWNERS && resident; i++) {
		sum += weights[i];
		counter->table->rows[i] += sum * PAGE_BYTES / total - given;
		given = sum * PAGE_BYTES / total;
	}
}

static uint64_t next_owned(struct counter *counter, uint64_t addr, uint64_t end)
{
	for (int i = 0; i < MEMORY_OWNERS; i++)
		end = page_set_next(&counter->shares->owners[i].regions, addr, end);
	return end;
}

static void count_run(
	struct counter *counter, const struct tap_mapping *mapping, const struct tap_page_run *run)
{
	bool resident = run->kind != TAP_PAGE_SWAPPED;
	uint64_t at = run->start;

	if (!resident)
		counter->table->swapped += run->end - run->start;
	while (at < run->end) {
		uint64_t owned = next_owned(counter, at, run->end);

		if (resident)
			count_plain(counter, mapping, at, owned);
		for (at = owned; at < run->end && next_owned(counter, at, run->end) == at;
			at += PAGE_BYTES) {
			count_shared(counter, at, resident);
			if (resident)
				counter->table->trimmable +=
					page_set_bytes(&counter->shares->trimmable, at);
		}
	}
}

/* In a shared mapping a page is of a file, or of a device, whose memory is not
 * the process's. */
static bool is_wanted(const struct tap_mapping *mapping, const struct tap_page_run *run)
{
	return run->kind != TAP_PAGE_ZERO && !(mapping->shared && run->kind == TAP_PAGE_PRIVATE);
}

static uint64_t settle(struct memory_shares *shares)
{
	uint64_t live = 0;

	for (int i = 0; i < MEMORY_OWNERS; i++) {
		page_set_settle(&shares->owners[i].regions);
		page_weights_settle(&shares->owners[i].live);
		live += page_weights_total(&shares->owners[i].live);
	}
	page_set_settle(&shares->trimmable);
	page_set_settle(&shares->stacks);
	return live;
}

void memory_shares_count(struct memory_shares *shares, const struct tap_maps *maps,
	memory_run_fn next, void *context, struct memory_table *ret)
{
	struct counter counter = {.shares = shares, .table = ret};
	uint64_t live = settle(shares);

	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < maps->count; i++) {
		const struct tap_mapping *mapping = &maps->items[i];
		struct tap_page_run run;

		if (!is_counted(mapping))
			continue;
		for (uint64_t at = mapping->start; next(context, at, mapping->end, &run);
			at = run.end)
			if (is_wanted(mapping, &run))
				count_run(&counter, mapping, &run);
	}
	for (int i = 0; i < MEMORY_ROWS; i++)
		ret->rss += ret->rows[i];
	if (live > counter.live_present)
		ret->reserved_not_resident = live - counter.live_present;
}

static bool next_of_process(void *context, uint64_t addr, uint64_t end, struct tap_page_run *ret)
{
	return tap_pagemap_run(context, addr, end, ret);
}

struct tap_error *memory_shares_count_process(struct memory_shares *shares, pid_t pid,
	const struct tap_maps *maps, struct memory_table *ret)
{
	struct tap_pagemap *pagemap = tap_pagemap_open(pid);
	bool readable = tap_pagemap_is_readable(pagemap);

	if (readable)
		memory_shares_count(shares, maps, next_of_process, pagemap, ret);
	tap_pagemap_close(pagemap);
	if (!readable)
		return tap_error_new(TAP_ERR_PERMISSION,
			"cannot read /proc/%d/pagemap, which tells what is in memory", (int)pid);
	return NULL;
}
