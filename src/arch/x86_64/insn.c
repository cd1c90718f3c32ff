/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "ops.h"

const uint8_t tap_insn_breakpoint = 0xcc;
const uint8_t tap_insn_nop = 0x90;

static bool is_segment(uint8_t byte)
{
	return byte == 0x26 || byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0x64 ||
	       byte == 0x65;
}

/* Takes in one legacy prefix; false where byte is none. */
static bool take_legacy(uint8_t byte, struct tap_x86_prefixes *ret)
{
	if (is_segment(byte)) {
		ret->segments++;
		ret->segment = byte;
	} else if (byte == 0x66) {
		ret->word = true;
	} else if (byte == 0x67) {
		ret->address_size = true;
	} else if (byte == 0xf2 || byte == 0xf3) {
		ret->repeat = true;
	} else if (byte == 0xf0) {
		ret->lock = true;
	} else {
		return false;
	}
	return true;
}

void tap_x86_prefixes(const struct tap_insn *insn, struct tap_x86_prefixes *ret)
{
	uint8_t i = 0;

	memset(ret, 0, sizeof(*ret));
	for (; i < insn->size_bytes; i++) {
		uint8_t byte = insn->bytes[i];

		if ((byte & 0xf0) == 0x40) {
			ret->odd |= ret->rex != 0;
			ret->rex = byte;
		} else if (take_legacy(byte, ret)) {
			ret->odd |= ret->rex != 0;
		} else {
			break;
		}
	}
	ret->opcode = i;
	if (ret->rex & 0x08)
		ret->word = false;
}

uint64_t tap_x86_target(const struct tap_insn *insn, size_t operand_bytes)
{
	const uint8_t *at = insn->bytes + insn->size_bytes - operand_bytes;
	int32_t wide;

	if (operand_bytes == 1)
		return tap_x86_next(insn) + (uint64_t)(int64_t)(int8_t)*at;
	memcpy(&wide, at, sizeof(wide));
	return tap_x86_next(insn) + (uint64_t)(int64_t)wide;
}

/* Length of opcode ff with its operand, from its ModRM byte on; 0 where that
 * is no near call. */
static size_t indirect_call_size(uint8_t modrm, uint8_t sib)
{
	unsigned mod = modrm >> 6, rm = modrm & 7;
	size_t size = 2;

	if (((modrm >> 3) & 7) != 2)
		return 0;
	if (mod == 3)
		return size;
	if (rm == 4)
		size++;
	if (mod == 1)
		size += 1;
	else if (mod == 2 || rm == 5 || (rm == 4 && (sib & 7) == 5))
		size += 4;
	return size;
}

bool tap_insn_ends_with_call(const uint8_t *bytes, size_t size_bytes)
{
	const uint8_t *end = bytes + size_bytes;

	if (size_bytes >= 5 && end[-5] == 0xe8)
		return true;
	/* ff, ModRM, SIB and four bytes of displacement at most; a prefix before
	 * that does not matter. */
	for (size_t size = 2; size <= 7 && size <= size_bytes; size++) {
		if (end[-size] == 0xff &&
			indirect_call_size(end[-size + 1], size > 2 ? end[-size + 2] : 0) == size)
			return true;
	}
	return false;
}
