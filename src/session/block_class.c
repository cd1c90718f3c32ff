/* SPDX-License-Identifier: Apache-2.0 */
#include "session/recorder.h"

/* Classes are numbers with the allocator in the top bits. */
#define CLASS_POOL (UINT32_C(1) << 30)
#define CLASS_CHUNK (UINT32_C(2) << 30)
#define CLASS_MAPPING (UINT32_C(3) << 30)
#define CLASS_SIZE_MASK ((UINT32_C(1) << 30) - 1)

/* glibc's malloc_chunk (malloc/malloc.c): the word in front of a block is its
 * chunk's size with three flags. */
#define CHUNK_FLAGS UINT64_C(7)
#define CHUNK_IS_MAPPED UINT64_C(2)
#define CHUNK_LEAST 32
#define CHUNK_ALIGN 16
#define CHUNK_HEAD 16
#define PAGE_BYTES 4096

static bool chunk_class(
	struct recorder *rec, uint64_t addr, uint32_t *class_ret, uint64_t *usable_ret)
{
	uint64_t word, size;

	if (!rec->glibc || !tap_memory_try_glance(rec->memory, addr - 8, &word, sizeof(word)))
		return false;
	size = word & ~CHUNK_FLAGS;
	if (size < CHUNK_LEAST || size % CHUNK_ALIGN || size >> 46)
		return false;
	/* Alone in its mapping it reaches to the end of a page; from 2.43 on it
	 * leaves out a header that stands there. */
	if (word & CHUNK_IS_MAPPED &&
		(size + addr - CHUNK_HEAD + CHUNK_HEAD) / PAGE_BYTES ==
			(size + addr - CHUNK_HEAD - 1) / PAGE_BYTES)
		return false;
	*usable_ret = size - (word & CHUNK_IS_MAPPED ? 16 : 8);
	*class_ret = CLASS_CHUNK | ((uint32_t)(size / CHUNK_ALIGN) & CLASS_SIZE_MASK);
	return true;
}

bool block_class(struct recorder *rec, uint64_t addr, bool object_domain, uint32_t *class_ret,
	uint64_t *usable_ret)
{
	uint32_t size = object_domain && rec->python ?
		tap_python_pool_block_size(rec->python, addr) :
		0;

	if (!size)
		return chunk_class(rec, addr, class_ret, usable_ret);
	*usable_ret = size;
	*class_ret = CLASS_POOL | size;
	return true;
}

uint32_t block_class_of_pool(uint32_t size_bytes)
{
	return CLASS_POOL | size_bytes;
}

/* The rest of a mapped chunk's page is part of it: its header has two words. */
uint32_t block_class_of_chunk(uint64_t usable_bytes)
{
	uint64_t size = usable_bytes + 8;

	if (size % CHUNK_ALIGN)
		size = usable_bytes + 16;
	return CLASS_CHUNK | ((uint32_t)(size / CHUNK_ALIGN) & CLASS_SIZE_MASK);
}

uint32_t block_class_of_mapping(uint64_t size_bytes)
{
	return CLASS_MAPPING | ((uint32_t)(size_bytes / PAGE_BYTES) & CLASS_SIZE_MASK);
}
