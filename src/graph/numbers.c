/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/internal.h"

uint32_t number_new(struct numbers *numbers, uint64_t value)
{
	if (value < NUMBER_IS_WIDE)
		return (uint32_t)value;
	tap_vector_push(numbers, value);
	return (uint32_t)(numbers->count - 1) | NUMBER_IS_WIDE;
}

uint64_t number_get(const struct numbers *numbers, uint32_t number)
{
	return number & NUMBER_IS_WIDE ? numbers->items[number & ~NUMBER_IS_WIDE] : number;
}

void number_add(struct numbers *numbers, uint32_t *number, uint64_t value)
{
	if (*number & NUMBER_IS_WIDE)
		numbers->items[*number & ~NUMBER_IS_WIDE] += value;
	else
		*number = number_new(numbers, *number + value);
}
