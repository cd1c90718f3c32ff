/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/map.h"
#include "heaptap/base/vector.h"
#include "heaptap/ledger/stacks.h"

struct stack {
	size_t first; /* index into frames */
	uint32_t count;
	uint32_t next; /* number of another with the same hash, plus 1; 0: none */
};

struct tap_stacks {
	struct tap_map by_hash; /* hash -> number of the newest stack with it, plus 1 */
	TAP_VECTOR(struct stack) stacks;
	TAP_VECTOR(struct tap_stack_frame) frames;
};

struct tap_stacks *tap_stacks_create(void)
{
	return tap_alloc(sizeof(struct tap_stacks));
}

void tap_stacks_destroy(struct tap_stacks *stacks)
{
	if (!stacks)
		return;
	tap_map_deinit(&stacks->by_hash);
	tap_vector_free(&stacks->stacks);
	tap_vector_free(&stacks->frames);
	free(stacks);
}

static bool equal(const struct tap_stacks *stacks, const struct stack *stack,
	const struct tap_stack_frame *frames, size_t count)
{
	const struct tap_stack_frame *own = stacks->frames.items + stack->first;

	if (stack->count != count)
		return false;
	for (size_t i = 0; i < count; i++)
		if (own[i].key != frames[i].key)
			return false;
	return true;
}

uint32_t tap_stacks_add(
	struct tap_stacks *stacks, const struct tap_stack_frame *frames, size_t count)
{
	uint64_t hash = 0;
	struct stack stack;
	uint64_t *newest;

	if (count > TAP_STACK_FRAMES_MAX)
		count = TAP_STACK_FRAMES_MAX;
	for (size_t i = 0; i < count; i++)
		hash = tap_hash_u64(hash ^ frames[i].key) + i;
	newest = tap_map_put(&stacks->by_hash, hash, NULL);
	for (uint32_t i = (uint32_t)*newest; i; i = stacks->stacks.items[i - 1].next)
		if (equal(stacks, &stacks->stacks.items[i - 1], frames, count))
			return i - 1;
	stack = (struct stack){stacks->frames.count, (uint32_t)count, (uint32_t)*newest};
	for (size_t i = 0; i < count; i++)
		tap_vector_push(&stacks->frames, frames[i]);
	tap_vector_push(&stacks->stacks, stack);
	*newest = stacks->stacks.count;
	return (uint32_t)stacks->stacks.count - 1;
}

size_t tap_stacks_count(const struct tap_stacks *stacks)
{
	return stacks->stacks.count;
}

const struct tap_stack_frame *tap_stacks_frames(
	const struct tap_stacks *stacks, uint32_t stack, size_t *count_ret)
{
	const struct stack *found = &stacks->stacks.items[stack];

	*count_ret = found->count;
	return stacks->frames.items + found->first;
}
