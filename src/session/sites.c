/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/analysis/correlation.h"
#include "heaptap/analysis/growth.h"
#include "heaptap/base/alloc.h"
#include "heaptap/base/map.h"
#include "session/recorder.h"

#define INLINED_MAX 16
#define SEEN_LEAST_S 0.1

/* Frames that a captured frame stands for, more than one where functions were
 * inlined into it. */
struct resolved {
	struct tap_frame frames[INLINED_MAX];
	size_t count;
};

/* A site's figures before they are rounded: sampled blocks stand for more than
 * one each. */
struct sums {
	double live_bytes, live_blocks;
	double allocated_bytes, allocated_blocks, freed_bytes;
	double variance;
};

struct builder {
	struct recorder *rec;
	struct tap_trace_report *report;
	struct tap_map resolved;  /* frame key, and whether it is a call -> struct resolved * */
	struct tap_map site_of;   /* hash of a place -> site number, plus 1 */
	uint32_t *site_of_stack;  /* by stack: site number, plus 1; 0: not yet */
	TAP_VECTOR(double) heaviest; /* by site: bytes of the stack that is shown */
	TAP_VECTOR(struct sums) sums; /* by site */
};

static const struct resolved *resolve(struct builder *b, const struct tap_stack_frame *frame)
{
	bool is_python = frame->key & TAP_PYTHON_KEY, added;
	uint64_t *value = tap_map_put(
		&b->resolved, is_python ? frame->key : frame->key << 1 | frame->is_call, &added);
	struct resolved *resolved;

	if (!added)
		return (const struct resolved *)*value;
	resolved = tap_alloc(sizeof(*resolved));
	*value = (uint64_t)resolved;
	if (is_python) {
		tap_python_resolve(
			b->rec->python, frame->key, b->report->strings, &resolved->frames[0]);
		resolved->count = 1;
	} else {
		resolved->count = tap_symbols_resolve(b->rec->symbols, frame->key, frame->is_call,
			b->report->strings, resolved->frames, INLINED_MAX);
		for (size_t i = 0; i < resolved->count; i++)
			resolved->frames[i].trust = frame->trust;
	}
	return resolved;
}

static bool begins_with(const char *text, const char *prefix)
{
	return text && !strncmp(text, prefix, strlen(prefix));
}

static bool any_prefix(const char *text, const char *const *prefixes)
{
	for (; *prefixes; prefixes++)
		if (begins_with(text, *prefixes))
			return true;
	return false;
}

static const char *base_name(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash ? slash + 1 : path;
}

/* The allocator, the C library, and the languages' own libraries: they
 * allocate for somebody else. */
static bool is_runtime(struct builder *b, const struct tap_frame *frame)
{
	static const char *const modules[] = {"libc.so", "libc-", "ld-linux", "ld-musl",
		"libstdc++", "libc++", "libgcc_s", "libjemalloc", "libtcmalloc", "libmimalloc", NULL};
	static const char *const functions[] = {"operator new", "std::", "void std::", "__gnu_cxx::",
		"alloc::", "core::", "<alloc::", "<core::", "<std::", "__rust_", "__rdl_", "__rg_",
		NULL};
	static const char *const files[] = {"/rustc/", "/usr/include/c++/", NULL};

	if (any_prefix(base_name(frame->module), modules) ||
		any_prefix(frame->function, functions) || any_prefix(frame->file, files))
		return true;
	/* A static program has its allocator in itself. */
	for (size_t i = 0; frame->function && i < b->rec->entries.count; i++) {
		const struct tap_entry *entry = &b->rec->entries.items[i];

		if (entry->symbol && !strcmp(entry->symbol, frame->function))
			return true;
	}
	return false;
}

static void flatten(struct builder *b, uint32_t stack, struct tap_frame_list *ret)
{
	size_t count;
	const struct tap_stack_frame *frames = tap_stacks_frames(b->rec->stacks, stack, &count);

	for (size_t i = 0; i < count; i++) {
		const struct resolved *resolved = resolve(b, &frames[i]);

		for (size_t j = 0; j < resolved->count; j++)
			tap_vector_push(ret, resolved->frames[j]);
	}
}

/* The frame that a stack is counted under: the innermost of Python, else the
 * innermost outside of the allocator and the runtime libraries. */
static const struct tap_frame *choose(struct builder *b, const struct tap_frame_list *frames)
{
	for (size_t i = 0; i < frames->count; i++)
		if (frames->items[i].language == TAP_LANGUAGE_PYTHON)
			return &frames->items[i];
	for (size_t i = 0; i < frames->count; i++)
		if (!is_runtime(b, &frames->items[i]))
			return &frames->items[i];
	return frames->count ? &frames->items[0] : NULL;
}

/* Interned strings are equal if their addresses are. */
static uint64_t place_hash(const struct tap_frame *frame)
{
	uint64_t words[4] = {(uint64_t)frame->file, (uint64_t)frame->function,
		(uint64_t)frame->line, 0};

	if (!frame->file) {
		words[0] = (uint64_t)frame->module;
		words[3] = frame->offset;
	}
	return tap_hash_bytes(words, sizeof(words), 1);
}

static uint32_t find_site(struct builder *b, uint32_t stack)
{
	static const struct tap_frame nowhere;
	struct tap_frame_list frames = {0};
	const struct tap_frame *frame;
	struct tap_trace_site *site;
	uint64_t *number;
	bool added;

	if (b->site_of_stack[stack])
		return b->site_of_stack[stack] - 1;
	flatten(b, stack, &frames);
	frame = choose(b, &frames);
	if (!frame)
		frame = &nowhere;
	number = tap_map_put(&b->site_of, place_hash(frame), &added);
	if (added) {
		site = tap_vector_add(&b->report->sites);
		site->file = frame->file;
		site->line = frame->line;
		site->function = frame->function;
		site->language = frame->language;
		site->module = frame->module;
		site->module_offset = frame->offset;
		*tap_vector_add(&b->heaviest) = -INFINITY;
		tap_vector_add(&b->sums);
		*number = b->report->sites.count - 1;
	}
	tap_vector_free(&frames);
	b->site_of_stack[stack] = (uint32_t)*number + 1;
	return (uint32_t)*number;
}

static void add_cell(struct sums *sums, const struct tap_ledger_cell *cell)
{
	sums->live_bytes += cell->live_bytes;
	sums->live_blocks += cell->live_blocks;
	sums->allocated_bytes += cell->allocated_bytes;
	sums->allocated_blocks += cell->allocated_blocks;
	sums->freed_bytes += cell->freed_bytes;
	sums->variance += cell->variance;
}

/* unseen: the time in which nothing was, in times of the time in which all was. */
static void round_site(
	struct tap_trace_site *site, const struct sums *sums, double replaced,
	double replaced_variance, double duration_s, double unseen)
{
	double missed;

	site->live_bytes = llround(sums->live_bytes);
	site->live_blocks = llround(sums->live_blocks);
	site->allocated_bytes = (uint64_t)llround(sums->allocated_bytes);
	site->allocated_blocks = (uint64_t)llround(sums->allocated_blocks);
	site->freed_bytes = (uint64_t)llround(sums->freed_bytes);
	site->replaced_bytes = llround(replaced);
	site->growth_bytes = site->live_bytes - site->replaced_bytes;
	missed = (double)site->growth_bytes * unseen;
	site->standard_error_bytes =
		sqrt(fmax(0, sums->variance) + replaced_variance + missed * missed);
	if (duration_s > 0)
		site->growth_bytes_per_s = (double)site->growth_bytes / duration_s;
}

static void collect(struct builder *b, struct tap_growth_cell *growth)
{
	const struct tap_ledger_cell_list *cells = tap_ledger_cells(b->rec->ledger);

	for (size_t i = 0; i < cells->count; i++) {
		const struct tap_ledger_cell *cell = &cells->items[i];
		uint32_t site = find_site(b, cell->stack);

		add_cell(&b->sums.items[site], cell);
		growth[i] = (struct tap_growth_cell){.site = site,
			.size_class = cell->size_class,
			.live_blocks = cell->live_blocks,
			.live_bytes = cell->live_bytes,
			.freed_blocks = cell->freed_blocks};
	}
}

/* The stack with the most live bytes stands for its site. */
static void choose_stacks(struct builder *b)
{
	size_t stacks = tap_stacks_count(b->rec->stacks);
	const struct tap_ledger_cell_list *cells = tap_ledger_cells(b->rec->ledger);
	double *weight = tap_alloc((stacks + 1) * sizeof(*weight));

	for (size_t i = 0; i < cells->count; i++)
		weight[cells->items[i].stack] += cells->items[i].live_bytes;
	for (uint32_t stack = 0; stack < stacks; stack++) {
		uint32_t site;

		if (!b->site_of_stack[stack])
			continue;
		site = b->site_of_stack[stack] - 1;
		if (weight[stack] <= b->heaviest.items[site])
			continue;
		b->heaviest.items[site] = weight[stack];
		tap_vector_free(&b->report->sites.items[site].stack);
		flatten(b, stack, &b->report->sites.items[site].stack);
	}
	free(weight);
}

/* The stacks of each site in a row: those of site i are order[first[i]] up to
 * order[first[i + 1]]. first has room for one more than that. */
static void group_stacks(const struct builder *b, size_t *first, uint32_t *order)
{
	size_t stacks = tap_stacks_count(b->rec->stacks);

	for (size_t stack = 0; stack < stacks; stack++)
		if (b->site_of_stack[stack])
			first[b->site_of_stack[stack] + 1]++;
	for (size_t i = 1; i <= b->report->sites.count + 1; i++)
		first[i] += first[i - 1];
	/* Each start moves to its row's end, the start of the next. */
	for (size_t stack = 0; stack < stacks; stack++)
		if (b->site_of_stack[stack])
			order[first[b->site_of_stack[stack]]++] = (uint32_t)stack;
}

static void correlate(struct builder *b, const double *memory_bytes, size_t ticks)
{
	size_t sites = b->report->sites.count;
	double change = ticks ? memory_bytes[ticks - 1] - memory_bytes[0] : 0;
	double *curve = tap_alloc((ticks + 1) * sizeof(*curve));
	size_t *first = tap_alloc((sites + 2) * sizeof(*first));
	uint32_t *order = tap_alloc((tap_stacks_count(b->rec->stacks) + 1) * sizeof(*order));

	group_stacks(b, first, order);
	for (size_t i = 0; i < sites; i++) {
		struct tap_trace_site *site = &b->report->sites.items[i];

		memset(curve, 0, ticks * sizeof(*curve));
		for (size_t at = first[i]; at < first[i + 1]; at++)
			tap_ledger_add_curve(b->rec->ledger, order[at], curve, ticks);
		site->rss_correlation = tap_correlation(curve, memory_bytes, ticks);
		site->rss_share = change > 0 ? fmax(0, fmin(1, (double)site->growth_bytes / change))
					     : NAN;
	}
	free(order);
	free(first);
	free(curve);
}

static int by_growth(const void *a, const void *b)
{
	const struct tap_trace_site *x = a, *y = b;

	if (x->growth_bytes != y->growth_bytes)
		return x->growth_bytes < y->growth_bytes ? 1 : -1;
	if (x->live_bytes != y->live_bytes)
		return x->live_bytes < y->live_bytes ? 1 : -1;
	return (x->allocated_bytes < y->allocated_bytes) -
		(x->allocated_bytes > y->allocated_bytes);
}

static void fill_totals(struct recorder *rec, struct tap_trace_report *report)
{
	const struct tap_ledger_totals *totals = tap_ledger_totals(rec->ledger);
	struct tap_trace_totals *ret = &report->totals;

	ret->allocated_bytes = (uint64_t)llround(totals->allocated_bytes);
	ret->allocated_blocks = (uint64_t)llround(totals->allocated_blocks);
	ret->freed_bytes = (uint64_t)llround(totals->freed_bytes);
	ret->freed_blocks = (uint64_t)llround(totals->freed_blocks);
	ret->unseen_freed_bytes = (uint64_t)llround(totals->unseen_freed_bytes);
	ret->unseen_freed_blocks = (uint64_t)llround(totals->unseen_freed_blocks);
	ret->netted = !totals->unclassed_unseen_blocks && !rec->old_unknown;
	ret->lost_samples = rec->lost_calls;
	for (size_t i = 0; i < report->sites.count; i++) {
		ret->live_bytes += report->sites.items[i].live_bytes;
		ret->live_blocks += report->sites.items[i].live_blocks;
		ret->growth_bytes += report->sites.items[i].growth_bytes;
	}
}

static void free_resolved(struct builder *b)
{
	struct tap_map_slot *slot;

	for (size_t i = 0; tap_map_next(&b->resolved, &i, &slot);)
		free((void *)slot->value);
	tap_map_deinit(&b->resolved);
	tap_map_deinit(&b->site_of);
	tap_vector_free(&b->heaviest);
	tap_vector_free(&b->sums);
	free(b->site_of_stack);
}

void sites_build(struct recorder *rec, struct tap_trace_report *report,
	const double *memory_bytes, size_t ticks)
{
	struct builder b = {.rec = rec, .report = report};
	size_t cells = tap_ledger_cells(rec->ledger)->count;
	struct tap_growth_cell *growth = tap_alloc((cells + 1) * sizeof(*growth));
	double unseen = report->unseen_s > 0 ?
		report->unseen_s / fmax(report->duration_s - report->unseen_s, SEEN_LEAST_S) :
		0;
	double *replaced, *variance;

	/* What changed since the last tick came by. */
	if (ticks)
		tap_ledger_tick(rec->ledger, (uint32_t)ticks - 1);
	b.site_of_stack =
		tap_alloc((tap_stacks_count(rec->stacks) + 1) * sizeof(*b.site_of_stack));
	collect(&b, growth);
	replaced = tap_alloc((report->sites.count + 1) * sizeof(*replaced));
	variance = tap_alloc((report->sites.count + 1) * sizeof(*variance));
	tap_growth_net(growth, cells, tap_ledger_classes(rec->ledger), replaced, variance);
	for (size_t i = 0; i < report->sites.count; i++)
		round_site(&report->sites.items[i], &b.sums.items[i], replaced[i], variance[i],
			report->duration_s, unseen);
	choose_stacks(&b);
	correlate(&b, memory_bytes, ticks);
	fill_totals(rec, report);
	qsort(report->sites.items, report->sites.count, sizeof(*report->sites.items), by_growth);
	free(variance);
	free(replaced);
	free(growth);
	free_resolved(&b);
}
