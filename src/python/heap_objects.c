/* SPDX-License-Identifier: Apache-2.0 */
#include "python/heap_internal.h"

#define HEAD_BYTES 64
#define MAX_LEAD 32
#define LEAD_STEP 16
#define END_ADDR (UINT64_C(1) << 47)
#define GC_FLAGS UINT64_C(3)

static uint64_t word_at(const uint8_t *bytes, size_t offset)
{
	uint64_t value;

	memcpy(&value, bytes + offset, sizeof(value));
	return value;
}

/* Include/object.h: to 3.11 a count of 64 bits. Then the low 32 bits, those of
 * objects that never die included; above them nothing, from 3.14 on an
 * overflow, which is nothing, and 16 flags. */
static bool is_alive(const struct tap_python_heap *heap, uint64_t refcount)
{
	if (heap->layout->minor >= 14)
		refcount &= ~(UINT64_C(0xFF) << 48);
	return refcount && refcount <= UINT32_MAX;
}

/* Include/cpython/objimpl.h: both links, or none where it is not tracked. The
 * low bits are flags; of an object that is not tracked they may be there
 * still. */
static bool is_gc_head(const uint8_t *bytes)
{
	uint64_t next = word_at(bytes, 0) & ~GC_FLAGS, prev = word_at(bytes, 8) & ~GC_FLAGS;

	if (!next || !prev)
		return !next && !prev;
	return !(next & 7) && !(prev & 7) && next < END_ADDR && prev < END_ADDR;
}

/* A block's beginning. */
struct block {
	uint64_t addr;
	const uint8_t *bytes;
	uint64_t size_bytes; /* of bytes */
	uint64_t room;       /* of the block, where it is known; else more than there is */
};

/* Objects/obmalloc.c: what PYTHONMALLOC=debug puts in front, the size and a
 * letter for the domain; 0 where there is nothing. */
static uint32_t debug_bytes(const struct block *block)
{
	uint64_t word;

	if (block->size_bytes < 2 * sizeof(word))
		return 0;
	word = word_at(block->bytes, sizeof(word));
	return word >> 8 == UINT64_C(0xFDFDFDFDFDFDFD) && (word & 0xFF) ? 2 * sizeof(word) : 0;
}

static bool is_object(const struct tap_python_heap *heap, const struct block *block, uint32_t lead,
	const struct tap_python_heap_type *type)
{
	return type && type->lead_bytes == lead && type->least_bytes <= block->room - lead &&
	       is_alive(heap, word_at(block->bytes, lead)) &&
	       (!type->shown.collected ||
		       is_gc_head(block->bytes + lead - heap->layout->gc.head_size));
}

/* The type of the object that it holds, NULL where it holds none. */
static const struct tap_python_heap_type *find_type(
	struct tap_python_heap *heap, const struct block *block)
{
	uint32_t type_offset = (uint32_t)heap->layout->object.type;
	const struct tap_python_heap_type *type;
	uint32_t lead;

	for (lead = 0; lead <= MAX_LEAD && lead + 16 <= block->size_bytes; lead += LEAD_STEP) {
		type = tap_python_heap_type_known(heap, word_at(block->bytes, lead + type_offset));
		if (is_object(heap, block, lead, type))
			return type;
	}
	/* Only where it may be an object of a type that was not met. */
	for (lead = 0; lead <= MAX_LEAD && lead + 16 <= block->size_bytes; lead += LEAD_STEP) {
		if (!is_alive(heap, word_at(block->bytes, lead)))
			continue;
		type = tap_python_heap_type_at(heap, word_at(block->bytes, lead + type_offset));
		if (is_object(heap, block, lead, type))
			return type;
	}
	return NULL;
}

bool tap_python_heap_object(struct tap_python_heap *heap, uint64_t block_addr, const uint8_t *bytes,
	uint64_t size_bytes, struct tap_python_object *ret)
{
	struct block block = {.addr = block_addr, .bytes = bytes, .size_bytes = size_bytes};
	const struct tap_python_heap_type *type;
	uint8_t own[HEAD_BYTES];
	uint32_t debug;

	if (!bytes) {
		block.size_bytes = tap_memory_read_some(heap->memory, block_addr, own, sizeof(own));
		block.bytes = own;
	}
	debug = debug_bytes(&block);
	block.addr += debug;
	block.bytes += debug;
	block.size_bytes -= debug;
	block.room = bytes && size_bytes < HEAD_BYTES ? block.size_bytes : UINT64_MAX;
	type = find_type(heap, &block);
	if (!type)
		return false;
	ret->addr = block.addr + type->lead_bytes;
	ret->type = type->number;
	ret->lead_bytes = debug + type->lead_bytes;
	return true;
}

/* Types that were not made at run time have no head of the collector. */
static bool has_lead(
	struct tap_python_heap *heap, const struct tap_python_heap_type *type, uint64_t addr)
{
	const struct tap_python_heap_type *itself;

	if (type->shown.kind != TAP_PYTHON_TYPE)
		return true;
	itself = tap_python_heap_type_at(heap, addr);
	return itself && itself->shown.is_heap_type;
}

bool tap_python_heap_object_at(
	struct tap_python_heap *heap, uint64_t addr, struct tap_python_object *ret)
{
	const struct tap_python_heap_type *type;
	uint8_t head[2 * sizeof(uint64_t)];

	if (!addr || addr & 7 || addr >= END_ADDR ||
		!tap_memory_try_read(heap->memory, addr, head, sizeof(head)) ||
		!is_alive(heap, word_at(head, 0)))
		return false;
	type = tap_python_heap_type_at(heap, word_at(head, (size_t)heap->layout->object.type));
	if (!type)
		return false;
	ret->addr = addr;
	ret->type = type->number;
	ret->lead_bytes = has_lead(heap, type, addr) ? type->lead_bytes : 0;
	return true;
}

static bool is_str(struct tap_python_heap *heap, uint64_t addr)
{
	struct tap_python_object object;

	return tap_python_heap_object_at(heap, addr, &object) &&
	       tap_python_heap_type(heap, object.type)->flags & TAP_PYTHON_STR_SUBCLASS;
}

bool tap_python_heap_text(struct tap_python_heap *heap, uint64_t addr, char *buf, size_t capacity)
{
	return is_str(heap, addr) && tap_python_unicode(heap->python, addr, buf, capacity);
}

/* Where an object keeps the number of its items; ABSENT where it has none. */
static int32_t length_offset(
	const struct tap_python_layout *layout, const struct tap_python_heap_type *type)
{
	switch (type->shown.kind) {
	case TAP_PYTHON_LIST:
	case TAP_PYTHON_TUPLE:
	case TAP_PYTHON_DEQUE:
	case TAP_PYTHON_BYTEARRAY:
		return layout->object.items;
	case TAP_PYTHON_DICT:
		return layout->dict.used;
	case TAP_PYTHON_SET:
		return layout->set.used;
	default:
		if (type->shown.flags & TAP_PYTHON_STR_SUBCLASS)
			return layout->unicode.length;
		return type->shown.flags & TAP_PYTHON_BYTES_SUBCLASS ? layout->object.items
								     : TAP_PYTHON_ABSENT;
	}
}

int64_t tap_python_heap_length(struct tap_python_heap *heap, const struct tap_python_object *object)
{
	const struct tap_python_layout *layout = heap->layout;
	const struct tap_python_heap_type *type = tap_python_heap_type_of(heap, object);
	int32_t offset = length_offset(layout, type);
	uint64_t addr = object->addr, length;

	if (type->shown.kind == TAP_PYTHON_LRU_CACHE || type->shown.kind == TAP_PYTHON_MODULE) {
		offset = layout->dict.used;
		if (!tap_python_heap_field(heap, addr,
			    type->shown.kind == TAP_PYTHON_MODULE ? layout->module.dict
								  : layout->lru.cache,
			    &addr))
			return -1;
	}
	if (!tap_python_heap_field(heap, addr, offset, &length) || length > INT64_MAX)
		return -1;
	return (int64_t)length;
}
