/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/memory/memory.h"
#include "source.h"

struct tap_error *tap_memory_open(pid_t pid, bool writable, struct tap_memory **ret)
{
	struct tap_memory *memory;
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (fd < 0)
		return tap_error_errno(
			errno == ENOENT ? ESRCH : errno, "cannot open the memory of %d", (int)pid);
	memory = tap_alloc(sizeof(*memory));
	memory->fd = fd;
	*ret = memory;
	return NULL;
}

struct tap_memory *tap_memory_create_image(void)
{
	struct tap_memory *memory = tap_alloc(sizeof(*memory));

	memory->fd = -1;
	return memory;
}

void tap_memory_add_region(
	struct tap_memory *memory, uint64_t addr, const void *bytes, size_t size_bytes)
{
	struct tap_memory_region *region;

	region = tap_vector_add(&memory->regions);
	region->addr = addr;
	region->size_bytes = size_bytes;
	region->bytes = tap_alloc(size_bytes);
	memcpy(region->bytes, bytes, size_bytes);
	if (memory->cached)
		tap_cache_forget(memory->cache, addr, size_bytes);
}

void tap_memory_close(struct tap_memory *memory)
{
	if (!memory)
		return;
	if (memory->fd >= 0)
		close(memory->fd);
	for (size_t i = 0; i < memory->regions.count; i++)
		free(memory->regions.items[i].bytes);
	tap_vector_free(&memory->regions);
	tap_cache_destroy(memory->cache);
	free(memory);
}

static bool read_lent(
	const struct tap_memory *memory, uint64_t addr, void *buf, size_t size_bytes)
{
	if (!memory->lent.size_bytes || addr < memory->lent.addr ||
		size_bytes > memory->lent.size_bytes ||
		addr - memory->lent.addr > memory->lent.size_bytes - size_bytes)
		return false;
	memcpy(buf, memory->lent.bytes + (addr - memory->lent.addr), size_bytes);
	return true;
}

/* No address is beyond the last one. */
static size_t cut(uint64_t addr, size_t size_bytes)
{
	return size_bytes > UINT64_MAX - addr ? (size_t)(UINT64_MAX - addr) : size_bytes;
}

size_t tap_memory_read_some(
	struct tap_memory *memory, uint64_t addr, void *buf, size_t size_bytes)
{
	if (!memory->cached)
		return tap_memory_glance(memory, addr, buf, size_bytes);
	if (read_lent(memory, addr, buf, size_bytes))
		return size_bytes;
	return tap_cache_read(memory, addr, buf, cut(addr, size_bytes));
}

size_t tap_memory_glance(struct tap_memory *memory, uint64_t addr, void *buf, size_t size_bytes)
{
	if (read_lent(memory, addr, buf, size_bytes))
		return size_bytes;
	return tap_source_read(memory, addr, buf, cut(addr, size_bytes));
}

bool tap_memory_try_read(struct tap_memory *memory, uint64_t addr, void *buf, size_t size_bytes)
{
	return tap_memory_read_some(memory, addr, buf, size_bytes) == size_bytes;
}

bool tap_memory_try_glance(struct tap_memory *memory, uint64_t addr, void *buf, size_t size_bytes)
{
	return tap_memory_glance(memory, addr, buf, size_bytes) == size_bytes;
}

bool tap_memory_try_u64(struct tap_memory *memory, uint64_t addr, uint64_t *ret)
{
	return tap_memory_try_read(memory, addr, ret, sizeof(*ret));
}

bool tap_memory_try_u32(struct tap_memory *memory, uint64_t addr, uint32_t *ret)
{
	return tap_memory_try_read(memory, addr, ret, sizeof(*ret));
}

bool tap_memory_try_u8(struct tap_memory *memory, uint64_t addr, uint8_t *ret)
{
	return tap_memory_try_read(memory, addr, ret, sizeof(*ret));
}

/* In short reads: most strings are short, and what follows may be unmapped. */
bool tap_memory_try_string(struct tap_memory *memory, uint64_t addr, char *buf, size_t capacity)
{
	size_t done = 0;

	if (!capacity)
		return false;
	while (done + 1 < capacity) {
		size_t wanted = capacity - 1 - done < 256 ? capacity - 1 - done : 256;
		size_t got = tap_memory_read_some(memory, addr + done, buf + done, wanted);

		if (!got && !done)
			return false;
		if (memchr(buf + done, '\0', got))
			return true;
		done += got;
		if (got < wanted)
			break;
	}
	buf[done] = '\0';
	return true;
}

struct tap_error *tap_memory_write(
	struct tap_memory *memory, uint64_t addr, const void *bytes, size_t size_bytes)
{
	int errnum;

	if (memory->cached)
		tap_cache_forget(memory->cache, addr, size_bytes);
	if (tap_source_write(memory, addr, bytes, size_bytes, &errnum) == size_bytes)
		return NULL;
	return tap_error_errno(errnum, "cannot write %zu bytes at 0x%llx", size_bytes,
		(unsigned long long)addr);
}

void tap_memory_cache(struct tap_memory *memory, enum tap_memory_cache_mode mode)
{
	memory->cached = mode;
	if (mode && !memory->cache)
		memory->cache = tap_alloc(sizeof(*memory->cache));
	if (memory->cache)
		tap_cache_empty(memory->cache);
}

void tap_memory_lend(
	struct tap_memory *memory, uint64_t addr, const void *bytes, size_t size_bytes)
{
	memory->lent.addr = addr;
	memory->lent.bytes = bytes;
	memory->lent.size_bytes = size_bytes;
}
