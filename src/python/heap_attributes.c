/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an object has because of its class: attributes, slots, the class. Where
 * attributes lie differs (Objects/dictobject.c, Objects/object.c):
 *
 *   to 3.10  a dict at tp_dictoffset; less than 0: from the object's end
 *   3.11     32 bytes before the object the array of values, 24 before it the
 *            dict, of which one is there; dicts at tp_dictoffset go on to exist
 *   3.12     24 bytes before it either: the array less 1, or the dict
 *   3.13 on  the dict there, the array at the end of the object, or both, of
 *            which from 3.14 on the dict refers to the values
 */

#include "python/heap_edges.h"

#define MANAGED_DICT 24   /* bytes before the object */
#define MANAGED_VALUES 32
#define MAX_SHARED_KEYS 64 /* SHARED_KEYS_MAX_SIZE is 30 */
#define MAX_OBJECT_ITEMS (UINT64_C(1) << 32)

/* Before 3.13 the array has as many places as its class has keys. */
static uint64_t shared_keys(struct tap_python_heap *heap, const struct tap_python_heap_type *type)
{
	struct tap_python_keys keys;

	if (!tap_python_keys_read(heap, type->cached_keys, &keys))
		return 0;
	return keys.count <= MAX_SHARED_KEYS ? keys.count : 0;
}

static void use_array(struct tap_python_heap *heap, const struct tap_python_heap_type *type,
	uint64_t values, struct tap_python_attributes *ret)
{
	uint8_t prefix;

	if (!values || !tap_memory_try_u8(heap->memory, values - 1, &prefix))
		return;
	ret->block = values - prefix;
	ret->values = values;
	ret->count = shared_keys(heap, type);
}

/* Inside of the object: not where the dict has taken them elsewhere. */
static void use_inline(struct tap_python_heap *heap, uint64_t addr,
	const struct tap_python_heap_type *type, struct tap_python_attributes *ret)
{
	const struct tap_python_layout *layout = heap->layout;
	uint64_t at = addr + type->shown.basic_bytes;
	uint8_t valid, capacity;

	if (!tap_memory_try_u8(heap->memory, at + (uint64_t)layout->values.valid, &valid) ||
		!tap_memory_try_u8(
			heap->memory, at + (uint64_t)layout->values.capacity, &capacity) ||
		!valid || capacity > MAX_SHARED_KEYS)
		return;
	ret->values = at + (uint64_t)layout->values.values;
	ret->count = capacity;
}

static void read_managed(struct tap_python_heap *heap, uint64_t addr,
	const struct tap_python_heap_type *type, struct tap_python_attributes *ret)
{
	uint64_t word, values;

	if (!tap_memory_try_u64(heap->memory, addr - MANAGED_DICT, &word))
		return;
	if (heap->layout->minor == 12 && word & 1) {
		use_array(heap, type, word + 1, ret);
		return;
	}
	ret->dict = word;
	if (heap->layout->minor == 11 &&
		tap_memory_try_u64(heap->memory, addr - MANAGED_VALUES, &values))
		use_array(heap, type, values, ret);
	if (heap->layout->values.valid >= 0 && type->shown.flags & TAP_PYTHON_INLINE_VALUES)
		use_inline(heap, addr, type, ret);
}

/* 0 where it has none. Numbers of digits are negative for negative ones. */
static uint64_t place_of_dict(struct tap_python_heap *heap, uint64_t addr,
	const struct tap_python_heap_type *type)
{
	int64_t offset = type->dict_offset, items;
	uint64_t word;

	if (offset >= 0)
		return offset && (uint64_t)offset + 8 <= type->shown.basic_bytes
			       ? addr + (uint64_t)offset
			       : 0;
	if (!tap_python_heap_field(heap, addr, heap->layout->object.items, &word))
		return 0;
	items = (int64_t)word;
	if (items < 0)
		items = -items;
	if (items < 0 || (uint64_t)items > MAX_OBJECT_ITEMS || offset < -64)
		return 0;
	return addr +
	       ((type->shown.basic_bytes + (uint64_t)items * type->shown.item_bytes + 7) &
		       ~UINT64_C(7)) -
	       (uint64_t)-offset;
}

void tap_python_attributes_read(struct tap_python_heap *heap, uint64_t addr,
	const struct tap_python_heap_type *type, struct tap_python_attributes *ret)
{
	uint64_t place;

	*ret = (struct tap_python_attributes){0};
	if (heap->layout->minor >= 11 && type->shown.flags & TAP_PYTHON_MANAGED_DICT) {
		read_managed(heap, addr, type, ret);
		return;
	}
	place = place_of_dict(heap, addr, type);
	if (place && !tap_memory_try_u64(heap->memory, place, &ret->dict))
		ret->dict = 0;
}

/* Where the words begin that are not known by its kind: those of a type that is
 * written in C, too, which may have more than the one it derives from. */
static int32_t known_bytes(const struct tap_python_layout *layout, enum tap_python_kind kind)
{
	switch (kind) {
	case TAP_PYTHON_LIST:
		return layout->list.allocated + 8;
	case TAP_PYTHON_DICT:
		return layout->dict.size;
	case TAP_PYTHON_SET:
		return layout->set.small_table + 8 * layout->set.entry_size;
	case TAP_PYTHON_EXCEPTION:
		return layout->exception.size;
	case TAP_PYTHON_WEAKREF:
		return layout->weakref.next + 8;
	default:
		return TAP_PYTHON_ABSENT;
	}
}

static void words_between(struct tap_python_edges *edges, uint64_t first, uint64_t end)
{
	if (first < end)
		tap_python_edges_array(edges, edges->addr + first, (end - first) / 8,
			TAP_PYTHON_EDGE_SLOT, first, 0);
}

/* All between first and end but one word. */
static void words_but(
	struct tap_python_edges *edges, uint64_t first, uint64_t end, int64_t but)
{
	uint64_t at = but > 0 ? (uint64_t)but : 0;

	if (at < first || at >= end) {
		words_between(edges, first, end);
		return;
	}
	words_between(edges, first, at);
	words_between(edges, at + 8, end);
}

/* Slots, and other fields; not the list of weak references, not the dict. */
static void add_words(struct tap_python_edges *edges)
{
	const struct tap_python_heap_type *type = edges->type;
	int32_t known = known_bytes(edges->heap->layout, type->shown.kind);
	uint64_t first = known < 0 ? type->builtin_bytes : (uint64_t)known;
	uint64_t end = type->shown.basic_bytes & ~UINT64_C(7);
	uint64_t dict = type->dict_offset > 0 ? (uint64_t)type->dict_offset : 0;

	first = (first + 7) & ~UINT64_C(7);
	if (type->shown.item_bytes || type->shown.kind == TAP_PYTHON_OTHER)
		return;
	if (dict >= first && dict < end) {
		words_but(edges, first, dict, type->weaklist_offset);
		first = dict + 8;
	}
	words_but(edges, first, end, type->weaklist_offset);
}

void tap_python_edges_of_class(struct tap_python_edges *edges)
{
	const struct tap_python_heap_type *type = edges->type;
	struct tap_python_attributes attributes;

	add_words(edges);
	tap_python_attributes_read(edges->heap, edges->addr, type, &attributes);
	tap_python_edges_add(edges, attributes.dict, TAP_PYTHON_EDGE_NAMESPACE);
	tap_python_edges_add(edges, attributes.block, TAP_PYTHON_EDGE_PART);
	if (attributes.values && (!attributes.dict || edges->heap->layout->minor < 14))
		tap_python_edges_array(edges, attributes.values, attributes.count,
			TAP_PYTHON_EDGE_SHARED, 0, type->cached_keys);
	if (type->shown.is_heap_type)
		tap_python_edges_give(edges, &(struct tap_python_edge){.addr = type->shown.addr,
						     .how = TAP_PYTHON_EDGE_FIELD,
						     .text = ".__class__"});
}
