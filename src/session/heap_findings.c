/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/map.h"
#include "session/heap_findings.h"
#include "session/preview.h"

static bool is_object(const struct heap_model *model, uint32_t node)
{
	return heap_model_type(model, node) != UINT32_MAX;
}

/* --- what nothing holds ---------------------------------------------------------- */

/* A block that no object leads to either: a cycle's buffers belong to it. */
static bool is_lost_block(const struct heap_model *model, uint32_t node)
{
	const uint32_t *referrers;
	size_t count;

	if (is_object(model, node) || tap_graph_is_reached(model->graph, node))
		return false;
	referrers = tap_graph_referrers(model->graph, node, &count);
	for (size_t i = 0; i < count; i++)
		if (is_object(model, referrers[i]))
			return false;
	return true;
}

static const char *preview(const struct heap_model *model, uint32_t node)
{
	uint64_t addr = tap_graph_addr(model->graph, node), size = tap_graph_size(model->graph, node);
	uint8_t bytes[PREVIEW_BYTES];
	char text[PREVIEW_TEXT];

	size = size < sizeof(bytes) ? size : sizeof(bytes);
	if (!tap_memory_try_read(model->look->memory, addr, bytes, size))
		return NULL;
	return tap_strings_add(model->strings,
		preview_block(bytes, size, model->look->symbols, model->strings, text));
}

static void add_lost_block(const struct heap_model *model, uint32_t node,
	struct tap_map *group_of, struct tap_unreachable *lost)
{
	uint64_t owned = tap_graph_owned(model->graph, node), *slot;
	struct tap_lost_group *group;
	bool added;

	lost->c_blocks++;
	lost->c_bytes += owned;
	slot = tap_map_put(group_of, tap_graph_size(model->graph, node), &added);
	if (added) {
		group = tap_vector_add(&lost->groups);
		*slot = lost->groups.count - 1;
		group->size_bytes = tap_graph_size(model->graph, node);
		group->preview = preview(model, node);
	}
	group = &lost->groups.items[*slot];
	group->count++;
	group->bytes += owned;
}

static int by_bytes(const void *a, const void *b)
{
	const struct tap_lost_group *left = a, *right = b;

	return (left->bytes < right->bytes) - (left->bytes > right->bytes);
}

static int by_count(const void *a, const void *b)
{
	const struct tap_type_count *left = a, *right = b;

	return (left->count < right->count) - (left->count > right->count);
}

void heap_findings_rank_types(const struct heap_model *model, const uint64_t *counts,
	struct tap_type_count_list *ret)
{
	uint32_t types = model->python ? tap_python_heap_types(model->python) : 0;

	for (uint32_t type = 0; type < types; type++)
		if (counts[type])
			tap_vector_push(ret,
				((struct tap_type_count){
					tap_strings_add(model->strings,
						tap_python_heap_type(model->python, type)->name),
					counts[type]}));
	if (ret->count)
		qsort(ret->items, ret->count, sizeof(*ret->items), by_count);
}

void heap_findings_lost(const struct heap_model *model, struct tap_heap_report *report)
{
	uint32_t types = model->python ? tap_python_heap_types(model->python) : 0;
	uint64_t *counts = tap_alloc((types + (size_t)1) * sizeof(*counts));
	struct tap_unreachable *lost = &report->unreachable;
	struct tap_map group_of = {0};

	for (uint32_t node = 0; node < tap_graph_count(model->graph); node++) {
		if (tap_graph_is_reached(model->graph, node)) {
			if (!is_object(model, node) &&
				!(model->started[node / 64] >> node % 64 & 1))
				lost->interior_blocks++;
			continue;
		}
		if (is_lost_block(model, node)) {
			add_lost_block(model, node, &group_of, lost);
			continue;
		}
		lost->python_bytes += tap_graph_owned(model->graph, node);
		if (is_object(model, node)) {
			lost->python_objects++;
			counts[heap_model_type(model, node)]++;
		}
	}
	if (lost->groups.count)
		qsort(lost->groups.items, lost->groups.count, sizeof(*lost->groups.items),
			by_bytes);
	heap_findings_rank_types(model, counts, &lost->python_types);
	tap_map_deinit(&group_of);
	free(counts);
}

/* --- types ------------------------------------------------------------------------- */

struct by_type {
	uint64_t count, own_bytes;
};

static int by_own(const void *a, const void *b)
{
	const struct tap_heap_type *left = a, *right = b;

	if (left->own_bytes != right->own_bytes)
		return left->own_bytes < right->own_bytes ? 1 : -1;
	return strcmp(left->type, right->type);
}

static void add_type(const struct heap_model *model, uint32_t type, const struct by_type *sum,
	uint64_t retained_bytes, struct tap_heap_report *report)
{
	struct tap_heap_type *row = tap_vector_add(&report->types);

	row->type = tap_strings_add(model->strings, tap_python_heap_type(model->python, type)->name);
	row->count = sum->count;
	row->own_bytes = sum->own_bytes;
	row->retained_bytes = retained_bytes;
}

void heap_findings_types(const struct heap_model *model, struct tap_heap_report *report)
{
	uint32_t types = model->python ? tap_python_heap_types(model->python) : 0;
	uint32_t nodes = tap_graph_count(model->graph);
	struct by_type *sums = tap_alloc((types + (size_t)1) * sizeof(*sums));
	uint64_t *retained = tap_alloc((types + (size_t)1) * sizeof(*retained));
	uint32_t *classes = tap_alloc((nodes + (size_t)1) * sizeof(*classes));

	for (uint32_t node = 0; node < nodes; node++) {
		struct tap_python_object object;

		classes[node] = heap_model_type(model, node);
		if (!heap_model_object(model, node, &object))
			continue;
		sums[object.type].count++;
		sums[object.type].own_bytes += tap_python_heap_sizeof(model->python, &object);
	}
	tap_graph_retained_by_class(model->graph, classes, types, retained);
	for (uint32_t type = 0; type < types; type++)
		if (sums[type].count)
			add_type(model, type, &sums[type], retained[type], report);
	if (report->types.count)
		qsort(report->types.items, report->types.count, sizeof(*report->types.items),
			by_own);
	free(sums);
	free(retained);
	free(classes);
}

/* --- memory ------------------------------------------------------------------------ */

struct tap_error *heap_findings_memory(
	const struct heap_model *model, struct tap_heap_report *report)
{
	struct memory_table table = {0};
	struct tap_maps maps = {0};
	/* Of the process itself: a copy has no pages of files until it looks at them. */
	struct tap_error *err = tap_maps_read(model->process_pid, &maps);

	if (!err)
		err = memory_shares_count_process(
			model->shares, model->process_pid, &maps, &table);
	tap_maps_deinit(&maps);
	if (err)
		return err;
	report->memory = (struct tap_memory_table){
		.rss_bytes = table.rss,
		.python_live_bytes = table.rows[MEMORY_PYTHON_LIVE],
		.python_free_bytes = table.rows[MEMORY_PYTHON_FREE],
		.c_live_bytes = table.rows[MEMORY_C_LIVE],
		.c_free_bytes = table.rows[MEMORY_C_FREE],
		.code_bytes = table.rows[MEMORY_CODE],
		.stack_bytes = table.rows[MEMORY_STACK],
		.other_bytes = table.rows[MEMORY_OTHER],
		.reserved_not_resident_bytes = table.reserved_not_resident,
		.swapped_bytes = table.swapped,
		.trimmable_bytes = table.trimmable,
	};
	return NULL;
}
