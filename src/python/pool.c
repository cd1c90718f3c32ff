/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pymalloc's pools (Objects/obmalloc.c): aligned to their size, a header in
 * front that checks itself, blocks of one size class after it.
 */
#include "python/runtime.h"

#define ALIGNMENT 16
#define CLASSES 32

uint32_t tap_python_pool_class_bytes(const struct tap_python_layout *layout, const uint8_t *header)
{
	uint32_t class_index = tap_python_u32(header, layout->pool.class_index);
	uint32_t block_size = (class_index + 1) * ALIGNMENT;

	if (class_index >= CLASSES || tap_python_u32(header, layout->pool.max_next_offset) !=
					      (uint32_t)layout->pool.size - block_size)
		return 0;
	return block_size;
}

uint32_t tap_python_pool_block_size(struct tap_python *python, uint64_t addr)
{
	const struct tap_python_layout *layout = &python->layout;
	uint8_t header[TAP_PYTHON_STRUCT];
	uint32_t count, next_offset, block_size, pool_size, header_size;
	uint64_t base, offset;

	if (!python->info.supported)
		return 0;
	pool_size = (uint32_t)layout->pool.size;
	header_size = (uint32_t)layout->pool.header_size;
	base = addr & ~(uint64_t)(pool_size - 1);
	offset = addr - base;
	if (offset < header_size || !tap_memory_try_glance(python->memory, base, header, header_size))
		return 0;
	block_size = tap_python_pool_class_bytes(layout, header);
	if (!block_size)
		return 0;
	count = tap_python_u32(header, layout->pool.count);
	next_offset = tap_python_u32(header, layout->pool.next_offset);
	if (!count || count > (pool_size - header_size) / block_size)
		return 0;
	/* Blocks beyond next_offset were never handed out. */
	if (next_offset > pool_size + block_size || offset >= next_offset ||
		(offset - header_size) % block_size)
		return 0;
	return block_size;
}
