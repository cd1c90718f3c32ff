/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "session/root_stacks.h"

#define RED_ZONE 128
/* struct pthread: {its own address, ..., again at the third word, ..., thread id,
 * ...}; a little over 2 KiB, at the top of the stack. */
#define CONTROL_BYTES 2304
#define CONTROL_ALIGN 64
#define CONTROL_TID 720
#define CONTROL_ABOVE_MAX 8192
#define STACK_MIN_BYTES 16384
#define STACK_MAX_BYTES (UINT64_C(64) << 30)
#define GUARD_MAX_BYTES (UINT64_C(1) << 20)
#define DEAD_LOOK_BYTES (UINT64_C(256) << 20)
#define PIECE ((size_t)256 << 10)

/* The stack that the control block says it lies in, around an address that does
 * as well. */
static bool read_control(
	struct tap_memory *memory, uint64_t control, uint64_t inside, struct root_stack *ret)
{
	uint64_t words[CONTROL_BYTES / 8];
	size_t count = tap_memory_read_some(memory, control, words, sizeof(words)) / 8;

	if (count < 3 || words[0] != control || words[2] != control)
		return false;
	for (size_t i = CONTROL_TID / 8; i + 1 < count; i++) {
		uint64_t base = words[i], size = words[i + 1], top = base + size;

		if (size < STACK_MIN_BYTES || size > STACK_MAX_BYTES || base > inside ||
			top <= inside || base > control || top <= control ||
			top - control > CONTROL_ABOVE_MAX)
			continue;
		ret->base = base;
		ret->top = top;
		return true;
	}
	return false;
}

static bool has_guard(const struct tap_maps *maps, const struct tap_mapping *mapping)
{
	const struct tap_mapping *below = mapping > maps->items ? mapping - 1 : NULL;

	return below && below->end == mapping->start && !below->readable && !below->writable &&
	       !below->executable && below->end - below->start <= GUARD_MAX_BYTES;
}

static size_t threads_in(
	const struct tap_mapping *mapping, const struct root_thread *threads, size_t count)
{
	size_t found = 0;

	for (size_t i = 0; i < count; i++)
		found +=
			threads[i].regs.rsp >= mapping->start && threads[i].regs.rsp < mapping->end;
	return found;
}

static bool find_stack(const struct root_place *place, const struct root_thread *threads,
	size_t count, const struct root_thread *thread, struct root_stack *ret)
{
	uint64_t sp = thread->regs.rsp;
	const struct tap_mapping *mapping = tap_maps_find(place->maps, sp);

	if (!mapping)
		return false;
	ret->tid = thread->tid;
	ret->low = sp - mapping->start < RED_ZONE ? mapping->start : (sp - RED_ZONE) & ~UINT64_C(7);
	if (strncmp(mapping->path, "[stack", 6) != 0 && thread->regs.fs_base &&
		read_control(place->memory, thread->regs.fs_base, sp, ret)) {
		ret->base = ret->base > mapping->start ? ret->base : mapping->start;
		ret->base = ret->base < ret->low ? ret->base : ret->low;
		ret->top = ret->top < mapping->end ? ret->top : mapping->end;
		return true;
	}
	ret->base = ret->low;
	ret->top = mapping->end;
	if (threads_in(mapping, threads, count) == 1 &&
		(strncmp(mapping->path, "[stack", 6) == 0 || has_guard(place->maps, mapping)))
		ret->base = mapping->start;
	return true;
}

static int by_low(const void *a, const void *b)
{
	const struct root_stack *x = a, *y = b;

	return x->low < y->low ? -1 : x->low > y->low;
}

void root_stacks_find(const struct root_place *place, const struct root_thread *threads,
	size_t count, struct root_stacks *ret)
{
	struct root_stack stack;
	size_t kept = 0;

	for (size_t i = 0; i < count; i++)
		if (find_stack(place, threads, count, &threads[i], &stack))
			tap_vector_push(ret, stack);
	if (!ret->count)
		return;
	qsort(ret->items, ret->count, sizeof(*ret->items), by_low);
	for (size_t i = 1; i < ret->count; i++) {
		struct root_stack *last = &ret->items[kept], *next = &ret->items[i];

		/* Of two in one mapping nobody knows where the lower one ends. */
		if (last->top > next->low)
			last->top = next->low;
		if (next->base < last->top)
			next->base = next->low;
		ret->items[++kept] = *next;
	}
	ret->count = kept + 1;
}

struct dead {
	const struct root_place *place;
	const struct root_thread *threads;
	size_t count;
	struct page_set *found;
	uint64_t left; /* bytes that may still be looked at */
	uint8_t *piece;
};

static bool is_in_use(const struct dead *dead, const struct root_stack *stack, uint64_t control)
{
	for (size_t i = 0; i < dead->count; i++) {
		const struct tap_regs *regs = &dead->threads[i].regs;

		if (regs->fs_base == control ||
			(regs->rsp >= stack->base && regs->rsp < stack->top))
			return true;
	}
	return false;
}

static void look_at_control(struct dead *dead, uint64_t control)
{
	struct root_stack stack;
	uint32_t tid;

	if (read_control(dead->place->memory, control, control, &stack) &&
		tap_memory_try_u32(dead->place->memory, control + CONTROL_TID, &tid) &&
		(int32_t)tid <= 0 && !is_in_use(dead, &stack, control))
		page_set_add(dead->found, stack.base, control);
}

static void look_at_run(struct dead *dead, uint64_t start, uint64_t end)
{
	while (start < end && dead->left) {
		size_t size = end - start < PIECE ? (size_t)(end - start) : PIECE;

		size = tap_memory_glance(dead->place->memory, start, dead->piece, size);
		for (size_t i = 0; i + CONTROL_ALIGN <= size; i += CONTROL_ALIGN) {
			uint64_t words[3];

			memcpy(words, dead->piece + i, sizeof(words));
			if (words[0] == start + i && words[2] == start + i)
				look_at_control(dead, start + i);
		}
		if (!size)
			return;
		dead->left -= size < dead->left ? size : dead->left;
		start += size;
	}
}

static void look_at_mapping(
	struct dead *dead, const struct tap_mapping *mapping, struct page_set *understood)
{
	struct tap_page_run run;

	for (uint64_t at = mapping->start;
		dead->left && tap_pagemap_run(dead->place->pagemap, at, mapping->end, &run);
		at = run.end) {
		if (run.kind != TAP_PAGE_PRIVATE)
			continue;
		for (at = run.start; at < run.end;) {
			uint64_t next = page_set_next(understood, at, run.end);

			look_at_run(dead, at, next);
			/* Past what is understood. */
			at = next;
			while (at < run.end && page_set_bytes(understood, at) == PAGE_BYTES)
				at += PAGE_BYTES;
			if (at == next && at < run.end) {
				look_at_run(dead, at, at + PAGE_BYTES);
				at += PAGE_BYTES;
			}
		}
	}
}

void root_stacks_find_dead(const struct root_place *place, const struct root_thread *threads,
	size_t count, const struct page_set *understood, struct page_set *found)
{
	_cleanup_free_ uint8_t *piece = tap_alloc(PIECE);
	struct dead dead = {place, threads, count, found, DEAD_LOOK_BYTES, piece};
	struct page_set known = *understood;

	page_set_rewind(&known);
	for (size_t i = 0; i < place->maps->count; i++) {
		const struct tap_mapping *mapping = &place->maps->items[i];

		if (!mapping->inode && mapping->readable && mapping->writable && !mapping->shared &&
			strncmp(mapping->path, "[stack", 6) != 0)
			look_at_mapping(&dead, mapping, &known);
	}
}
