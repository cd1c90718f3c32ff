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

/* bytes: of the block; addr: of the block plus lead. */
static bool is_object(const struct tap_python_heap *heap, const uint8_t *bytes, uint64_t size_bytes,
	const struct tap_python_heap_type *type)
{
	uint32_t lead = type->lead_bytes;

	if (size_bytes < HEAD_BYTES && type->shown.basic_bytes > size_bytes - lead)
		return false;
	return is_alive(heap, word_at(bytes, lead)) &&
	       (!type->shown.collected || is_gc_head(bytes + lead - heap->layout->gc.head_size));
}

static bool found(
	const struct tap_python_heap_type *type, uint64_t block_addr, struct tap_python_object *ret)
{
	ret->addr = block_addr + type->lead_bytes;
	ret->type = type->number;
	ret->lead_bytes = type->lead_bytes;
	return true;
}

bool tap_python_heap_object(struct tap_python_heap *heap, uint64_t block_addr, const uint8_t *bytes,
	uint64_t size_bytes, struct tap_python_object *ret)
{
	size_t type_offset = (size_t)heap->layout->object.type;
	const struct tap_python_heap_type *type;
	uint8_t own[HEAD_BYTES];

	if (!bytes) {
		size_bytes = tap_memory_read_some(heap->memory, block_addr, own, sizeof(own));
		bytes = own;
	}
	for (size_t lead = 0; lead <= MAX_LEAD && lead + 16 <= size_bytes; lead += LEAD_STEP) {
		type = tap_python_heap_type_known(heap, word_at(bytes, lead + type_offset));
		if (type && type->lead_bytes == lead && is_object(heap, bytes, size_bytes, type))
			return found(type, block_addr, ret);
	}
	/* Only where the block may be an object of a type that was not met. */
	for (size_t lead = 0; lead <= MAX_LEAD && lead + 16 <= size_bytes; lead += LEAD_STEP) {
		if (!is_alive(heap, word_at(bytes, lead)))
			continue;
		type = tap_python_heap_type_at(heap, word_at(bytes, lead + type_offset));
		if (type && type->lead_bytes == lead && is_object(heap, bytes, size_bytes, type))
			return found(type, block_addr, ret);
	}
	return false;
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
