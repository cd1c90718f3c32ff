/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include "heaptap/arch/insn.h"
#include "ops.h"

/* Opcodes of the Intel manual's map: conditional jumps, loops, jmp and call
 * with a displacement of 8 or 32 bits, which ends the instruction. */
bool tap_insn_try_branch(const struct tap_insn *insn, uint64_t *target_ret, bool *call_ret)
{
	struct tap_x86_prefixes prefixes;
	const uint8_t *opcode;
	int8_t near;
	int32_t far;

	tap_x86_prefixes(insn, &prefixes);
	opcode = insn->bytes + prefixes.opcode;
	*call_ret = *opcode == 0xe8;
	if ((*opcode >= 0x70 && *opcode <= 0x7f) || (*opcode >= 0xe0 && *opcode <= 0xe3) ||
		*opcode == 0xeb) {
		memcpy(&near, insn->bytes + insn->size_bytes - 1, sizeof(near));
		*target_ret = insn->addr + insn->size_bytes + (uint64_t)(int64_t)near;
		return true;
	}
	if (*opcode == 0xe8 || *opcode == 0xe9 ||
		(*opcode == 0x0f && opcode[1] >= 0x80 && opcode[1] <= 0x8f)) {
		memcpy(&far, insn->bytes + insn->size_bytes - 4, sizeof(far));
		*target_ret = insn->addr + insn->size_bytes + (uint64_t)(int64_t)far;
		return true;
	}
	/* Indirect calls: ff /2 and /3. */
	*call_ret = *opcode == 0xff && ((opcode[1] >> 3) & 7) >= 2 && ((opcode[1] >> 3) & 7) <= 3;
	return false;
}
