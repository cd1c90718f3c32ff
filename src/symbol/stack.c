/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "cursor.h"

void tap_stack_start(struct tap_stack *stack, struct tap_memory *memory, size_t first_bytes)
{
	stack->memory = memory;
	stack->addr = 0;
	stack->size_bytes = 0;
	stack->next_bytes = first_bytes;
}

/* Frames are left upwards: what follows addr is what is needed next. Deep
 * stacks get larger pieces. */
static bool copy_from(struct tap_stack *stack, uint64_t addr)
{
	stack->addr = addr;
	stack->size_bytes =
		tap_memory_read_some(stack->memory, addr, stack->bytes, stack->next_bytes);
	if (stack->next_bytes < TAP_STACK_MAX)
		stack->next_bytes *= 2;
	return stack->size_bytes >= sizeof(uint64_t);
}

bool tap_stack_try_u64(struct tap_stack *stack, uint64_t addr, uint64_t *ret)
{
	if (addr < stack->addr || addr - stack->addr + sizeof(*ret) > stack->size_bytes) {
		if (!copy_from(stack, addr & ~UINT64_C(7)) ||
			addr - stack->addr + sizeof(*ret) > stack->size_bytes)
			return false;
	}
	memcpy(ret, stack->bytes + (addr - stack->addr), sizeof(*ret));
	return true;
}
