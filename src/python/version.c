/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/cleanup.h"
#include "python/runtime.h"

/* Include/patchlevel.h */
#define LEVEL_ALPHA 0xA
#define LEVEL_BETA 0xB
#define LEVEL_CANDIDATE 0xC
#define LEVEL_FINAL 0xF

/* The first three words of _Py_DebugOffsets, in every version that has it. */
struct debug_offsets_head {
	char cookie[8];
	uint64_t version;
	uint64_t free_threaded;
};

void tap_python_version_text(uint32_t hex, char *buf, size_t capacity)
{
	static const char *const levels[] = {[LEVEL_ALPHA] = "a",
		[LEVEL_BETA] = "b",
		[LEVEL_CANDIDATE] = "rc",
		[LEVEL_FINAL] = ""};
	const char *level = levels[hex >> 4 & 0xF];
	char serial[8] = "";

	if (level && *level)
		snprintf(serial, sizeof(serial), "%s%u", level, hex & 0xF);
	if (level)
		snprintf(buf, capacity, "%u.%u.%u%s", hex >> 24, hex >> 16 & 0xFF, hex >> 8 & 0xFF,
			serial);
	else
		snprintf(buf, capacity, "%u.%u", hex >> 24, hex >> 16 & 0xFF);
}

/* A number below 256 at text[*at]; moves *at behind it. */
static bool parse_byte(const char *text, size_t size_bytes, size_t *at, uint32_t *ret)
{
	size_t start = *at;

	*ret = 0;
	while (*at < size_bytes && *at < start + 3 && isdigit((unsigned char)text[*at]))
		*ret = *ret * 10 + (uint32_t)(text[(*at)++] - '0');
	return *at > start && *ret < 256;
}

static bool parse_char(const char *text, size_t size_bytes, size_t *at, char c)
{
	if (*at >= size_bytes || text[*at] != c)
		return false;
	++*at;
	return true;
}

size_t tap_python_version_parse(const char *text, size_t size_bytes, uint32_t *hex_ret)
{
	uint32_t major, minor, micro, level = LEVEL_FINAL, serial = 0;
	size_t at = 0;

	if (!parse_byte(text, size_bytes, &at, &major) || !parse_char(text, size_bytes, &at, '.') ||
		!parse_byte(text, size_bytes, &at, &minor) ||
		!parse_char(text, size_bytes, &at, '.') ||
		!parse_byte(text, size_bytes, &at, &micro))
		return 0;
	if (parse_char(text, size_bytes, &at, 'a'))
		level = LEVEL_ALPHA;
	else if (parse_char(text, size_bytes, &at, 'b'))
		level = LEVEL_BETA;
	else if (parse_char(text, size_bytes, &at, 'r') && parse_char(text, size_bytes, &at, 'c'))
		level = LEVEL_CANDIDATE;
	if (level != LEVEL_FINAL && !parse_byte(text, size_bytes, &at, &serial))
		return 0;
	parse_char(text, size_bytes, &at, '+'); /* built from between two releases */
	*hex_ret = major << 24 | minor << 16 | micro << 8 | level << 4 | (serial & 0xF);
	return at;
}

/* "3.8.18 (default, Aug  1 2023, 10:00:00) \n[GCC 12.2.0]", from 3.10 on without
 * the line feed: Python/getversion.c builds it in a static buffer when the
 * interpreter starts. */
bool tap_python_version_scan(const uint8_t *bytes, size_t size_bytes, uint32_t *hex_ret)
{
	const char *text = (const char *)bytes;

	for (size_t i = 0; i + 8 < size_bytes; i++) {
		size_t taken, rest;
		uint32_t hex;

		if (!isdigit(bytes[i]) || (i && bytes[i - 1]))
			continue;
		rest = strnlen(text + i, size_bytes - i < 300 ? size_bytes - i : 300);
		taken = tap_python_version_parse(text + i, rest, &hex);
		if (!taken || rest - taken < 2 || memcmp(text + i + taken, " (", 2) != 0)
			continue;
		if (!memmem(text + i, rest, ") \n[", 4) && !memmem(text + i, rest, ") [", 3))
			continue;
		*hex_ret = hex;
		return true;
	}
	return false;
}

static bool from_debug_offsets(struct tap_python *python)
{
	struct debug_offsets_head head;

	if (!python->info.runtime_addr ||
		!tap_memory_try_read(
			python->memory, python->info.runtime_addr, &head, sizeof(head)) ||
		memcmp(head.cookie, "xdebugpy", 8) != 0)
		return false;
	python->info.hex = (uint32_t)head.version;
	python->info.free_threaded = head.free_threaded == 1;
	return head.version >> 24 == 3;
}

/* Exported from 3.11 on: const unsigned long Py_Version. */
static bool from_symbol(struct tap_python *python)
{
	struct tap_symbol symbol;
	uint64_t value;

	if (!tap_module_try_export(python->module, "Py_Version", &symbol) ||
		!tap_memory_try_u64(python->memory, symbol.addr, &value) || value >> 24 != 3)
		return false;
	python->info.hex = (uint32_t)value;
	return true;
}

static bool from_built_string(struct tap_python *python)
{
	static const char *const sections[] = {".bss", ".data"};

	for (size_t i = 0; i < TAP_PYTHON_COUNT(sections); i++) {
		_cleanup_free_ uint8_t *bytes = NULL;
		uint64_t addr;
		size_t size_bytes;

		bytes = tap_python_copy_section(
			python->module, python->memory, sections[i], &addr, &size_bytes);
		if (bytes && tap_python_version_scan(bytes, size_bytes, &python->info.hex))
			return true;
	}
	return false;
}

/* python3.8, libpython3.8.so.1.0, libpython3.7m.so.1.0: the minor version. */
static bool from_name(struct tap_python *python)
{
	const char *name = strstr(python->module->name, "python");
	uint32_t major, minor;
	size_t at = 0, size_bytes;

	if (!name)
		return false;
	name += strlen("python");
	size_bytes = strlen(name);
	if (!parse_byte(name, size_bytes, &at, &major) || !parse_char(name, size_bytes, &at, '.') ||
		!parse_byte(name, size_bytes, &at, &minor))
		return false;
	python->info.hex = major << 24 | minor << 16;
	return true;
}

bool tap_python_version_read(struct tap_python *python)
{
	if (!from_debug_offsets(python) && !from_symbol(python) && !from_built_string(python) &&
		!from_name(python))
		return false;
	tap_python_version_text(
		python->info.hex, python->info.version, sizeof(python->info.version));
	return true;
}
