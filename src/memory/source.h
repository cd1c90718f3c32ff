/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAP_MEMORY_SOURCE_H
#define TAP_MEMORY_SOURCE_H

/*
 * What the reader knows and the cache does not: where bytes come from. The
 * cache sits on top of tap_source_read() and below the public functions.
 */

#include <stddef.h>
#include <stdint.h>
#include "heaptap/base/map.h"
#include "heaptap/base/vector.h"
#include "heaptap/memory/memory.h"

#define TAP_CACHE_PAGE 4096u
#define TAP_CACHE_PIECE 65536u
#define TAP_CACHE_PIECES 1024 /* 64 MiB in all */

struct tap_memory_region {
	uint64_t addr;
	uint64_t size_bytes;
	uint8_t *bytes;
};

/* A run of TAP_CACHE_PIECE bytes at a multiple of it, read page by page or as
 * a whole. */
struct tap_memory_piece {
	uint64_t addr;
	uint16_t known;    /* one bit per page: tried */
	uint16_t readable; /* one bit per page: its bytes are there */
	uint8_t bytes[TAP_CACHE_PIECE];
};

struct tap_memory_cache {
	struct tap_map by_addr; /* of struct tap_memory_piece * */
	struct tap_memory_piece *pieces[TAP_CACHE_PIECES];
	size_t count;
	size_t made;   /* pieces that have memory: those beyond count wait to be used */
	size_t oldest; /* the next to be replaced once all are in use */
};

struct tap_memory {
	int fd; /* of /proc/PID/mem; -1 for an image */
	TAP_VECTOR(struct tap_memory_region) regions;
	struct tap_memory_cache *cache; /* NULL until it is first on; kept for the next time */
	enum tap_memory_cache_mode cached;
	struct {
		uint64_t addr;
		size_t size_bytes; /* 0: none */
		const uint8_t *bytes;
	} lent;
};

/* As many bytes as are mapped from addr on, past the cache. */
size_t tap_source_read(struct tap_memory *memory, uint64_t addr, void *buf, size_t size_bytes);
/* How many bytes were written; *errnum_ret says why not all. */
size_t tap_source_write(struct tap_memory *memory, uint64_t addr, const void *bytes,
	size_t size_bytes, int *errnum_ret);

size_t tap_cache_read(struct tap_memory *memory, uint64_t addr, void *buf, size_t size_bytes);
void tap_cache_forget(struct tap_memory_cache *cache, uint64_t addr, size_t size_bytes);
/* Forgets all and keeps the memory of a few pieces: a cache that is on for one
 * stack at a time must not cost an allocation. */
void tap_cache_empty(struct tap_memory_cache *cache);
void tap_cache_destroy(struct tap_memory_cache *cache); /* takes NULL */

#endif
