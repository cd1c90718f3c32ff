/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "cursor.h"

void tap_stack_start(struct tap_stack *stack, struct tap_memory *memory, uint64_t top,
	size_t first_bytes, uint64_t expected_end)
{
	stack->memory = memory;
	stack->addr = 0;
	stack->size_bytes = 0;
	stack->next_bytes = first_bytes;
	stack->top = top & ~UINT64_C(7);
	stack->expected = expected_end;
	stack->reached = 0;
}

static bool holds(const struct tap_stack *stack, uint64_t addr)
{
	return addr >= stack->addr && stack->size_bytes >= sizeof(uint64_t) &&
	       addr - stack->addr <= stack->size_bytes - sizeof(uint64_t);
}

static void copy(struct tap_stack *stack, uint64_t from, size_t wanted)
{
	stack->addr = from;
	stack->size_bytes = tap_memory_glance(stack->memory, from, stack->bytes, wanted);
}

/* A frame's return address is read first, and lies at its end: the registers
 * that it saved are in front of it. */
static void copy_first(struct tap_stack *stack, uint64_t addr)
{
	uint64_t from = addr;
	size_t wanted = stack->next_bytes;

	if (addr > stack->top && addr - stack->top < wanted / 2)
		from = stack->top;
	if (stack->expected > addr && stack->expected - from <= TAP_STACK_MAX)
		wanted = (size_t)(stack->expected - from);
	copy(stack, from, wanted);
	if (!holds(stack, addr) && from != addr)
		copy(stack, addr, stack->next_bytes);
}

/* Frames are left upwards: what follows is what is needed next. Deep stacks get
 * larger pieces, behind what is there while there is room. */
static void copy_more(struct tap_stack *stack, uint64_t addr)
{
	uint64_t end = stack->addr + stack->size_bytes;
	size_t wanted = stack->next_bytes;

	if (addr < end || addr - end >= wanted || wanted > TAP_STACK_MAX - stack->size_bytes) {
		stack->addr = end = addr;
		stack->size_bytes = 0;
	}
	stack->size_bytes +=
		tap_memory_glance(stack->memory, end, stack->bytes + stack->size_bytes, wanted);
	if (stack->next_bytes < TAP_STACK_MAX)
		stack->next_bytes *= 2;
}

bool tap_stack_try_u64(struct tap_stack *stack, uint64_t addr, uint64_t *ret)
{
	if (!holds(stack, addr)) {
		if (stack->size_bytes)
			copy_more(stack, addr & ~UINT64_C(7));
		else
			copy_first(stack, addr & ~UINT64_C(7));
		if (!holds(stack, addr))
			return false;
	}
	if (addr + sizeof(*ret) > stack->reached)
		stack->reached = addr + sizeof(*ret);
	memcpy(ret, stack->bytes + (addr - stack->addr), sizeof(*ret));
	return true;
}
