/* SPDX-License-Identifier: Apache-2.0 */
/*
 * str objects (PEP 393). The state word: bits 2 to 4 bytes per character,
 * 5 compact (the characters follow the structure), 6 ASCII.
 */
#include <stdlib.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "python/runtime.h"

struct characters {
	uint64_t addr;
	uint64_t count;
	unsigned width; /* 1, 2, 4 bytes */
};

static bool locate(const struct tap_python *python, uint64_t addr, struct characters *ret)
{
	const struct tap_python_layout *layout = &python->layout;
	uint32_t state;
	bool compact, ascii;

	if (!tap_memory_try_u32(python->memory, addr + (uint64_t)layout->unicode.state, &state) ||
		!tap_python_try_field(python, addr, layout->unicode.length, &ret->count))
		return false;
	ret->width = state >> 2 & 7;
	compact = state >> 5 & 1;
	ascii = state >> 6 & 1;
	if (ret->width != 1 && ret->width != 2 && ret->width != 4)
		return false;
	if (ascii && ret->width != 1)
		return false;
	if (!compact)
		return tap_python_try_field(python, addr, layout->unicode.data, &ret->addr);
	ret->addr = addr +
		    (uint64_t)(ascii ? layout->unicode.ascii_size : layout->unicode.compact_size);
	return true;
}

/* One character as UTF-8: 1 to 4 bytes. Surrogates DC80 to DCFF stand for
 * bytes of a file name that were not UTF-8 (PEP 383): the byte is given back. */
static size_t encode(uint32_t c, char out[4])
{
	if (c >= 0xDC80 && c <= 0xDCFF) {
		out[0] = (char)(c & 0xFF);
		return 1;
	}
	if ((c >= 0xD800 && c <= 0xDFFF) || c > 0x10FFFF)
		c = 0xFFFD;
	if (c == 0)
		c = '?';
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xC0 | c >> 6);
		out[1] = (char)(0x80 | (c & 63));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xE0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 63));
		out[2] = (char)(0x80 | (c & 63));
		return 3;
	}
	out[0] = (char)(0xF0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 63));
	out[2] = (char)(0x80 | (c >> 6 & 63));
	out[3] = (char)(0x80 | (c & 63));
	return 4;
}

static uint32_t character_at(const uint8_t *bytes, size_t i, unsigned width)
{
	uint32_t c = 0;

	memcpy(&c, bytes + i * width, width); /* little-endian */
	return c;
}

bool tap_python_unicode(const struct tap_python *python, uint64_t addr, char *buf, size_t capacity)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	struct characters from;
	size_t count, used = 0;

	if (!addr || !locate(python, addr, &from))
		return false;
	/* Every character takes a byte at least. */
	count = from.count < capacity ? (size_t)from.count : capacity;
	bytes = tap_alloc(count * from.width + 1);
	if (count && !tap_memory_try_read(python->memory, from.addr, bytes, count * from.width))
		return false;
	for (size_t i = 0; i < count; i++) {
		char out[4];
		size_t n = encode(character_at(bytes, i, from.width), out);

		if (used + n >= capacity)
			break;
		memcpy(buf + used, out, n);
		used += n;
	}
	buf[used] = '\0';
	return true;
}
