/* SPDX-License-Identifier: Apache-2.0 */
/* What holds objects from outside of the heap: the interpreters' own structures. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/base/text.h"
#include "python/heap_edges.h"
#include "python/walk.h"

#define MAX_THREADS 65536
#define FEW_FRAMES 1024
#define MAX_FRAMES 200000
#define MAX_STACK_ITEMS 4096 /* of exceptions that are being handled */
#define CHUNK_WORDS 128
#define MAX_NAME 768

struct roots {
	struct tap_python_heap *heap;
	tap_python_root_fn fn;
	void *context;
	bool enough;
	uint64_t thread_state; /* whose roots are given now, or 0 */
};

static bool give(struct roots *roots, enum tap_python_root_kind kind, uint64_t addr,
	uint64_t frame, const char *name)
{
	struct tap_python_root root = {.kind = kind,
		.addr = addr,
		.frame = frame,
		.thread_state = roots->thread_state,
		.name = name};

	if (addr && !roots->enough)
		roots->enough = !roots->fn(roots->context, &root);
	return !roots->enough;
}

static void give_field(
	struct roots *roots, enum tap_python_root_kind kind, uint64_t addr, int32_t offset)
{
	uint64_t value;

	if (tap_python_heap_field(roots->heap, addr, offset, &value))
		give(roots, kind, value, 0, NULL);
}

/* --- frames --------------------------------------------------------------------- */

static bool frame_text(struct tap_python_heap *heap, uint64_t key, char *buf, size_t capacity)
{
	char function[MAX_NAME / 4], file[MAX_NAME / 4];
	struct tap_frame frame;

	tap_python_resolve(heap->python, key, heap->strings, &frame);
	if (!frame.function)
		return false;
	tap_text_clean(function, sizeof(function), frame.function);
	tap_text_clean(file, sizeof(file), frame.file ? frame.file : "?");
	snprintf(buf, capacity, "%s (%s:%d)", function, file, frame.line);
	return true;
}

bool tap_python_frame_text(
	struct tap_python_heap *heap, uint64_t frame_addr, char *buf, size_t capacity)
{
	struct tap_python_frame frame;

	return tap_python_frame_at(heap->python, frame_addr, &frame) &&
	       frame_text(heap, frame.key, buf, capacity);
}

/* A variable, or what an expression has come to so far. */
static bool give_word(struct roots *roots, const struct tap_python_locals *locals, uint64_t frame,
	uint64_t number, uint64_t object, const char *where)
{
	char variable[MAX_NAME / 4], name[2 * MAX_NAME];

	if (number < locals->variables &&
		tap_python_local_name(
			roots->heap, locals->code, number, variable, sizeof(variable)))
		snprintf(name, sizeof(name), "local %s of %s", variable, where);
	else
		snprintf(name, sizeof(name), "operand of %s", where);
	return give(roots, TAP_PYTHON_ROOT_FRAME, object, frame, name);
}

/* While it runs nothing tells how many operands there are: what lies in their
 * places may be held, and is rather held than lost. */
static void give_words(struct roots *roots, const struct tap_python_locals *locals, uint64_t frame,
	const char *where)
{
	uint64_t all = locals->is_told ? locals->words : locals->room, words[CHUNK_WORDS];

	for (uint64_t done = 0; done < all; done += CHUNK_WORDS) {
		uint64_t count = all - done < CHUNK_WORDS ? all - done : CHUNK_WORDS;

		if (!tap_memory_try_read(
			    roots->heap->memory, locals->first + done * 8, words, count * 8))
			return;
		for (uint64_t i = 0; i < count; i++) {
			uint64_t object = tap_python_local_object(roots->heap, words[i]);

			if (object && !give_word(roots, locals, frame, done + i, object, where))
				return;
		}
	}
}

static void give_frame(struct roots *roots, const struct tap_python_frame *frame)
{
	struct tap_python_locals locals;
	char where[MAX_NAME];
	uint64_t own;

	if (!tap_python_locals_read(roots->heap, frame->addr, &locals))
		return;
	if (!frame_text(roots->heap, frame->key, where, sizeof(where)))
		snprintf(where, sizeof(where), "a function");
	give_words(roots, &locals, frame->addr, where);
	/* To 3.10 the frame is an object of its own. */
	own = roots->heap->layout->minor < 11 ? frame->addr : locals.frame_object;
	give(roots, TAP_PYTHON_ROOT_FRAME, locals.names, frame->addr, where);
	give(roots, TAP_PYTHON_ROOT_FRAME, own, frame->addr, where);
	give(roots, TAP_PYTHON_ROOT_FRAME, locals.function, frame->addr, where);
	give(roots, TAP_PYTHON_ROOT_FRAME, locals.code, frame->addr, where);
}

static void give_frames(struct roots *roots)
{
	size_t capacity = FEW_FRAMES, count;
	_cleanup_free_ struct tap_python_frame *frames = tap_alloc(capacity * sizeof(*frames));

	count = tap_python_frames(roots->heap->python, roots->thread_state, frames, capacity);
	if (count == capacity) {
		capacity = MAX_FRAMES;
		frames = tap_realloc(frames, capacity * sizeof(*frames));
		count = tap_python_frames(
			roots->heap->python, roots->thread_state, frames, capacity);
	}
	for (size_t i = 0; i < count && !roots->enough; i++)
		give_frame(roots, &frames[i]);
}

/* --- threads -------------------------------------------------------------------- */

static void give_exceptions(struct roots *roots)
{
	const struct tap_python_layout *layout = roots->heap->layout;
	struct tap_python_walk walk = {0};
	uint64_t item;

	if (!tap_python_heap_field(
		    roots->heap, roots->thread_state, layout->thread_values.exc_info, &item))
		return;
	while (tap_python_walk_on(&walk, item, MAX_STACK_ITEMS)) {
		give_field(roots, TAP_PYTHON_ROOT_THREAD, item, layout->exc_item.value);
		give_field(roots, TAP_PYTHON_ROOT_THREAD, item, layout->exc_item.type);
		give_field(roots, TAP_PYTHON_ROOT_THREAD, item, layout->exc_item.traceback);
		if (!tap_python_heap_field(roots->heap, item, layout->exc_item.previous, &item))
			return;
	}
}

static void give_thread(struct roots *roots)
{
	const struct tap_python_layout *layout = roots->heap->layout;
	const int32_t fields[] = {
		layout->thread_values.dict,
		layout->thread_values.current_exception,
		layout->thread_values.current_exception_type,
		layout->thread_values.current_exception_traceback,
		layout->thread_values.context,
		layout->thread_values.async_exc,
		layout->thread_values.async_gen_firstiter,
		layout->thread_values.async_gen_finalizer,
		layout->thread_values.profile,
		layout->thread_values.trace,
		layout->thread_values.delete_later,
	};

	give_frames(roots);
	for (size_t i = 0; i < TAP_PYTHON_COUNT(fields); i++)
		give_field(roots, TAP_PYTHON_ROOT_THREAD, roots->thread_state, fields[i]);
	give_exceptions(roots);
}

static void give_threads(struct roots *roots)
{
	struct tap_python *python = roots->heap->python;
	_cleanup_free_ struct tap_python_thread_state *states = NULL;
	size_t count = tap_python_threads(python, NULL, 0);

	if (count > MAX_THREADS)
		count = MAX_THREADS;
	states = tap_alloc((count + 1) * sizeof(*states));
	if (tap_python_threads(python, states, count) < count)
		return;
	for (size_t i = 0; i < count && !roots->enough; i++) {
		roots->thread_state = states[i].addr;
		give_thread(roots);
	}
	roots->thread_state = 0;
}

/* --- interpreters --------------------------------------------------------------- */

static bool give_modules(void *context, uint64_t interpreter)
{
	struct roots *roots = context;

	give_field(roots, TAP_PYTHON_ROOT_MODULES, interpreter,
		roots->heap->layout->interpreter.modules);
	return !roots->enough;
}

static void give_collector(struct roots *roots, uint64_t gc)
{
	const struct tap_python_layout *layout = roots->heap->layout;

	give_field(roots, TAP_PYTHON_ROOT_RUNTIME, gc, layout->gc.garbage);
	give_field(roots, TAP_PYTHON_ROOT_RUNTIME, gc, layout->gc.callbacks);
}

static bool give_interpreter(void *context, uint64_t interpreter)
{
	struct roots *roots = context;
	const struct tap_python_layout *layout = roots->heap->layout;
	const int32_t fields[] = {
		layout->interpreter.sysdict,
		layout->interpreter.builtins,
		layout->interpreter.dict,
		layout->interpreter.modules_by_index,
		layout->interpreter.importlib,
		layout->interpreter.import_func,
		layout->interpreter.codec_search_path,
		layout->interpreter.codec_search_cache,
		layout->interpreter.codec_error_registry,
		layout->interpreter.interned,
	};

	for (size_t i = 0; i < TAP_PYTHON_COUNT(fields); i++)
		give_field(roots, TAP_PYTHON_ROOT_RUNTIME, interpreter, fields[i]);
	if (layout->interpreter.gc >= 0)
		give_collector(roots, interpreter + (uint64_t)layout->interpreter.gc);
	return !roots->enough;
}

/* --- static types --------------------------------------------------------------- */

/* From 3.12 on types that all interpreters share have a number in the place of
 * their subclasses, and their dict is each interpreter's own. */
static void give_type(struct roots *roots, const struct tap_python_type *type)
{
	const struct tap_python_layout *layout = roots->heap->layout;
	const int32_t fields[] = {layout->type.dict, layout->type.cache, layout->type.bases,
		layout->type.mro, layout->type.subclasses};
	uint64_t value;

	for (size_t i = 0; i < TAP_PYTHON_COUNT(fields); i++) {
		if (tap_python_heap_field(roots->heap, type->addr, fields[i], &value))
			give(roots, TAP_PYTHON_ROOT_STATIC, value, 0, type->name);
	}
}

void tap_python_heap_roots(struct tap_python_heap *heap, tap_python_root_fn fn, void *context)
{
	struct roots roots = {.heap = heap, .fn = fn, .context = context};

	tap_python_heap_interpreters(heap, give_modules, &roots);
	if (!roots.enough)
		give_threads(&roots);
	for (uint32_t i = 0; i < tap_python_heap_types(heap) && !roots.enough; i++) {
		const struct tap_python_type *type = tap_python_heap_type(heap, i);

		if (!type->is_heap_type)
			give_type(&roots, type);
	}
	if (!roots.enough)
		tap_python_heap_interpreters(heap, give_interpreter, &roots);
	if (!roots.enough && heap->layout->runtime.gc >= 0)
		give_collector(&roots,
			heap->python->info.runtime_addr + (uint64_t)heap->layout->runtime.gc);
}
