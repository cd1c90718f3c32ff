/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_MEMORY_WINDOW_H
#define HEAPTAP_MEMORY_WINDOW_H

/*
 * A view of the target's memory that moves forward with whoever walks it:
 * large reads where the walk is dense, small ones where it jumps.
 */

#include <stddef.h>
#include <stdint.h>
#include "heaptap/memory/memory.h"

#define TAP_WINDOW_BYTES ((size_t)256 << 10)

struct tap_window {
	struct tap_memory *memory;
	uint8_t *bytes;
	uint64_t addr;
	size_t size_bytes; /* that were read */
	size_t wanted;
};

void tap_window_init(struct tap_window *window, struct tap_memory *memory);
void tap_window_deinit(struct tap_window *window);

/* What is in view is old: the next look reads anew. */
static inline void tap_window_forget(struct tap_window *window)
{
	window->size_bytes = 0;
}

const uint8_t *tap_window_move(struct tap_window *window, uint64_t addr, size_t size_bytes);

/* size_bytes at addr (TAP_WINDOW_BYTES at most), valid until the next look; NULL
 * where they are not mapped: window->size_bytes of them are. */
static inline const uint8_t *tap_window_at(
	struct tap_window *window, uint64_t addr, size_t size_bytes)
{
	if (addr >= window->addr && size_bytes <= window->size_bytes &&
		addr - window->addr <= window->size_bytes - size_bytes)
		return window->bytes + (addr - window->addr);
	return tap_window_move(window, addr, size_bytes);
}

#endif
