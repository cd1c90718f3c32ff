/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>
#include "source.h"

/* The vsyscall page and the kernel's half cannot be named by an off_t. */
static uint64_t room_at(uint64_t addr)
{
	return addr > INT64_MAX ? 0 : (uint64_t)INT64_MAX - addr;
}

static size_t read_live(int fd, uint64_t addr, uint8_t *buf, size_t size_bytes)
{
	size_t done = 0;

	while (done < size_bytes) {
		ssize_t n = pread(fd, buf + done, size_bytes - done, (off_t)(addr + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return done;
}

static size_t write_live(
	int fd, uint64_t addr, const uint8_t *bytes, size_t size_bytes, int *errnum_ret)
{
	size_t done = 0;

	while (done < size_bytes) {
		ssize_t n = pwrite(fd, bytes + done, size_bytes - done, (off_t)(addr + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			/* 0: the address space is gone. */
			*errnum_ret = n < 0 ? errno : ESRCH;
			break;
		}
		done += (size_t)n;
	}
	return done;
}

/* The bytes of the image at addr; *size_ret: how many lie there in a row. */
static uint8_t *image_at(struct tap_memory *memory, uint64_t addr, size_t *size_ret)
{
	for (size_t i = memory->regions.count; i-- > 0;) {
		struct tap_memory_region *region = &memory->regions.items[i];

		if (addr >= region->addr && addr - region->addr < region->size_bytes) {
			*size_ret = region->size_bytes - (addr - region->addr);
			return region->bytes + (addr - region->addr);
		}
	}
	return NULL;
}

static size_t copy_image(
	struct tap_memory *memory, uint64_t addr, uint8_t *out, const uint8_t *in, size_t size_bytes)
{
	size_t done = 0, n;

	while (done < size_bytes) {
		uint8_t *at = image_at(memory, addr + done, &n);

		if (!at)
			break;
		if (n > size_bytes - done)
			n = size_bytes - done;
		if (out)
			memcpy(out + done, at, n);
		else
			memcpy(at, in + done, n);
		done += n;
	}
	return done;
}

size_t tap_source_read(struct tap_memory *memory, uint64_t addr, void *buf, size_t size_bytes)
{
	if (size_bytes > room_at(addr))
		size_bytes = (size_t)room_at(addr);
	if (memory->fd < 0)
		return copy_image(memory, addr, buf, NULL, size_bytes);
	return read_live(memory->fd, addr, buf, size_bytes);
}

size_t tap_source_write(struct tap_memory *memory, uint64_t addr, const void *bytes,
	size_t size_bytes, int *errnum_ret)
{
	*errnum_ret = EIO;
	if (size_bytes > room_at(addr))
		return 0;
	if (memory->fd < 0)
		return copy_image(memory, addr, NULL, bytes, size_bytes);
	return write_live(memory->fd, addr, bytes, size_bytes, errnum_ret);
}
