/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/proc/pagemap.h"
#include "session/heap_scan.h"

#define PAGE UINT64_C(4096)
#define WORD 8
#define TAG_BITS UINT64_C(7)
/* No address of a heap lies below. */
#define LOWEST UINT64_C(0x10000)

void heap_window_deinit(struct heap_window *window)
{
	free(window->bytes);
	window->bytes = NULL;
	window->size_bytes = 0;
}

const uint8_t *heap_window_at(struct heap_window *window, uint64_t addr, uint64_t size_bytes)
{
	if (size_bytes > HEAP_WINDOW_BYTES)
		return NULL;
	if (addr >= window->addr && addr - window->addr + size_bytes <= window->size_bytes)
		return window->bytes + (addr - window->addr);
	if (!window->bytes)
		window->bytes = tap_alloc(HEAP_WINDOW_BYTES);
	window->addr = addr;
	window->size_bytes =
		tap_memory_glance(window->memory, addr, window->bytes, HEAP_WINDOW_BYTES);
	return size_bytes <= window->size_bytes ? window->bytes : NULL;
}

static void scan_piece(const uint8_t *bytes, uint64_t addr, uint64_t size_bytes,
	heap_word_fn fn, void *context)
{
	for (uint64_t at = 0; at + WORD <= size_bytes; at += WORD) {
		uint64_t word;

		memcpy(&word, bytes + at, sizeof(word));
		if (word >= LOWEST && word >> 47 == 0)
			fn(context, addr + at, word & ~TAG_BITS);
	}
}

void heap_scan(struct heap_window *window, uint64_t start, uint64_t end, heap_word_fn fn,
	void *context)
{
	start = (start + WORD - 1) & ~(uint64_t)(WORD - 1);
	while (start + WORD <= end) {
		uint64_t size = end - start < HEAP_WINDOW_BYTES ? end - start : HEAP_WINDOW_BYTES;
		const uint8_t *bytes = heap_window_at(window, start, size);

		if (bytes) {
			scan_piece(bytes, start, size, fn, context);
			start += size;
			continue;
		}
		/* As far as it is mapped, and from the next page on. */
		if (window->size_bytes)
			scan_piece(window->bytes, start, window->size_bytes, fn, context);
		start = ((start + window->size_bytes) | (PAGE - 1)) + 1;
	}
}

void heap_scan_resident(struct heap_window *window, pid_t pid, uint64_t start, uint64_t end,
	heap_word_fn fn, void *context)
{
	struct tap_pagemap *pagemap = tap_pagemap_open(pid);
	uint64_t at = start & ~(PAGE - 1);

	while ((at = tap_pagemap_next(pagemap, at, end)) < end) {
		uint64_t begin = at > start ? at : start;

		heap_scan(window, begin, at + PAGE < end ? at + PAGE : end, fn, context);
		at += PAGE;
	}
	tap_pagemap_close(pagemap);
}
