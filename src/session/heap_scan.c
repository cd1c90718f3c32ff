/* SPDX-License-Identifier: Apache-2.0 */
#include "session/heap_scan.h"

#define PAGE UINT64_C(4096)
#define WORD 8
#define TAG_BITS UINT64_C(7)
/* Of user space, with four levels of page tables. */
#define ADDRESS_BITS 47
/* No address of a heap lies below. */
#define LOWEST UINT64_C(0x10000)

void heap_scan_words(
	uint64_t addr, const uint64_t *words, size_t count, heap_word_fn fn, void *context)
{
	for (size_t i = 0; i < count; i++)
		if (words[i] >= LOWEST && words[i] >> ADDRESS_BITS == 0)
			fn(context, addr + i * WORD, words[i] & ~TAG_BITS);
}

void heap_scan(struct tap_window *window, uint64_t start, uint64_t end, heap_word_fn fn,
	void *context)
{
	start = (start + WORD - 1) & ~(uint64_t)(WORD - 1);
	while (start + WORD <= end) {
		uint64_t size = end - start < TAP_WINDOW_BYTES ? end - start : TAP_WINDOW_BYTES;
		const void *bytes = tap_window_at(window, start, size);

		if (bytes) {
			heap_scan_words(start, bytes, size / WORD, fn, context);
			start += size;
			continue;
		}
		/* As far as it is mapped, and from the next page on. */
		if (window->size_bytes)
			heap_scan_words(start, (const void *)window->bytes,
				window->size_bytes / WORD, fn, context);
		start = ((start + window->size_bytes) | (PAGE - 1)) + 1;
	}
}
