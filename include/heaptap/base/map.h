/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_BASE_MAP_H
#define HEAPTAP_BASE_MAP_H

/*
 * A hash table from 64-bit keys to 64-bit values: open addressing, linear
 * probing, no tombstones (deletion shifts back). Values are numbers or
 * pointers of the caller, never freed here. Every key is allowed, 0 as well.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tap_map_slot {
	uint64_t key;
	uint64_t value;
};

/* Zero-initialised it is empty. */
struct tap_map {
	struct tap_map_slot *slots;
	uint8_t *used;
	size_t count;
	size_t capacity; /* a power of two, or 0 */
};

/* NULL where the key is not there; holds until the next put or remove. */
uint64_t *tap_map_find(const struct tap_map *map, uint64_t key);

/* The value's address, made with value 0 where the key was not there
 * (*added_ret says so; may be NULL). */
uint64_t *tap_map_put(struct tap_map *map, uint64_t key, bool *added_ret);

/* Removes key; its value goes to *value_ret (may be NULL). False: not there. */
bool tap_map_remove(struct tap_map *map, uint64_t key, uint64_t *value_ret);

void tap_map_clear(struct tap_map *map);
void tap_map_deinit(struct tap_map *map);

/* Iteration in no order: for (size_t i = 0; tap_map_next(map, &i, &slot);) */
bool tap_map_next(const struct tap_map *map, size_t *index, struct tap_map_slot **slot_ret);

/* A 64-bit hash of bytes (FNV-1a with a final mix), for keys made of text. */
uint64_t tap_hash_bytes(const void *bytes, size_t size_bytes, uint64_t seed);
uint64_t tap_hash_u64(uint64_t value);

#endif
