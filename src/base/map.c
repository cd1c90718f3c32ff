/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/map.h"

#define INITIAL_CAPACITY 64

/* The finaliser of MurmurHash3. */
uint64_t tap_hash_u64(uint64_t value)
{
	value ^= value >> 33;
	value *= UINT64_C(0xff51afd7ed558ccd);
	value ^= value >> 33;
	value *= UINT64_C(0xc4ceb9fe1a85ec53);
	value ^= value >> 33;
	return value;
}

uint64_t tap_hash_bytes(const void *bytes, size_t size_bytes, uint64_t seed)
{
	const uint8_t *p = bytes;
	uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ seed;

	for (size_t i = 0; i < size_bytes; i++)
		hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
	return tap_hash_u64(hash);
}

static size_t home(const struct tap_map *map, uint64_t key)
{
	return (size_t)tap_hash_u64(key) & (map->capacity - 1);
}

/* The slot of key, or the free one where it would go. */
static size_t locate(const struct tap_map *map, uint64_t key)
{
	size_t i = home(map, key);

	while (map->used[i] && map->slots[i].key != key)
		i = (i + 1) & (map->capacity - 1);
	return i;
}

uint64_t *tap_map_find(const struct tap_map *map, uint64_t key)
{
	size_t i;

	if (!map->count)
		return NULL;
	i = locate(map, key);
	return map->used[i] ? &map->slots[i].value : NULL;
}

static void grow(struct tap_map *map)
{
	struct tap_map old = *map;

	map->capacity = old.capacity ? old.capacity * 2 : INITIAL_CAPACITY;
	map->slots = tap_alloc(map->capacity * sizeof(*map->slots));
	map->used = tap_alloc(map->capacity);
	for (size_t i = 0; i < old.capacity; i++) {
		if (old.used[i]) {
			size_t j = locate(map, old.slots[i].key);

			map->slots[j] = old.slots[i];
			map->used[j] = 1;
		}
	}
	free(old.slots);
	free(old.used);
}

uint64_t *tap_map_put(struct tap_map *map, uint64_t key, bool *added_ret)
{
	size_t i;

	/* At most two thirds full. */
	if ((map->count + 1) * 3 > map->capacity * 2)
		grow(map);
	i = locate(map, key);
	if (added_ret)
		*added_ret = !map->used[i];
	if (!map->used[i]) {
		map->used[i] = 1;
		map->slots[i].key = key;
		map->slots[i].value = 0;
		map->count++;
	}
	return &map->slots[i].value;
}

bool tap_map_remove(struct tap_map *map, uint64_t key, uint64_t *value_ret)
{
	size_t mask = map->capacity - 1;
	size_t hole, next;

	if (!map->count)
		return false;
	hole = locate(map, key);
	if (!map->used[hole])
		return false;
	if (value_ret)
		*value_ret = map->slots[hole].value;
	/* Shift back whoever would no longer be found across the hole. */
	for (next = (hole + 1) & mask; map->used[next]; next = (next + 1) & mask) {
		size_t want = home(map, map->slots[next].key);

		if (((next - want) & mask) >= ((next - hole) & mask)) {
			map->slots[hole] = map->slots[next];
			hole = next;
		}
	}
	map->used[hole] = 0;
	map->count--;
	return true;
}

void tap_map_clear(struct tap_map *map)
{
	if (map->capacity)
		memset(map->used, 0, map->capacity);
	map->count = 0;
}

void tap_map_deinit(struct tap_map *map)
{
	free(map->slots);
	free(map->used);
	memset(map, 0, sizeof(*map));
}

bool tap_map_next(const struct tap_map *map, size_t *index, struct tap_map_slot **slot_ret)
{
	while (*index < map->capacity) {
		size_t i = (*index)++;

		if (map->used[i]) {
			*slot_ret = &map->slots[i];
			return true;
		}
	}
	return false;
}
