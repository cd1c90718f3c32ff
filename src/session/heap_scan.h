/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_HEAP_SCAN_H
#define HEAPTAP_SESSION_HEAP_SCAN_H

/* Memory read upward in large pieces, and every aligned word of it that may be
 * a pointer. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/memory/memory.h"

struct heap_window {
	struct tap_memory *memory;
	uint64_t addr;
	size_t size_bytes; /* of what is in bytes */
	uint8_t *bytes;
};

void heap_window_deinit(struct heap_window *window);

/* size_bytes from addr on, at most HEAP_WINDOW_BYTES; NULL where they are not all
 * mapped. Holds until the next call. */
#define HEAP_WINDOW_BYTES (UINT64_C(1) << 18)
const uint8_t *heap_window_at(struct heap_window *window, uint64_t addr, uint64_t size_bytes);

/* Calls fn for every aligned word of [start, end) with its lowest three bits
 * cleared: they may be tags. What is not mapped is passed over. */
/* at: where the word lies. */
typedef void (*heap_word_fn)(void *context, uint64_t at, uint64_t word);
void heap_scan(struct heap_window *window, uint64_t start, uint64_t end, heap_word_fn fn,
	void *context);
/* The same of words that were read already, the first of which lies at addr. */
void heap_scan_words(
	uint64_t addr, const uint64_t *words, size_t count, heap_word_fn fn, void *context);

#endif
