/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_MEMORY_MEMORY_H
#define HEAPTAP_MEMORY_MEMORY_H

/*
 * Reading another address space. One reader, several sources: a live process
 * through /proc/PID/mem, or an image made of regions (tests). Reads go
 * through pread on a descriptor opened once, so that they stay bound to the
 * address space of that moment: after exec or PID reuse they fail.
 *
 * Never process_vm_readv: it pins pages, and pinning a page that is shared
 * with a fork copies it (Linux 5.19 and later).
 *
 * Everything read is untrusted. A reader belongs to one thread at a time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/base/error.h"

struct tap_memory;

/* Opens /proc/PID/mem, below the proc root in use. writable: for planting. */
struct tap_error *tap_memory_open(pid_t pid, bool writable, struct tap_memory **ret);

/* An empty image; regions are added, bytes are copied. For tests. */
struct tap_memory *tap_memory_create_image(void);
void tap_memory_add_region(
	struct tap_memory *memory, uint64_t addr, const void *bytes, size_t size_bytes);

void tap_memory_close(struct tap_memory *memory); /* takes NULL */

/* All size_bytes or nothing. */
bool tap_memory_try_read(struct tap_memory *memory, uint64_t addr, void *buf, size_t size_bytes);

/* As many bytes as are mapped from addr on, up to size_bytes; 0 for none. */
size_t tap_memory_read_some(
	struct tap_memory *memory, uint64_t addr, void *buf, size_t size_bytes);

/* The two past the cache: for what nobody looks at again, as a page is read
 * slower than a few bytes are. */
bool tap_memory_try_glance(struct tap_memory *memory, uint64_t addr, void *buf, size_t size_bytes);
size_t tap_memory_glance(struct tap_memory *memory, uint64_t addr, void *buf, size_t size_bytes);

bool tap_memory_try_u64(struct tap_memory *memory, uint64_t addr, uint64_t *ret);
bool tap_memory_try_u32(struct tap_memory *memory, uint64_t addr, uint32_t *ret);
bool tap_memory_try_u8(struct tap_memory *memory, uint64_t addr, uint8_t *ret);

/* A C string of at most capacity - 1 bytes; true also where it was cut. False
 * where not even the first byte is mapped. Raw: clean before showing. */
bool tap_memory_try_string(struct tap_memory *memory, uint64_t addr, char *buf, size_t capacity);

/* All or an error; FAULT where not mapped. Writes to text that is mapped
 * private and read-only too (the kernel makes a copy of the page). */
struct tap_error *tap_memory_write(
	struct tap_memory *memory, uint64_t addr, const void *bytes, size_t size_bytes);

/* Reads are served from a bounded cache: only where the part that is read
 * stands still. Every call empties it; a write empties what it touches. */
enum tap_memory_cache_mode {
	TAP_MEMORY_CACHE_OFF,
	TAP_MEMORY_CACHE_PAGES,  /* page by page: for one stack and its frames */
	TAP_MEMORY_CACHE_PIECES, /* 64 KiB where a place is read twice: for walking a heap */
};
void tap_memory_cache(struct tap_memory *memory, enum tap_memory_cache_mode mode);

/* Bytes that somebody has read already: reads that lie within are served from
 * there, until others are lent or none (size_bytes 0). Only where the part
 * stands still; they are the caller's, and outlive that. */
void tap_memory_lend(
	struct tap_memory *memory, uint64_t addr, const void *bytes, size_t size_bytes);

static inline void tap_memory_cleanup(struct tap_memory **memory)
{
	tap_memory_close(*memory);
}
#define _cleanup_memory_ __attribute__((cleanup(tap_memory_cleanup)))

#endif
