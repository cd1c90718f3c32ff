/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <sys/mman.h>
#include "graph/internal.h"

#define HUGE_BYTES ((size_t)2 << 20)

/* Walking a graph touches its arrays in no order: most of the time would go
 * into looking pages up. Not an error where the kernel has no huge pages. */
static void prefer_huge(void *ptr, size_t size_bytes)
{
	uintptr_t start = ((uintptr_t)ptr + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
	uintptr_t end = ((uintptr_t)ptr + size_bytes) & ~(HUGE_BYTES - 1);

	if (end > start)
		madvise((void *)start, end - start, MADV_HUGEPAGE);
}

void *graph_array(size_t count, size_t item_size)
{
	void *items = calloc(count ? count : 1, item_size);

	if (items)
		prefer_huge(items, count * item_size);
	return items;
}

bool graph_grow(void **items, size_t *capacity, size_t count, size_t item_size)
{
	size_t wanted = *capacity ? *capacity + *capacity / 2 : 64;
	void *grown;

	if (count < *capacity)
		return true;
	grown = realloc(*items, wanted * item_size);
	if (!grown)
		return false;
	*items = grown;
	*capacity = wanted;
	return true;
}
