/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dictionaries (Objects/dictobject.c): an index of slots, behind it entries in
 * the order in which they were added. A key table that many dictionaries
 * share has no values: each of them has an array of its own.
 */
#include <string.h>
#include "python/heap_internal.h"

#define MAX_LOG2_SLOTS 40
#define MAX_LOOK_THROUGH 65536
#define CHUNK_BYTES 3072 /* whole entries of 16 and of 24 bytes */

/* DK_IXSIZE: what counts entries in so many bits. */
static uint64_t index_bytes(uint64_t slots)
{
	if (slots <= 0xFF)
		return slots;
	if (slots <= 0xFFFF)
		return slots * 2;
	return slots * (slots <= 0xFFFFFFFF ? 4 : 8);
}

static void use_entries(struct tap_python_keys *keys, int32_t size, int32_t key, int32_t value)
{
	keys->entry_bytes = (uint32_t)size;
	keys->key_offset = (uint32_t)key;
	keys->value_offset = (uint32_t)value;
}

/* To 3.10 the number of slots is told, then its logarithm and that of the
 * index's bytes, and what the entries are. */
static bool read_shape(const struct tap_python_layout *layout, const uint8_t *head,
	struct tap_python_keys *keys, uint64_t *index_ret)
{
	uint8_t log2_slots, log2_index;

	use_entries(
		keys, layout->keys.entry_size, layout->keys.entry_key, layout->keys.entry_value);
	if (layout->keys.slots >= 0) {
		keys->slots = tap_python_u64(head, layout->keys.slots);
		*index_ret = index_bytes(keys->slots);
		return keys->slots && keys->slots <= UINT64_C(1) << MAX_LOG2_SLOTS &&
		       !(keys->slots & (keys->slots - 1));
	}
	log2_slots = head[layout->keys.log2_slots];
	log2_index = head[layout->keys.log2_index_bytes];
	if (log2_slots > MAX_LOG2_SLOTS || log2_index > MAX_LOG2_SLOTS + 3)
		return false;
	keys->slots = UINT64_C(1) << log2_slots;
	*index_ret = UINT64_C(1) << log2_index;
	if (head[layout->keys.kind])
		use_entries(keys, layout->keys.unicode_entry_size, layout->keys.unicode_entry_key,
			layout->keys.unicode_entry_value);
	return true;
}

bool tap_python_keys_read(struct tap_python_heap *heap, uint64_t addr, struct tap_python_keys *ret)
{
	const struct tap_python_layout *layout = heap->layout;
	uint8_t head[TAP_PYTHON_STRUCT];
	uint64_t index, room;

	memset(ret, 0, sizeof(*ret));
	if (!addr || addr & 7 ||
		!tap_memory_try_read(heap->memory, addr, head, (size_t)layout->keys.indices) ||
		!read_shape(layout, head, ret, &index))
		return false;
	ret->addr = addr;
	ret->refcount = (int64_t)tap_python_u64(head, layout->keys.refcount);
	ret->usable = tap_python_u64(head, layout->keys.usable);
	ret->count = tap_python_u64(head, layout->keys.entries);
	room = ret->slots * 2 / 3; /* USABLE_FRACTION */
	ret->entries = addr + (uint64_t)layout->keys.indices + index;
	ret->block_bytes = (uint64_t)layout->keys.indices + index + room * ret->entry_bytes;
	/* From 3.14 on that of the empty keys, which all share, is below 0. */
	return (ret->refcount > 0 || (ret->refcount < 0 && layout->minor >= 14)) &&
	       ret->usable <= room && ret->count <= room;
}

bool tap_python_dict_read(struct tap_python_heap *heap, uint64_t addr, struct tap_python_dict *ret)
{
	const struct tap_python_layout *layout = heap->layout;
	uint8_t copy[TAP_PYTHON_STRUCT];

	memset(ret, 0, sizeof(*ret));
	if (!addr || addr & 7 ||
		!tap_memory_try_read(heap->memory, addr, copy, (size_t)layout->dict.size))
		return false;
	ret->used = tap_python_u64(copy, layout->dict.used);
	ret->values = tap_python_u64(copy, layout->dict.values);
	if (ret->values)
		ret->values_array =
			ret->values +
			(layout->values.values > 0 ? (uint64_t)layout->values.values : 0);
	return tap_python_keys_read(heap, tap_python_u64(copy, layout->dict.keys), &ret->keys) &&
	       ret->used <= ret->keys.count;
}

static uint64_t word(const uint8_t *bytes)
{
	uint64_t value;

	memcpy(&value, bytes, sizeof(value));
	return value;
}

bool tap_python_keys_each(struct tap_python_heap *heap, const struct tap_python_keys *keys,
	uint64_t values_array, tap_python_item_fn fn, void *context)
{
	uint8_t entries[CHUNK_BYTES], values[CHUNK_BYTES];
	uint64_t step = CHUNK_BYTES / keys->entry_bytes;

	for (uint64_t first = 0; first < keys->count; first += step) {
		uint64_t count = keys->count - first < step ? keys->count - first : step;

		if (!tap_memory_try_read(heap->memory, keys->entries + first * keys->entry_bytes,
			    entries, count * keys->entry_bytes) ||
			(values_array && !tap_memory_try_read(heap->memory,
						 values_array + first * 8, values, count * 8)))
			return false;
		for (uint64_t i = 0; i < count; i++) {
			const uint8_t *entry = entries + i * keys->entry_bytes;
			uint64_t key = word(entry + keys->key_offset);
			uint64_t value =
				word(values_array ? values + i * 8 : entry + keys->value_offset);

			if (key && value && !fn(context, key, value))
				return true;
		}
	}
	return true;
}

struct wanted {
	struct tap_python_heap *heap;
	const char *key;
	uint64_t value;
};

static bool is_wanted(void *context, uint64_t key, uint64_t value)
{
	struct wanted *wanted = context;
	char text[128];

	if (!tap_python_unicode(wanted->heap->python, key, text, sizeof(text)) ||
		strcmp(text, wanted->key) != 0)
		return true;
	wanted->value = value;
	return false;
}

bool tap_python_dict_get(
	struct tap_python_heap *heap, uint64_t addr, const char *key, uint64_t *value_ret)
{
	struct wanted wanted = {.heap = heap, .key = key};
	struct tap_python_dict dict;

	if (!tap_python_dict_read(heap, addr, &dict) || dict.keys.count > MAX_LOOK_THROUGH)
		return false;
	tap_python_dict_each(heap, &dict, is_wanted, &wanted);
	*value_ret = wanted.value;
	return wanted.value != 0;
}
