/* SPDX-License-Identifier: Apache-2.0 */
/* What stands in front of a return address, and where that call went. */
#include <string.h>
#include "heaptap/arch/insn.h"
#include "cursor.h"
#include "object.h"

/* The bytes in front of a return address that tell a call. */
#define CALL_BYTES 16
/* How far into a function a jump out of it is looked for. */
#define JUMPS_MAX_BYTES 8192

bool tap_cursor_read_code(
	struct tap_cursor *cursor, uint64_t addr, void *buf, size_t size_bytes)
{
	struct tap_module *module = tap_symbols_module_at(cursor->symbols, addr);
	const struct tap_image *image = module ? tap_loaded_of(module)->object->image : NULL;
	const uint8_t *bytes = NULL;

	if (image && !image->from_memory)
		bytes = tap_image_at(image, addr - module->bias, size_bytes);
	if (!bytes)
		return tap_memory_try_read(cursor->stack->memory, addr, buf, size_bytes);
	memcpy(buf, bytes, size_bytes);
	return true;
}

bool tap_cursor_is_return(struct tap_cursor *cursor, uint64_t addr)
{
	uint8_t before[CALL_BYTES];

	return tap_symbols_is_executable(cursor->symbols, addr - 1) &&
		tap_cursor_read_code(cursor, addr - sizeof(before), before, sizeof(before)) &&
		tap_insn_ends_with_call(before, sizeof(before));
}

static uint64_t relative(uint64_t from, const uint8_t *distance)
{
	int32_t value;

	memcpy(&value, distance, sizeof(value));
	return from + (uint64_t)(int64_t)value;
}

/* endbr64 and bnd may stand before the jump through the table. */
static bool linkage_target(struct tap_cursor *cursor, uint64_t addr, uint64_t *ret)
{
	static const uint8_t endbr[] = {0xf3, 0x0f, 0x1e, 0xfa};
	uint8_t code[16];
	size_t at = 0;

	if (!tap_cursor_read_code(cursor, addr, code, sizeof(code)))
		return false;
	if (!memcmp(code, endbr, sizeof(endbr)))
		at = sizeof(endbr);
	if (code[at] == 0xf2)
		at++;
	return code[at] == 0xff && code[at + 1] == 0x25 &&
		tap_memory_try_u64(
			cursor->stack->memory, relative(addr + at + 6, code + at + 2), ret);
}

/* Where the call in front of ra leads; false where only a register knows. */
static bool call_target(struct tap_cursor *cursor, uint64_t ra, uint64_t *ret)
{
	uint8_t before[6]; /* call *offset(%rip); a direct call is one shorter */
	uint64_t target;

	if (!tap_cursor_read_code(cursor, ra - sizeof(before), before, sizeof(before)))
		return false;
	*ret = relative(ra, before + 2);
	if (before[0] == 0xff && before[1] == 0x15)
		return tap_memory_try_u64(cursor->stack->memory, *ret, ret);
	if (before[1] != 0xe8)
		return false;
	if (linkage_target(cursor, *ret, &target))
		*ret = target;
	return true;
}

/* jmp through a register or memory: ff /4. */
static bool is_indirect_jump(const uint8_t *code)
{
	return code[0] == 0xff && ((code[1] >> 3) & 7) == 4;
}

/* Does the function at addr jump into [start, end)? A compiler ends it so
 * where it returns what another function returns, and splits cold parts off
 * so. Any bytes that look like the jump are taken. Where a function jumps
 * through a table (an interpreter's loop) nobody knows. */
static enum tap_call jumps_into(
	struct tap_cursor *cursor, uint64_t addr, uint64_t start, uint64_t end)
{
	enum tap_call answer = TAP_CALL_OTHER;
	uint8_t code[JUMPS_MAX_BYTES];
	uint64_t first, last;
	size_t size;

	if (!tap_symbols_try_extent(cursor->symbols, addr, &first, &last))
		return TAP_CALL_OTHER;
	size = last - first < sizeof(code) ? (size_t)(last - first) : sizeof(code);
	if (!tap_cursor_read_code(cursor, first, code, size))
		return TAP_CALL_OTHER;
	for (size_t i = 0; i + 5 <= size; i++) {
		bool is_jump = code[i] == 0xe9 ||
			(i && code[i - 1] == 0x0f && (code[i] & 0xf0) == 0x80);
		uint64_t target = relative(first + i + 5, code + i + 1);

		if (is_jump && target >= start && target < end)
			return TAP_CALL_THIS;
		if (is_indirect_jump(code + i))
			answer = TAP_CALL_UNKNOWN;
	}
	return answer;
}

enum tap_call tap_cursor_call(struct tap_cursor *cursor, uint64_t ra, uint64_t pc)
{
	uint64_t start, end, target;

	if (!tap_symbols_try_extent(cursor->symbols, pc, &start, &end) ||
		!call_target(cursor, ra, &target))
		return TAP_CALL_UNKNOWN;
	if (target >= start && target < end)
		return TAP_CALL_THIS;
	return jumps_into(cursor, target, start, end);
}
