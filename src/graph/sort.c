/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include "graph/internal.h"

#define DIGIT_BITS 11
#define DIGITS (1 << DIGIT_BITS)

static unsigned digit_of(const struct staged *node, unsigned shift)
{
	return (unsigned)(node->addr >> shift) & (DIGITS - 1);
}

static void sort_by_digit(
	const struct staged *from, struct staged *to, size_t count, unsigned shift)
{
	size_t place[DIGITS] = {0};
	size_t sum = 0;

	for (size_t i = 0; i < count; i++)
		place[digit_of(&from[i], shift)]++;
	for (unsigned i = 0; i < DIGITS; i++) {
		size_t those = place[i];

		place[i] = sum;
		sum += those;
	}
	for (size_t i = 0; i < count; i++)
		to[place[digit_of(&from[i], shift)]++] = from[i];
}

/* The bits in which addresses differ; 0 where they are in order already. */
static uint64_t bits_to_sort(const struct staged *nodes, size_t count)
{
	bool is_sorted = true;
	uint64_t bits = 0;

	for (size_t i = 1; i < count; i++) {
		is_sorted &= nodes[i - 1].addr <= nodes[i].addr;
		bits |= nodes[i - 1].addr ^ nodes[i].addr;
	}
	return is_sorted ? 0 : bits;
}

/* A radix sort: linear whatever the order, and those at one address stay in
 * the order in which they came. */
bool nodes_sort(struct staged **nodes, size_t count)
{
	uint64_t bits = bits_to_sort(*nodes, count);
	struct staged *from = *nodes, *to;

	if (!bits)
		return true;
	to = graph_array(count, sizeof(*to));
	if (!to)
		return false;
	for (unsigned shift = (unsigned)__builtin_ctzll(bits); shift < ADDR_BITS;
		shift += DIGIT_BITS) {
		struct staged *sorted = to;

		if (!(bits >> shift & (DIGITS - 1)))
			continue;
		sort_by_digit(from, to, count, shift);
		to = from;
		from = sorted;
	}
	*nodes = from;
	free(to);
	return true;
}
