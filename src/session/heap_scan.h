/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_HEAP_SCAN_H
#define HEAPTAP_SESSION_HEAP_SCAN_H

/* Every aligned word of some memory that may be a pointer. */

#include <stddef.h>
#include <stdint.h>
#include "heaptap/memory/window.h"

/* at: where the word lies. Its lowest three bits are cleared: they may be tags. */
typedef void (*heap_word_fn)(void *context, uint64_t at, uint64_t word);

/* Calls fn for every such word of [start, end). What is not mapped is passed over. */
void heap_scan(struct tap_window *window, uint64_t start, uint64_t end, heap_word_fn fn,
	void *context);
/* The same of words that were read already, the first of which lies at addr. */
void heap_scan_words(
	uint64_t addr, const uint64_t *words, size_t count, heap_word_fn fn, void *context);

#endif
