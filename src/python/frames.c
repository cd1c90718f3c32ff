/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of a thread state. To 3.10 a chain of frame objects, each run by an
 * evaluation of its own. From 3.11 on a chain of frames in chunks of the
 * thread's data stack, in generators and on the native stack, of which one
 * evaluation runs several: 3.11 marks the outermost of them, from 3.12 on a
 * frame that stands for no Python code (a shim) lies below it.
 */
#include "python/runtime.h"
#include "python/walk.h"

#define MAX_FRAMES 200000
#define MAX_THREAD_STATE 16384

/* From 3.12 on frames with this owner or a higher one are shims: 3.12, 3.13
 * FRAME_OWNED_BY_CSTACK; 3.14, 3.15 FRAME_OWNED_BY_INTERPRETER, .._CSTACK. */
#define OWNER_SHIM 3

/* From 3.14 on references in frames carry two bits of their own. */
#define TAG_MASK UINT64_C(3)

/* 3.11 on: a frame in a chunk of the thread's data stack, FRAME_OWNED_BY_THREAD. */
#define OWNER_THREAD 0

struct list {
	struct tap_python_frame *frames;
	size_t capacity;
	size_t count;
	unsigned shims;                 /* since the last frame that was listed */
	struct tap_python_stack *stack; /* what the thread had last time */
	uint64_t outermost;             /* of the innermost chunk of the data stack */
	uint64_t copied;                /* what is in python->stack_copy */
	size_t copied_bytes;
};

static uint64_t make_key(uint32_t number, int64_t instruction)
{
	uint64_t unit = TAP_PYTHON_UNIT_NONE;

	if (instruction >= 0 && instruction / 2 < TAP_PYTHON_UNIT_NONE)
		unit = (uint64_t)instruction / 2;
	return TAP_PYTHON_KEY | (uint64_t)number << TAP_PYTHON_UNIT_BITS | unit;
}

/* How many evaluations without a Python frame lie between this frame and the
 * one listed before: its own evaluation's shim does not count. */
static uint8_t empty_evaluations(const struct list *list)
{
	bool inner_ended = list->count && list->frames[list->count - 1].entry;
	unsigned empty = list->shims;

	if (inner_ended && empty)
		empty--;
	return empty > UINT8_MAX ? UINT8_MAX : (uint8_t)empty;
}

static void add(struct list *list, uint64_t addr, uint64_t key, bool entry)
{
	struct tap_python_frame *frame = &list->frames[list->count];

	frame->key = key;
	frame->addr = addr;
	frame->entry = entry;
	frame->empty_evals = empty_evaluations(list);
	list->count++;
	list->shims = 0;
}

static void list_frame_objects(struct tap_python *python, uint64_t frame, struct list *list)
{
	const struct tap_python_layout *layout = &python->layout;
	uint8_t copy[TAP_PYTHON_STRUCT];
	struct tap_python_walk walk = {0};
	struct tap_python_code code;

	while (list->count < list->capacity && tap_python_walk_on(&walk, frame, MAX_FRAMES)) {
		int32_t lasti;

		if (!tap_memory_try_read(python->memory, frame, copy, python->frame_bytes) ||
			!tap_python_code_at(
				python, tap_python_u64(copy, layout->frame_object.code), &code))
			return;
		lasti = (int32_t)tap_python_u32(copy, layout->frame_object.lasti);
		/* 3.10 counts instructions, earlier versions bytes. */
		add(list, frame,
			make_key(code.number, layout->minor == 10 ? lasti * INT64_C(2) : lasti),
			true);
		frame = tap_python_u64(copy, layout->frame_object.back);
	}
}

static bool is_shim(const struct tap_python *python, const uint8_t *copy)
{
	return python->layout.minor >= 12 && copy[python->layout.frame.owner] >= OWNER_SHIM;
}

/* The data stack grows upwards, and its outermost frames stay where they are:
 * from there on one read has all of them. */
static void copy_chunk(struct tap_python *python, struct list *list, uint64_t frame)
{
	uint64_t first = list->stack->outermost;

	if (!first || frame <= first ||
		frame - first > sizeof(python->stack_copy) - python->frame_bytes)
		return;
	list->copied = first;
	list->copied_bytes = (size_t)(frame - first) + python->frame_bytes;
	if (tap_memory_try_glance(python->memory, first, python->stack_copy, list->copied_bytes))
		return;
	list->copied_bytes = 0;
	list->stack->outermost = 0;
}

/* NULL where it was not read with others. */
static const uint8_t *copied_frame(struct tap_python *python, struct list *list, uint64_t frame)
{
	if (!list->copied_bytes)
		copy_chunk(python, list, frame);
	if (list->copied_bytes < python->frame_bytes || frame < list->copied ||
		frame - list->copied > list->copied_bytes - python->frame_bytes)
		return NULL;
	return python->stack_copy + (frame - list->copied);
}

static void note_outermost(
	const struct tap_python *python, struct list *list, uint64_t frame, uint8_t owner)
{
	if (owner != OWNER_THREAD)
		return;
	if (!list->outermost ||
		(frame < list->outermost && list->outermost - frame < sizeof(python->stack_copy)))
		list->outermost = frame;
}

/* The outermost Python frame of its evaluation? */
static bool is_entry(
	struct tap_python *python, struct list *list, const uint8_t *copy, uint64_t previous)
{
	const int32_t offset = python->layout.frame.owner;
	const uint8_t *outer;
	uint8_t owner;

	if (python->layout.frame.is_entry >= 0)
		return copy[python->layout.frame.is_entry] != 0;
	if (!previous)
		return true;
	outer = copied_frame(python, list, previous);
	if (outer)
		return outer[offset] >= OWNER_SHIM;
	return !tap_memory_try_u8(python->memory, previous + (uint64_t)offset, &owner) ||
	       owner >= OWNER_SHIM;
}

/* The last frames of these threads, by hash: another one's costs a read. */
static struct tap_python_stack *stack_of(struct tap_python *python, uint64_t thread_state)
{
	struct tap_python_stack *stack =
		&python->stacks[tap_hash_u64(thread_state) % TAP_PYTHON_STACKS];

	if (stack->thread_state != thread_state)
		*stack = (struct tap_python_stack){.thread_state = thread_state};
	return stack;
}

static void list_frames(struct tap_python *python, uint64_t frame, struct list *list)
{
	const struct tap_python_layout *layout = &python->layout;
	uint8_t buf[TAP_PYTHON_STRUCT];
	struct tap_python_walk walk = {0};

	while (list->count < list->capacity && tap_python_walk_on(&walk, frame, MAX_FRAMES)) {
		const uint8_t *copy = copied_frame(python, list, frame);
		uint64_t code_addr, previous, first, at;
		struct tap_python_code code;

		if (!copy && tap_memory_try_read(python->memory, frame, buf, python->frame_bytes))
			copy = buf;
		if (!copy)
			return;
		note_outermost(python, list, frame, copy[layout->frame.owner]);
		previous = tap_python_u64(copy, layout->frame.previous);
		if (is_shim(python, copy)) {
			list->shims++;
			frame = previous;
			continue;
		}
		code_addr = tap_python_u64(copy, layout->frame.code);
		if (layout->minor >= 14)
			code_addr &= ~TAG_MASK;
		if (!tap_python_code_at(python, code_addr, &code))
			return;
		if (code.is_function) {
			first = code_addr + (uint64_t)layout->code.adaptive;
			at = tap_python_u64(copy, layout->frame.instruction);
			/* 3.11, 3.12: one before the first when it has not begun. */
			add(list, frame,
				make_key(code.number, at < first ? -1 : (int64_t)(at - first)),
				is_entry(python, list, copy, previous));
		}
		frame = previous;
	}
}

/* The innermost frame, shims included; 0 for none. copy: of the state. */
static uint64_t innermost(struct tap_python *python, const uint8_t *copy)
{
	const struct tap_python_layout *layout = &python->layout;
	uint64_t frame;

	if (layout->thread.frame >= 0)
		return tap_python_u64(copy, layout->thread.frame);
	if (layout->thread.current_frame >= 0)
		return tap_python_u64(copy, layout->thread.current_frame);
	if (tap_python_try_field(python, tap_python_u64(copy, layout->thread.cframe),
		    layout->cframe.current_frame, &frame))
		return frame;
	return 0;
}

size_t tap_python_frames_of_copy(struct tap_python *python, uint64_t thread_state,
	const uint8_t *copy, struct tap_python_frame *frames, size_t capacity)
{
	struct list list = {.frames = frames, .capacity = capacity};
	uint64_t frame = innermost(python, copy);

	if (python->layout.minor < 11) {
		list_frame_objects(python, frame, &list);
		return list.count;
	}
	list.stack = stack_of(python, thread_state);
	list_frames(python, frame, &list);
	if (list.outermost)
		list.stack->outermost = list.outermost;
	return list.count;
}

bool tap_python_frame_at(struct tap_python *python, uint64_t addr, struct tap_python_frame *ret)
{
	struct tap_python_stack none = {0};
	struct list list = {.frames = ret, .capacity = 1, .stack = &none};

	if (python->layout.minor < 11)
		list_frame_objects(python, addr, &list);
	else
		list_frames(python, addr, &list);
	return list.count && ret->addr == addr;
}

size_t tap_python_frames(struct tap_python *python, uint64_t thread_state,
	struct tap_python_frame *frames, size_t capacity)
{
	uint8_t copy[TAP_PYTHON_STRUCT];

	if (!python->info.supported || !thread_state ||
		!tap_memory_try_read(python->memory, thread_state, copy, python->thread_bytes))
		return 0;
	return tap_python_frames_of_copy(python, thread_state, copy, frames, capacity);
}

/* An evaluation has its C frame record (3.10 to 3.12) or its shim (from 3.13
 * on) on the native stack; what an idle thread state points to lies inside
 * itself (3.15). */
uint64_t tap_python_stack_position(
	struct tap_python *python, uint64_t thread_state, const uint8_t *state)
{
	const struct tap_python_layout *layout = &python->layout;
	struct tap_python_walk walk = {0};
	uint8_t copy[TAP_PYTHON_STRUCT];
	uint64_t frame = innermost(python, state);

	if (!frame)
		return 0;
	if (layout->thread.cframe >= 0)
		return tap_python_u64(state, layout->thread.cframe);
	if (layout->minor < 13)
		return 0;
	while (tap_python_walk_on(&walk, frame, MAX_FRAMES)) {
		if (!tap_memory_try_read(python->memory, frame, copy, python->frame_bytes))
			return 0;
		if (is_shim(python, copy))
			return frame - thread_state < MAX_THREAD_STATE ? 0 : frame;
		frame = tap_python_u64(copy, layout->frame.previous);
	}
	return 0;
}
