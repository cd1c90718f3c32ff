/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/memory/window.h"

#define SMALL ((size_t)4096)

void tap_window_init(struct tap_window *window, struct tap_memory *memory)
{
	memset(window, 0, sizeof(*window));
	window->memory = memory;
	window->bytes = tap_realloc(NULL, TAP_WINDOW_BYTES);
	window->wanted = SMALL;
}

void tap_window_deinit(struct tap_window *window)
{
	free(window->bytes);
	window->bytes = NULL;
}

const uint8_t *tap_window_move(struct tap_window *window, uint64_t addr, size_t size_bytes)
{
	uint64_t end = window->addr + window->size_bytes;

	if (window->size_bytes && addr >= window->addr && addr <= end + SMALL)
		window->wanted = window->wanted * 2 < TAP_WINDOW_BYTES ? window->wanted * 2 : TAP_WINDOW_BYTES;
	else
		window->wanted = SMALL;
	if (window->wanted < size_bytes)
		window->wanted = size_bytes;
	window->addr = addr;
	window->size_bytes =
		tap_memory_read_some(window->memory, addr, window->bytes, window->wanted);
	return window->size_bytes >= size_bytes ? window->bytes : NULL;
}
