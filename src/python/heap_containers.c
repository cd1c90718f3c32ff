/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers: list, tuple, dict, set, deque (Modules/_collectionsmodule.c),
 * bytearray, numpy.ndarray.
 */

#include <string.h>
#include "python/heap_edges.h"
#include "python/walk.h"

#define MAX_BLOCKS (1u << 26)
#define MAX_ITEMS (UINT64_C(1) << 36)
#define SET_CHUNK 256 /* entries */

/* numpy/core/include/numpy/ndarraytypes.h, PyArrayObject_fields: these since
 * 1.7; what follows differs. And PyArray_Descr. */
#define ARRAY_DATA 16
#define ARRAY_DIMENSIONS_COUNT 24
#define ARRAY_DIMENSIONS 32
#define ARRAY_BASE 48
#define ARRAY_DESCR 56
#define ARRAY_FLAGS 64
#define ARRAY_WEAKREFS 72
#define ARRAY_OWNDATA 4
#define ARRAY_MAX_DIMENSIONS 64
#define DESCR_KIND 24

static void of_list(struct tap_python_edges *edges)
{
	const struct tap_python_layout *layout = edges->heap->layout;
	uint64_t items = tap_python_edges_field(edges, layout->list.items);
	uint64_t count = tap_python_edges_field(edges, layout->object.items);

	if (!items || count > tap_python_edges_field(edges, layout->list.allocated))
		return;
	tap_python_edges_add(edges, items, TAP_PYTHON_EDGE_PART);
	tap_python_edges_array(edges, items, count < MAX_ITEMS ? count : MAX_ITEMS,
		TAP_PYTHON_EDGE_INDEX, 0, 0);
}

static void of_tuple(struct tap_python_edges *edges)
{
	const struct tap_python_layout *layout = edges->heap->layout;
	uint64_t count = tap_python_edges_field(edges, layout->object.items);

	tap_python_edges_array(edges, edges->addr + (uint64_t)layout->tuple.items,
		count < MAX_ITEMS ? count : 0, TAP_PYTHON_EDGE_INDEX, 0, 0);
}

static bool give_item(void *context, uint64_t key, uint64_t value)
{
	struct tap_python_edges *edges = context;

	return tap_python_edges_add(edges, key, TAP_PYTHON_EDGE_PLAIN) &&
	       tap_python_edges_give(edges, &(struct tap_python_edge){.addr = value,
						    .how = TAP_PYTHON_EDGE_KEY,
						    .key = key});
}

/* From 3.13 on the array may be the one inside of an instance. */
static bool has_values_of_instance(struct tap_python_heap *heap, uint64_t values)
{
	int32_t offset = heap->layout->values.embedded;
	uint8_t embedded;

	return offset >= 0 &&
	       tap_memory_try_u8(heap->memory, values + (uint64_t)offset, &embedded) && embedded;
}

/* 3.11, 3.12: in front of the array lies a table, whose size is in the byte
 * before the array. */
static uint64_t block_of_values(struct tap_python_heap *heap, uint64_t values)
{
	uint8_t prefix;

	if (heap->layout->values.values < 0 || heap->layout->values.capacity >= 0 ||
		!tap_memory_try_u8(heap->memory, values - 1, &prefix))
		return values;
	return values - prefix;
}

static void of_dict(struct tap_python_edges *edges)
{
	struct tap_python_heap *heap = edges->heap;
	struct tap_python_dict dict;

	if (!tap_python_dict_read(heap, edges->addr, &dict))
		return;
	tap_python_edges_add(edges, dict.keys.addr, TAP_PYTHON_EDGE_PART);
	if (dict.values && has_values_of_instance(heap, dict.values)) {
		/* Whose they are there; then the dict's. */
		if (heap->layout->minor < 14)
			return;
	} else if (dict.values) {
		tap_python_edges_add(
			edges, block_of_values(heap, dict.values), TAP_PYTHON_EDGE_PART);
	}
	tap_python_dict_each(heap, &dict, give_item, edges);
}

static uint64_t word(const uint8_t *bytes)
{
	uint64_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

/* What was removed leaves a mark, whose hash is -1: no object has that. */
static void of_set(struct tap_python_edges *edges)
{
	const struct tap_python_layout *layout = edges->heap->layout;
	uint64_t table = tap_python_edges_field(edges, layout->set.table);
	uint64_t mask = tap_python_edges_field(edges, layout->set.mask);
	size_t size = (size_t)layout->set.entry_size;
	uint8_t entries[SET_CHUNK * 16];

	if (!table || size > 16 || mask >= MAX_ITEMS || mask & (mask + 1))
		return;
	if (table != edges->addr + (uint64_t)layout->set.small_table)
		tap_python_edges_add(edges, table, TAP_PYTHON_EDGE_PART);
	for (uint64_t done = 0; done <= mask && !edges->enough; done += SET_CHUNK) {
		size_t count = mask + 1 - done < SET_CHUNK ? (size_t)(mask + 1 - done) : SET_CHUNK;

		if (!tap_memory_try_read(
			    edges->heap->memory, table + done * size, entries, count * size))
			return;
		for (size_t i = 0; i < count; i++) {
			const uint8_t *entry = entries + i * size;

			if (word(entry + size - 8) != UINT64_MAX)
				tap_python_edges_add(edges, word(entry + layout->set.entry_key),
					TAP_PYTHON_EDGE_PLAIN);
		}
	}
}

/* Blocks that it keeps for later. */
static void spare_blocks(struct tap_python_edges *edges)
{
	const struct tap_python_layout *layout = edges->heap->layout;
	uint64_t count = tap_python_edges_field(edges, layout->deque.free_block_count);

	if (layout->deque.free_blocks >= 0)
		tap_python_edges_array(edges, edges->addr + (uint64_t)layout->deque.free_blocks,
			count <= 16 ? count : 0, TAP_PYTHON_EDGE_PART, 0, 0);
}

static void of_deque(struct tap_python_edges *edges)
{
	const struct tap_python_layout *layout = edges->heap->layout;
	uint64_t block = tap_python_edges_field(edges, layout->deque.left_block);
	uint64_t index = tap_python_edges_field(edges, layout->deque.left_index);
	uint64_t left = tap_python_edges_field(edges, layout->object.items), number = 0;
	uint64_t room = (uint64_t)(layout->deque.block_right - layout->deque.block_data) / 8;
	struct tap_python_walk walk = {0};

	spare_blocks(edges);
	/* An empty one has a block as well, whose index may be behind it. */
	while (index <= room && tap_python_walk_on(&walk, block, MAX_BLOCKS)) {
		uint64_t here = room - index < left ? room - index : left;

		tap_python_edges_add(edges, block, TAP_PYTHON_EDGE_PART);
		tap_python_edges_array(edges,
			block + (uint64_t)layout->deque.block_data + index * 8, here,
			TAP_PYTHON_EDGE_INDEX, number, 0);
		left -= here;
		number += here;
		index = 0;
		if (!left || edges->enough ||
			!tap_python_heap_field(
				edges->heap, block, layout->deque.block_right, &block))
			return;
	}
}

/* From 3.15 on the bytes are those of a bytes object. */
static void of_bytearray(struct tap_python_edges *edges)
{
	const struct tap_python_layout *layout = edges->heap->layout;
	int32_t offset = layout->bytearray.bytes_object >= 0 ? layout->bytearray.bytes_object
							     : layout->bytearray.bytes;

	tap_python_edges_add(edges, tap_python_edges_field(edges, offset), TAP_PYTHON_EDGE_PART);
}

/* How many objects the data of an array of objects holds; 0 for others. */
static uint64_t objects_of_array(struct tap_python_edges *edges, uint64_t descr)
{
	uint64_t dimensions[ARRAY_MAX_DIMENSIONS], count = 1;
	uint64_t at = tap_python_edges_field(edges, ARRAY_DIMENSIONS);
	uint32_t n;
	uint8_t kind;

	if (!descr || !tap_memory_try_u8(edges->heap->memory, descr + DESCR_KIND, &kind) ||
		kind != 'O' ||
		!tap_python_heap_field32(edges->heap, edges->addr, ARRAY_DIMENSIONS_COUNT, &n) ||
		n > ARRAY_MAX_DIMENSIONS ||
		!tap_memory_try_read(edges->heap->memory, at, dimensions, n * 8))
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		if (dimensions[i] && count > MAX_ITEMS / dimensions[i])
			return 0;
		count *= dimensions[i];
	}
	return count;
}

static void of_array(struct tap_python_edges *edges)
{
	uint64_t data = tap_python_edges_field(edges, ARRAY_DATA);
	uint64_t descr = tap_python_edges_field(edges, ARRAY_DESCR);
	uint32_t flags;

	if (!tap_python_heap_field32(edges->heap, edges->addr, ARRAY_FLAGS, &flags))
		return;
	if (flags & ARRAY_OWNDATA) {
		tap_python_edges_add(edges, data, TAP_PYTHON_EDGE_PART);
		tap_python_edges_array(edges, data, objects_of_array(edges, descr),
			TAP_PYTHON_EDGE_INDEX, 0, 0);
	}
	tap_python_edges_add(
		edges, tap_python_edges_field(edges, ARRAY_DIMENSIONS), TAP_PYTHON_EDGE_PART);
	tap_python_edges_give(edges,
		&(struct tap_python_edge){.addr = tap_python_edges_field(edges, ARRAY_BASE),
			.how = TAP_PYTHON_EDGE_FIELD,
			.text = ".base"});
	tap_python_edges_give(edges, &(struct tap_python_edge){.addr = descr,
					     .how = TAP_PYTHON_EDGE_FIELD,
					     .text = ".dtype"});
	if (edges->type->builtin_bytes > ARRAY_WEAKREFS + 8)
		tap_python_edges_array(edges, edges->addr + ARRAY_WEAKREFS + 8,
			(edges->type->builtin_bytes - ARRAY_WEAKREFS - 8) / 8,
			TAP_PYTHON_EDGE_PLAIN, 0, 0);
}

bool tap_python_edges_of_container(struct tap_python_edges *edges)
{
	static void (*const walks[])(struct tap_python_edges *) = {
		[TAP_PYTHON_LIST] = of_list,
		[TAP_PYTHON_TUPLE] = of_tuple,
		[TAP_PYTHON_DICT] = of_dict,
		[TAP_PYTHON_SET] = of_set,
		[TAP_PYTHON_DEQUE] = of_deque,
		[TAP_PYTHON_BYTEARRAY] = of_bytearray,
		[TAP_PYTHON_NDARRAY] = of_array,
	};
	size_t kind = edges->type->shown.kind;

	if (kind >= TAP_PYTHON_COUNT(walks) || !walks[kind])
		return false;
	walks[kind](edges);
	return true;
}
