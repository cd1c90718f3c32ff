/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/log.h"
#include "heaptap/base/text.h"
#include "session/heap_model.h"
#include "session/heap_scan.h"

/* A node's tag: its type's number plus 1, 0 for a plain block; whether pymalloc
 * handed it out; and what lies in front of the object, in units of 8 bytes. */
#define TAG_TYPE_MASK ((UINT32_C(1) << 28) - 1)
#define TAG_POOLED (UINT32_C(1) << 28)
#define TAG_LEAD_SHIFT 29
#define LEAD_UNIT 8

static bool get_bit(const uint64_t *bits, uint32_t node)
{
	return bits[node / 64] >> node % 64 & 1;
}

static void set_bit(uint64_t *bits, uint32_t node)
{
	bits[node / 64] |= UINT64_C(1) << node % 64;
}

bool heap_model_is_pooled(const struct heap_model *model, uint32_t node)
{
	return tap_graph_tag(model->graph, node) & TAG_POOLED;
}

uint32_t heap_model_type(const struct heap_model *model, uint32_t node)
{
	return (tap_graph_tag(model->graph, node) & TAG_TYPE_MASK) - 1;
}

static uint32_t lead_of(const struct heap_model *model, uint32_t node)
{
	return (tap_graph_tag(model->graph, node) >> TAG_LEAD_SHIFT) * LEAD_UNIT;
}

bool heap_model_object(
	const struct heap_model *model, uint32_t node, struct tap_python_object *ret)
{
	uint32_t type = heap_model_type(model, node);

	if (type == UINT32_MAX)
		return false;
	ret->type = type;
	ret->lead_bytes = lead_of(model, node);
	ret->addr = tap_graph_addr(model->graph, node) + ret->lead_bytes;
	return true;
}

/* --- nodes ------------------------------------------------------------------ */

static bool on_pool_block(void *context, uint64_t addr, uint32_t block_bytes)
{
	struct heap_model *model = context;

	tap_graph_add_node(model->graph, addr, block_bytes, block_bytes, TAG_POOLED);
	memory_shares_add_live(model->shares, MEMORY_PYTHON, addr, addr + block_bytes);
	return true;
}

static void on_pool(void *context, const struct tap_pool *pool)
{
	struct heap_model *model = context;
	uint64_t end = pool->addr + pool->size_bytes;

	tap_heap_ranges_add(&model->pools, pool->addr, end);
	page_set_add(&model->understood, pool->addr, end);
	memory_shares_add_region(model->shares, MEMORY_PYTHON, pool->addr, end);
}

static struct tap_error *walk_pools(struct heap_model *model)
{
	const struct tap_pool_visitor visitor = {
		.context = model, .block = on_pool_block, .pool = on_pool};
	struct tap_python *python = model->look->python;
	struct tap_pool_walk walk = {0};
	struct tap_error *err;

	if (!python || !tap_python_info(python)->supported)
		return NULL;
	err = tap_python_heap_open(python, &model->look->maps, &model->python);
	if (!err)
		err = tap_python_pools_visit(
			python, model->pid, &model->look->maps, &visitor, &walk);
	if (walk.mismatches && !model->stopped_by) {
		_cleanup_free_ char *text = tap_format("%llu pools of pymalloc do not add up",
			(unsigned long long)walk.mismatches);

		model->stopped_by = tap_strings_add(model->strings, text);
	}
	return err;
}

static bool on_chunk(void *context, const struct tap_heap_block *block)
{
	struct heap_model *model = context;
	uint64_t start = block->addr - block->lead_bytes;

	tap_graph_add_node(
		model->graph, block->addr, block->usable_bytes, block->chunk_bytes, 0);
	memory_shares_add_live(model->shares, MEMORY_C, start, start + block->chunk_bytes);
	return true;
}

static void on_region(void *context, const struct tap_heap_range *region)
{
	struct heap_model *model = context;

	page_set_add(&model->understood, region->start, region->end);
	memory_shares_add_region(model->shares, MEMORY_C, region->start, region->end);
}

static void on_trimmable(void *context, const struct tap_heap_range *pages)
{
	struct heap_model *model = context;

	memory_shares_add_trimmable(model->shares, pages->start, pages->end);
}

static void walk_c_heap(struct heap_model *model)
{
	const struct tap_heap_visitor visitor = {.context = model, .others = &model->pools,
		.block = on_chunk, .region = on_region, .trimmable = on_trimmable};
	struct tap_heap_walk walk = {0};
	_cleanup_error_ struct tap_error *err = NULL;
	struct tap_heap_range arena;

	err = tap_glibc_open(model->look->symbols, model->look->memory, model->pid, &model->glibc);
	if (!err)
		err = tap_glibc_visit(model->glibc, &visitor, &walk);
	if (err) {
		tap_log_detail("the C heap: %s", err->message);
		return;
	}
	tap_glibc_main_arena(model->glibc, &arena);
	page_set_add(&model->understood, arena.start, arena.end);
	if (walk.stops && !model->stopped_by) {
		_cleanup_free_ char *text = tap_format("the C heap at 0x%llx: %s",
			(unsigned long long)walk.stop_addr, walk.stop_reason);

		model->stopped_by = tap_strings_add(model->strings, text);
	}
}

/* What says that it is larger than the block that it lies in is something else: a
 * tuple has its items inside, a str at most a second form of itself elsewhere. */
static bool fits(const struct heap_model *model, const struct tap_python_object *object,
	uint64_t size_bytes)
{
	enum tap_python_kind kind = tap_python_heap_type(model->python, object->type)->kind;

	if (kind == TAP_PYTHON_TUPLE)
		return tap_python_heap_sizeof(model->python, object) <= size_bytes;
	return kind != TAP_PYTHON_ATOM ||
	       tap_python_heap_sizeof(model->python, object) <= 8 * size_bytes;
}

/* Which of them are objects of CPython's. */
static void find_objects(struct heap_model *model)
{
	struct tap_window window;
	struct tap_graph *graph = model->graph;

	tap_window_init(&window, model->look->memory);
	for (uint32_t node = 0; node < tap_graph_count(graph); node++) {
		uint64_t addr = tap_graph_addr(graph, node), size = tap_graph_size(graph, node);
		const uint8_t *bytes = tap_window_at(&window, addr, size < 64 ? size : 64);
		struct tap_python_object object;

		model->live_bytes += tap_graph_owned(graph, node);
		model->blocks++;
		if (!model->python || !bytes ||
			!tap_python_heap_object(model->python, addr, bytes, size, &object) ||
			!fits(model, &object, size))
			continue;
		model->objects++;
		tap_graph_set_tag(graph, node,
			(tap_graph_tag(graph, node) & TAG_POOLED) | (object.type + 1) |
				object.lead_bytes / LEAD_UNIT << TAG_LEAD_SHIFT);
	}
	tap_window_deinit(&window);
}

/* --- edges ------------------------------------------------------------------ */

struct linking {
	struct heap_model *model;
	uint32_t from; /* TAP_GRAPH_NONE: a root */
	enum heap_root_rank rank;
	uint32_t label;
};

static void link_to(struct linking *linking, uint64_t addr)
{
	struct heap_model *model = linking->model;
	uint32_t to = tap_graph_find(model->graph, addr);
	uint64_t begin;

	if (to == TAP_GRAPH_NONE)
		return;
	begin = tap_graph_addr(model->graph, to);
	if (addr == begin || addr == begin + lead_of(model, to))
		set_bit(model->started, to);
	if (linking->from == TAP_GRAPH_NONE)
		tap_graph_add_root(model->graph, to, (uint8_t)linking->rank, linking->label);
	else
		tap_graph_add_edge(model->graph, linking->from, to);
}

static bool on_reference(void *context, uint64_t addr)
{
	link_to(context, addr);
	return true;
}

/* A word that may be a pointer. What looks like one into an object's table is more
 * likely left over from a call that went through it: the object holds it. */
static void on_word(void *context, uint64_t at, uint64_t word)
{
	struct linking *linking = context;
	uint32_t to = tap_graph_find(linking->model->graph, word);

	(void)at;
	if (to != TAP_GRAPH_NONE && !get_bit(linking->model->parts, to))
		link_to(linking, word);
}

static bool on_part(void *context, uint64_t addr)
{
	struct heap_model *model = context;
	uint32_t node = tap_graph_find(model->graph, addr);

	if (node != TAP_GRAPH_NONE && heap_model_type(model, node) == UINT32_MAX)
		set_bit(model->parts, node);
	return true;
}

/* What an object's tables and buffers refer to is told by the object; all else in
 * them is left over from what was there before, or numbers. */
static void find_parts(struct heap_model *model)
{
	for (uint32_t node = 0; node < tap_graph_count(model->graph); node++) {
		struct tap_python_object object;
		enum tap_python_kind kind;

		if (!heap_model_object(model, node, &object))
			continue;
		kind = tap_python_heap_type(model->python, object.type)->kind;
		if (kind != TAP_PYTHON_ATOM && kind != TAP_PYTHON_TUPLE && kind != TAP_PYTHON_OTHER)
			tap_python_heap_references(model->python, &object, on_part, model);
	}
}

static void link_node(struct linking *linking, struct tap_window *window)
{
	struct heap_model *model = linking->model;
	uint64_t addr = tap_graph_addr(model->graph, linking->from);
	uint64_t size = tap_graph_size(model->graph, linking->from);
	struct tap_python_object object;
	uint32_t lead = 0;

	if (heap_model_object(model, linking->from, &object)) {
		if (tap_python_heap_references(model->python, &object, on_reference, linking))
			return;
		lead = object.lead_bytes;
	} else if (get_bit(model->parts, linking->from)) {
		return;
	}
	heap_scan(window, addr + lead, addr + size, on_word, linking);
}

static void link_nodes(struct heap_model *model)
{
	struct tap_window window;
	struct linking linking = {.model = model};

	tap_window_init(&window, model->look->memory);
	if (model->python)
		find_parts(model);
	for (uint32_t node = 0; node < tap_graph_count(model->graph); node++) {
		linking.from = node;
		link_node(&linking, &window);
	}
	tap_window_deinit(&window);
}

/* --- roots ------------------------------------------------------------------ */

static uint32_t add_label(
	struct heap_model *model, enum heap_root_rank rank, const char *name, uint64_t addr)
{
	tap_vector_push(&model->roots,
		((struct heap_root){rank, tap_strings_add(model->strings, name), addr}));
	return (uint32_t)model->roots.count - 1;
}

static bool on_python_root(void *context, const struct tap_python_root *root)
{
	static const enum heap_root_rank ranks[] = {
		[TAP_PYTHON_ROOT_MODULES] = HEAP_ROOT_MODULES,
		[TAP_PYTHON_ROOT_FRAME] = HEAP_ROOT_FRAMES,
		[TAP_PYTHON_ROOT_THREAD] = HEAP_ROOT_THREADS,
		[TAP_PYTHON_ROOT_STATIC] = HEAP_ROOT_PYTHON,
		[TAP_PYTHON_ROOT_RUNTIME] = HEAP_ROOT_PYTHON,
	};
	struct heap_model *model = context;
	struct linking linking = {
		.model = model, .from = TAP_GRAPH_NONE, .rank = ranks[root->kind]};

	linking.label = add_label(model, linking.rank, root->name, 0);
	link_to(&linking, root->addr);
	return true;
}

/* Each global has a name of its own. */
static void on_native_word(void *context, uint64_t at, uint64_t word)
{
	struct linking *linking = context;
	uint32_t to = tap_graph_find(linking->model->graph, word);

	if (to == TAP_GRAPH_NONE || get_bit(linking->model->parts, to))
		return;
	linking->rank = HEAP_ROOT_NATIVE;
	linking->label = add_label(linking->model, HEAP_ROOT_NATIVE, NULL, at);
	link_to(linking, word);
}

static bool on_words(void *context, const struct root_area *area, uint64_t addr,
	const uint64_t *words, size_t count)
{
	heap_scan_words(addr, words, count,
		area->kind == ROOT_MODULE ? on_native_word : on_word, context);
	return true;
}

static char *area_name(const struct root_area *area)
{
	if (area->kind == ROOT_STACK)
		return tap_format("the stack of thread %d", (int)area->tid);
	return *area->name ? tap_strdup(area->name) : tap_strdup("other memory");
}

static void add_areas(
	struct heap_model *model, const struct root_thread *threads, size_t thread_count)
{
	struct tap_pagemap *pagemap = tap_pagemap_open(model->pid);
	const struct root_place place = {
		&model->look->maps, model->look->memory, pagemap, model->look->symbols};
	struct root_areas areas = {0};

	page_set_settle(&model->understood);
	root_areas_find(&place, threads, thread_count, &model->understood, &areas);
	for (size_t i = 0; i < areas.count; i++) {
		const struct root_area *area = &areas.items[i];
		_cleanup_free_ char *name = area_name(area);
		struct linking linking = {
			.model = model, .from = TAP_GRAPH_NONE, .rank = HEAP_ROOT_OTHER};

		if (area->kind == ROOT_STACK)
			memory_shares_add_stack(model->shares, area->start, area->end);
		linking.label = add_label(model, HEAP_ROOT_OTHER, name, 0);
		root_area_scan(&place, area, false, on_words, &linking);
	}
	tap_vector_free(&areas);
	tap_pagemap_close(pagemap);
}

/* Registers are roots as well. */
static void add_registers(
	struct heap_model *model, const struct root_thread *threads, size_t thread_count)
{
	struct linking linking = {
		.model = model, .from = TAP_GRAPH_NONE, .rank = HEAP_ROOT_OTHER};

	linking.label = add_label(model, HEAP_ROOT_OTHER, "a register", 0);
	for (size_t i = 0; i < thread_count; i++) {
		struct tap_regs regs = threads[i].regs;

		for (unsigned number = 0; number < TAP_DWARF_REGS; number++)
			on_word(&linking, 0, *tap_regs_dwarf(&regs, number));
	}
}

struct tap_error *heap_model_build(const struct tap_look *look, pid_t pid, pid_t process_pid,
	const struct root_thread *threads, size_t thread_count, struct tap_strings *strings,
	struct heap_model *ret)
{
	struct tap_error *err;
	uint64_t dropped = 0;
	size_t words;

	*ret = (struct heap_model){
		.look = look,
		.pid = pid,
		.process_pid = process_pid,
		.strings = strings,
		.graph = tap_graph_create(),
		.shares = memory_shares_create(),
	};
	tap_memory_cache(look->memory, TAP_MEMORY_CACHE_PIECES);
	err = walk_pools(ret);
	walk_c_heap(ret);
	if (!err)
		err = tap_graph_seal(ret->graph, &dropped);
	if (err)
		return err;
	if (dropped && !ret->stopped_by)
		ret->stopped_by = "blocks of two allocators overlap: the heap changed while it was read";
	words = tap_graph_count(ret->graph) / 64 + 1;
	ret->started = tap_alloc(words * sizeof(*ret->started));
	ret->parts = tap_alloc(words * sizeof(*ret->parts));
	find_objects(ret);
	link_nodes(ret);
	if (ret->python)
		tap_python_heap_roots(ret->python, on_python_root, ret);
	add_areas(ret, threads, thread_count);
	add_registers(ret, threads, thread_count);
	return tap_graph_finish(ret->graph);
}

void heap_model_deinit(struct heap_model *model)
{
	tap_python_heap_close(model->python);
	tap_glibc_close(model->glibc);
	tap_graph_destroy(model->graph);
	memory_shares_destroy(model->shares);
	page_set_deinit(&model->understood);
	tap_vector_free(&model->pools);
	tap_vector_free(&model->roots);
	free(model->started);
	free(model->parts);
	memset(model, 0, sizeof(*model));
}
