/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The collector's lists: three rings of heads (PyGC_Head, in front of each
 * object), the young objects', the middle ones' and the old ones'. The low two
 * bits of a link are flags.
 */
#include "python/heap_internal.h"
#include "python/walk.h"

#define MAX_INTERPRETERS 4096
#define GENERATIONS 3
#define LINK (~UINT64_C(3))

void tap_python_heap_interpreters(
	struct tap_python_heap *heap, tap_python_interpreter_fn fn, void *context)
{
	const struct tap_python_layout *layout = heap->layout;
	struct tap_python_walk walk = {0};
	uint64_t interpreter;

	if (!tap_python_heap_field(heap, heap->python->info.runtime_addr,
		    layout->runtime.interpreters_head, &interpreter))
		return;
	while (tap_python_walk_on(&walk, interpreter, MAX_INTERPRETERS)) {
		if (!fn(context, interpreter) || !tap_python_heap_field(heap, interpreter,
							 layout->interpreter.next, &interpreter))
			return;
	}
}

struct tracked {
	struct tap_python_heap *heap;
	tap_python_tracked_fn fn;
	void *context;
	uint64_t count;
	uint32_t broken;
	bool enough;
};

/* False where it does not close. */
static bool walk_list(struct tracked *tracked, uint64_t head)
{
	struct tap_memory *memory = tracked->heap->memory;
	uint64_t head_bytes = (uint64_t)tracked->heap->layout->gc.head_size;
	struct tap_python_walk walk = {0};
	uint64_t at;

	if (!tap_memory_try_u64(memory, head, &at))
		return false;
	for (at &= LINK; at != head; at &= LINK) {
		if (at & 7 || !tap_python_walk_on(&walk, at, UINT32_MAX))
			return false;
		/* Before it is told: what is not there is no object. */
		uint64_t object = at + head_bytes;

		if (!tap_memory_try_u64(memory, at, &at))
			return false;
		tracked->count++;
		if (!tracked->fn(tracked->context, object)) {
			tracked->enough = true;
			return true;
		}
	}
	return true;
}

/* 3.8 has one collector for all interpreters. */
static bool walk_collector(struct tracked *tracked, uint64_t gc)
{
	const struct tap_python_layout *layout = tracked->heap->layout;
	uint32_t collecting;

	if (!tap_python_heap_field32(tracked->heap, gc, layout->gc.collecting, &collecting) ||
		collecting)
		tracked->broken++;
	for (int i = 0; i < GENERATIONS && !tracked->enough; i++) {
		int32_t head = layout->gc.generations + i * layout->gc.generation_size;

		if (!walk_list(tracked, gc + (uint64_t)head))
			tracked->broken++;
	}
	return !tracked->enough;
}

static bool walk_interpreter(void *context, uint64_t interpreter)
{
	struct tracked *tracked = context;

	return walk_collector(
		tracked, interpreter + (uint64_t)tracked->heap->layout->interpreter.gc);
}

uint64_t tap_python_heap_tracked(
	struct tap_python_heap *heap, tap_python_tracked_fn fn, void *context, uint32_t *broken_ret)
{
	struct tracked tracked = {.heap = heap, .fn = fn, .context = context};

	if (heap->layout->interpreter.gc >= 0)
		tap_python_heap_interpreters(heap, walk_interpreter, &tracked);
	else
		walk_collector(&tracked,
			heap->python->info.runtime_addr + (uint64_t)heap->layout->runtime.gc);
	*broken_ret = tracked.broken;
	return tracked.count;
}
