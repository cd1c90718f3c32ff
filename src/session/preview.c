/* SPDX-License-Identifier: Apache-2.0 */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include "heaptap/base/text.h"
#include "session/preview.h"

#define LEAST_TEXT 4
#define POINTERS_BYTES 16
/* Of so many characters one may be none. */
#define TEXT_SHARE 8
#define VTABLE_FUNCTIONS 16 /* behind the offset to top and the type's information */

/* Bytes of the character at `at`, 0 where it is none that is shown as such. */
static size_t character(const uint8_t *at, size_t size)
{
	size_t length = *at < 0x80 ? 1 : *at >= 0xf0 ? 4 : *at >= 0xe0 ? 3 : *at >= 0xc2 ? 2 : 0;

	if (length == 1)
		return (*at >= ' ' && *at != 0x7f) || *at == '\t' || *at == '\n' || *at == '\r';
	if (!length || length > size)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	return length;
}

/* How many of the first bytes are text; 0: they are not. */
static size_t text_bytes(const uint8_t *bytes, size_t size)
{
	size_t length = strnlen((const char *)bytes, size), odd = 0, count = 0, at = 0;

	while (at < length) {
		size_t step = character(bytes + at, length - at);

		/* A character that is cut off at the end is left out. */
		if (!step && bytes[at] >= 0xc2 && length == size && length - at < 4)
			break;
		odd += !step;
		count++;
		at += step ? step : 1;
	}
	return count >= LEAST_TEXT && odd * TEXT_SHARE <= count ? at : 0;
}

static void put_hex(const uint8_t *bytes, size_t size, char *buf)
{
	size_t used = 0;

	*buf = '\0';
	for (size_t i = 0; i < size; i++)
		used += (size_t)snprintf(
			buf + used, PREVIEW_TEXT - used, i ? " %02x" : "%02x", bytes[i]);
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (bytes[i])
			return false;
	return size > 0;
}

char *preview_bytes(const uint8_t *bytes, size_t size_bytes, char buf[PREVIEW_TEXT])
{
	size_t size = size_bytes < PREVIEW_BYTES ? size_bytes : PREVIEW_BYTES;
	size_t at = 0, length = text_bytes(bytes, size);
	char text[PREVIEW_BYTES + 8];

	/* A structure begins with a pointer or two. */
	while (!length && at < POINTERS_BYTES && at + sizeof(uint64_t) < size) {
		at += sizeof(uint64_t);
		length = text_bytes(bytes + at, size - at);
	}
	if (length) {
		snprintf(text, sizeof(text), "%s\"%.*s\"", at ? "... " : "", (int)length,
			(const char *)bytes + at);
		tap_text_clean(buf, PREVIEW_TEXT, text);
	} else if (is_zero(bytes, size)) {
		strcpy(buf, "zeros");
	} else {
		put_hex(bytes, size, buf);
	}
	return buf;
}

static bool preview_object(
	const uint8_t *bytes, struct tap_symbols *symbols, struct tap_strings *strings, char *buf)
{
	static const char start[] = "vtable for ";
	struct tap_frame frame = {0};
	struct tap_symbol symbol;
	char text[PREVIEW_TEXT];
	uint64_t addr;

	memcpy(&addr, bytes, sizeof(addr));
	if ((addr & 7) || !tap_symbols_try_name(symbols, addr, &symbol) ||
		strncmp(symbol.name, "_ZTV", 4) != 0 || addr - symbol.addr < VTABLE_FUNCTIONS)
		return false;
	if (!tap_symbols_resolve(symbols, addr, false, strings, &frame, 1) || !frame.function ||
		strncmp(frame.function, start, strlen(start)) != 0)
		return false;
	snprintf(text, sizeof(text), "%.*s object", PREVIEW_TEXT - 16,
		frame.function + strlen(start));
	tap_text_clean(buf, PREVIEW_TEXT, text);
	return true;
}

char *preview_block(const uint8_t *bytes, size_t size_bytes, struct tap_symbols *symbols,
	struct tap_strings *strings, char buf[PREVIEW_TEXT])
{
	if (symbols && strings && size_bytes >= 8 && preview_object(bytes, symbols, strings, buf))
		return buf;
	return preview_bytes(bytes, size_bytes, buf);
}
