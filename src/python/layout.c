/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "python/runtime.h"

/* Interpreter and runtime states are the only big ones. */
#define MAX_STATE_OFFSET (16 << 20)

const struct tap_python_layout *tap_python_layout_find(int minor)
{
	for (size_t i = 0; i < tap_python_layout_count; i++) {
		if (tap_python_layouts[i].minor == minor)
			return &tap_python_layouts[i];
	}
	return NULL;
}

static bool is_member_of(uint16_t member, size_t start, size_t size)
{
	return member >= start && member < start + size;
}

#define IS_IN(member, group)                                            \
	is_member_of(member, offsetof(struct tap_python_layout, group), \
		sizeof(((struct tap_python_layout *)0)->group))

static bool is_sane(uint16_t member, uint64_t value)
{
	if (IS_IN(member, runtime) || IS_IN(member, interpreter))
		return value <= MAX_STATE_OFFSET;
	return value <= TAP_PYTHON_STRUCT - 8;
}

/* Whether functions are there is seen before they are used (tables.c). */
static void move_allocators(struct tap_python_layout *layout, int32_t distance)
{
	layout->runtime.allocator_raw += distance;
	layout->runtime.allocator_mem += distance;
	layout->runtime.allocator_obj += distance;
}

bool tap_python_layout_override(
	struct tap_python_layout *layout, struct tap_memory *memory, uint64_t addr)
{
	size_t size_bytes = (size_t)layout->debug_offsets_size;
	int32_t head = layout->runtime.interpreters_head;
	bool thread_moved = false, holds_gil_named = false;
	_cleanup_free_ uint8_t *entries = NULL;

	if (layout->debug_offsets_size < 0)
		return true;
	entries = tap_alloc(size_bytes);
	if (!tap_memory_try_read(memory, addr, entries, size_bytes))
		return false;
	for (size_t i = 0; i < layout->override_count; i++) {
		const struct tap_python_override *o = &layout->overrides[i];
		int32_t *member = (int32_t *)((char *)layout + o->member);
		uint64_t value;

		memcpy(&value, entries + o->entry, sizeof(value));
		if (!is_sane(o->member, value))
			return false;
		if (IS_IN(o->member, thread) && *member != (int32_t)value)
			thread_moved = true;
		if (o->member == offsetof(struct tap_python_layout, thread.holds_gil))
			holds_gil_named = true;
		*member = (int32_t)value;
	}
	/* Its neighbours moved and nothing says where it is now. */
	if (thread_moved && !holds_gil_named)
		layout->thread.holds_gil = TAP_PYTHON_ABSENT;
	if (thread_moved)
		memset(&layout->thread_values, 0xFF, sizeof(layout->thread_values));
	/* The allocators come right after the list of interpreters. */
	move_allocators(layout, layout->runtime.interpreters_head - head);
	return true;
}

static size_t reach(const int32_t *members, size_t size_bytes)
{
	int32_t last = 0;

	for (size_t i = 0; i < size_bytes / sizeof(*members); i++) {
		if (members[i] > last)
			last = members[i];
	}
	return (size_t)last + 8;
}

void tap_python_layout_measure(struct tap_python *python)
{
	struct tap_python_layout counted = python->layout;

	/* Not an offset. */
	counted.thread.holds_gil_mask = 0;
	python->thread_bytes = reach((const int32_t *)&counted.thread, sizeof(counted.thread));
	python->frame_bytes =
		counted.minor < 11 ? reach((const int32_t *)&counted.frame_object,
					     sizeof(counted.frame_object))
				   : reach((const int32_t *)&counted.frame, sizeof(counted.frame));
	python->gil_bytes = reach((const int32_t *)&counted.gil, sizeof(counted.gil));
	python->code_bytes = reach((const int32_t *)&counted.code, sizeof(counted.code));
}
