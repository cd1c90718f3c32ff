/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What frames hold: variables, then operands. To 3.10 in frame objects; from
 * 3.11 on in frames on a stack of their own, in generators, and, once they have
 * been left and something still refers to them, in frame objects.
 */

#include "python/heap_edges.h"

#define MAX_WORDS (1u << 20) /* variables; operands */
#define CHUNK_WORDS 128
#define TAG_BITS UINT64_C(3)
/* 3.11 to 3.14, FRAME_CLEARED. From 3.15 on such a frame has no words. */
#define STATE_CLEARED 4
/* See frames.c: from here on a frame runs no Python function. */
#define OWNER_SHIM 3

uint64_t tap_python_local_object(const struct tap_python_heap *heap, uint64_t word)
{
	if (heap->layout->minor < 14)
		return word;
	/* 0: counted, 1: not counted, and nothing else; the others are none. */
	return (word & TAG_BITS) <= 1 && word > 1 ? word & ~TAG_BITS : 0;
}

static bool read_code(struct tap_python_heap *heap, uint64_t code, int32_t offset, uint64_t *ret)
{
	uint32_t value;

	*ret = 0;
	if (!tap_python_heap_field32(heap, code, offset, &value) || value > MAX_WORDS)
		return false;
	*ret = value;
	return true;
}

/* words: UINT64_MAX where it is not told how many are in use. */
static bool set_words(struct tap_python_heap *heap, struct tap_python_locals *ret, uint64_t words)
{
	uint64_t operands;

	if (ret->variables > MAX_WORDS ||
		!read_code(heap, ret->code, heap->layout->code_values.stacksize, &operands))
		return false;
	ret->room = ret->variables + operands;
	ret->is_told = words <= ret->room;
	ret->words = ret->is_told ? words : ret->variables;
	return true;
}

static bool read_frame_object(
	struct tap_python_heap *heap, uint64_t frame, struct tap_python_locals *ret)
{
	const struct tap_python_layout *layout = heap->layout;
	uint64_t operands, top = 0, words = UINT64_MAX;
	uint32_t depth;

	if (!tap_python_heap_field(heap, frame, layout->frame_object_values.code, &ret->code) ||
		!tap_python_heap_field(
			heap, frame, layout->frame_object_values.value_stack, &operands) ||
		!tap_python_heap_field(
			heap, frame, layout->frame_object_values.globals, &ret->globals) ||
		!tap_python_heap_field(
			heap, frame, layout->frame_object_values.locals, &ret->names))
		return false;
	ret->first = frame + (uint64_t)layout->frame_object_values.localsplus;
	if (operands < ret->first)
		return false;
	ret->variables = (operands - ret->first) / 8;
	if (tap_python_heap_field(heap, frame, layout->frame_object_values.stack_top, &top) &&
		top >= operands)
		words = (top - ret->first) / 8;
	if (tap_python_heap_field32(
		    heap, frame, layout->frame_object_values.stack_depth, &depth) &&
		depth <= MAX_WORDS)
		words = ret->variables + depth;
	return set_words(heap, ret, words);
}

static bool read_frame(struct tap_python_heap *heap, uint64_t frame, struct tap_python_locals *ret)
{
	const struct tap_python_layout *layout = heap->layout;
	uint8_t copy[TAP_PYTHON_STRUCT];
	uint64_t words = UINT64_MAX, top;

	if (!tap_memory_try_read(
		    heap->memory, frame, copy, (size_t)layout->frame_values.localsplus))
		return false;
	ret->owner = copy[layout->frame.owner];
	if (layout->minor >= 12 && ret->owner >= OWNER_SHIM)
		return false;
	ret->code = tap_python_local_object(heap, tap_python_u64(copy, layout->frame.code));
	ret->function = tap_python_local_object(
		heap, tap_python_u64(copy, layout->frame_values.function));
	ret->names = tap_python_u64(copy, layout->frame_values.locals);
	ret->globals = tap_python_u64(copy, layout->frame_values.globals);
	ret->frame_object = tap_python_u64(copy, layout->frame_values.frame_object);
	ret->first = frame + (uint64_t)layout->frame_values.localsplus;
	top = tap_python_u64(copy, layout->frame_values.stack_pointer);
	if (layout->frame_values.stack_pointer < 0)
		words = tap_python_u32(copy, layout->frame_values.stack_top);
	else if (top >= ret->first)
		words = (top - ret->first) / 8;
	return read_code(heap, ret->code, layout->code_values.nlocalsplus, &ret->variables) &&
	       set_words(heap, ret, words);
}

bool tap_python_locals_read(
	struct tap_python_heap *heap, uint64_t frame, struct tap_python_locals *ret)
{
	*ret = (struct tap_python_locals){0};
	return heap->layout->minor < 11 ? read_frame_object(heap, frame, ret)
					: read_frame(heap, frame, ret);
}

/* --- edges --------------------------------------------------------------------- */

static void add_words(struct tap_python_edges *edges, const struct tap_python_locals *locals)
{
	uint64_t words[CHUNK_WORDS];

	for (uint64_t done = 0; done < locals->words; done += CHUNK_WORDS) {
		uint64_t count = locals->words - done;

		if (count > CHUNK_WORDS)
			count = CHUNK_WORDS;
		if (!tap_memory_try_read(
			    edges->heap->memory, locals->first + done * 8, words, count * 8))
			return;
		for (uint64_t i = 0; i < count; i++) {
			bool is_variable = done + i < locals->variables;
			struct tap_python_edge edge = {
				.addr = tap_python_local_object(edges->heap, words[i]),
				.how = is_variable ? TAP_PYTHON_EDGE_LOCAL : TAP_PYTHON_EDGE_PLAIN,
				.number = done + i,
				.key = locals->code,
			};

			if (!tap_python_edges_give(edges, &edge))
				return;
		}
	}
}

static void add_field(struct tap_python_edges *edges, int32_t offset, const char *text)
{
	tap_python_edges_give(edges,
		&(struct tap_python_edge){.addr = tap_python_edges_field(edges, offset),
			.how = TAP_PYTHON_EDGE_FIELD,
			.text = text});
}

/* Globals and builtins are the function's. */
static void add_frame(struct tap_python_edges *edges, uint64_t frame)
{
	struct tap_python_locals locals;

	if (!tap_python_locals_read(edges->heap, frame, &locals))
		return;
	add_words(edges, &locals);
	tap_python_edges_add(edges, locals.names, TAP_PYTHON_EDGE_NAMESPACE);
	tap_python_edges_add(edges, locals.function, TAP_PYTHON_EDGE_PLAIN);
	tap_python_edges_add(edges, locals.code, TAP_PYTHON_EDGE_PLAIN);
	tap_python_edges_add(edges, locals.frame_object, TAP_PYTHON_EDGE_PLAIN);
}

void tap_python_edges_of_frame(struct tap_python_edges *edges)
{
	const struct tap_python_layout *layout = edges->heap->layout;
	uint64_t own = edges->addr + (uint64_t)layout->frame_object_values.frame_data;

	add_field(edges, layout->frame_object_values.back, ".f_back");
	add_field(edges, layout->frame_object_values.trace, ".f_trace");
	if (layout->minor < 11) {
		add_frame(edges, edges->addr);
		add_field(edges, layout->frame_object_values.globals, ".f_globals");
		add_field(edges, layout->frame_object_values.builtins, ".f_builtins");
		return;
	}
	add_field(edges, layout->frame_object_values.extra_locals, ".f_locals");
	add_field(edges, layout->frame_object_values.locals_cache, ".f_locals");
	add_field(edges, layout->frame_object_values.overwritten_locals, "");
	/* Else it is on a stack, or in a generator, whose it is then. */
	if (tap_python_edges_field(edges, layout->frame_object_values.frame) == own)
		add_frame(edges, own);
}

uint64_t tap_python_generator_frame(struct tap_python_heap *heap, uint64_t generator)
{
	const struct tap_python_layout *layout = heap->layout;
	uint64_t frame;
	uint8_t state;

	if (layout->minor < 11)
		return tap_python_heap_field(heap, generator, layout->generator.frame, &frame)
			       ? frame
			       : 0;
	if (!tap_memory_try_u8(
		    heap->memory, generator + (uint64_t)layout->generator.frame_state, &state))
		return 0;
	if (layout->minor < 15 && (int8_t)state >= STATE_CLEARED)
		return 0;
	return generator + (uint64_t)layout->generator.iframe;
}

static void add_exception_state(struct tap_python_edges *edges)
{
	const struct tap_python_layout *layout = edges->heap->layout;
	const int32_t members[] = {
		layout->exc_item.type, layout->exc_item.value, layout->exc_item.traceback};

	for (size_t i = 0; i < TAP_PYTHON_COUNT(members); i++) {
		if (members[i] >= 0)
			add_field(edges, layout->generator.exc_state + members[i], "");
	}
}

/* The code object of a frame that was cleared is still there (3.12 to 3.14). */
static void add_generator_frame(struct tap_python_edges *edges)
{
	const struct tap_python_layout *layout = edges->heap->layout;
	uint64_t frame = tap_python_generator_frame(edges->heap, edges->addr), code;

	if (layout->minor < 11) {
		tap_python_edges_add(edges, frame, TAP_PYTHON_EDGE_PART);
		return;
	}
	if (frame) {
		add_frame(edges, frame);
		return;
	}
	code = tap_python_edges_field(edges, layout->generator.iframe + layout->frame.code);
	if (layout->minor >= 12)
		tap_python_edges_add(edges, tap_python_local_object(edges->heap, code),
			TAP_PYTHON_EDGE_PLAIN);
}

void tap_python_edges_of_generator(struct tap_python_edges *edges)
{
	const struct tap_python_layout *layout = edges->heap->layout;
	int32_t origin = layout->generator.coroutine_origin;

	add_generator_frame(edges);
	add_field(edges, layout->generator.code, ".gi_code");
	add_field(edges, layout->generator.name, ".__name__");
	add_field(edges, layout->generator.qualname, ".__qualname__");
	add_field(edges, layout->generator.origin_or_finalizer, "");
	/* To 3.10 in the place of an asynchronous generator's finalizer. */
	if (origin >= 0 && (uint64_t)origin + 8 <= edges->type->shown.basic_bytes)
		add_field(edges, origin, "");
	add_exception_state(edges);
}

/* --- names ---------------------------------------------------------------------- */

/* 0 where there is none. */
static uint64_t item_of(struct tap_python_heap *heap, uint64_t tuple, uint64_t number)
{
	uint64_t count, item;

	if (!tap_python_heap_field(heap, tuple, heap->layout->object.items, &count) ||
		number >= count || number > MAX_WORDS ||
		!tap_memory_try_u64(heap->memory,
			tuple + (uint64_t)heap->layout->tuple.items + number * 8, &item))
		return 0;
	return item;
}

static uint64_t count_of(struct tap_python_heap *heap, uint64_t tuple)
{
	uint64_t count;

	return tap_python_heap_field(heap, tuple, heap->layout->object.items, &count) ? count : 0;
}

/* To 3.10: variables, variables of inner functions, those of outer ones. */
static uint64_t name_in_tuples(struct tap_python_heap *heap, uint64_t code, uint64_t number)
{
	const struct tap_python_layout *layout = heap->layout;
	const int32_t members[] = {layout->code_values.varnames, layout->code_values.cellvars,
		layout->code_values.freevars};

	for (size_t i = 0; i < TAP_PYTHON_COUNT(members); i++) {
		uint64_t tuple, count;

		if (!tap_python_heap_field(heap, code, members[i], &tuple))
			return 0;
		count = count_of(heap, tuple);
		if (number < count)
			return item_of(heap, tuple, number);
		number -= count;
	}
	return 0;
}

static bool item_text(struct tap_python_heap *heap, uint64_t code, int32_t member,
	uint64_t number, char *buf, size_t capacity)
{
	uint64_t tuple;

	return tap_python_heap_field(heap, code, member, &tuple) &&
	       tap_python_clean_text(heap, item_of(heap, tuple, number), buf, capacity);
}

bool tap_python_local_name(struct tap_python_heap *heap, uint64_t code, uint64_t number,
	char *buf, size_t capacity)
{
	const struct tap_python_layout *layout = heap->layout;

	if (layout->minor < 11)
		return tap_python_clean_text(
			heap, name_in_tuples(heap, code, number), buf, capacity);
	return item_text(heap, code, layout->code_values.localsplusnames, number, buf, capacity);
}

/* From 3.11 on they are the last of its variables. */
bool tap_python_cell_name(struct tap_python_heap *heap, uint64_t code, uint64_t number,
	uint64_t count, char *buf, size_t capacity)
{
	const struct tap_python_layout *layout = heap->layout;
	uint64_t all;

	if (layout->minor < 11)
		return item_text(heap, code, layout->code_values.freevars, number, buf, capacity);
	return read_code(heap, code, layout->code_values.nlocalsplus, &all) && count <= all &&
	       tap_python_local_name(heap, code, all - count + number, buf, capacity);
}
