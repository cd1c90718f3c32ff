/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ARCH_INSN_H
#define HEAPTAP_ARCH_INSN_H

/*
 * One machine instruction: decoded once, then emulated on a copy of a
 * thread's registers or relocated to run somewhere else. Pure functions over
 * bytes and a register struct; the target's memory is reached through two
 * callbacks.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/arch/regs.h"
#include "heaptap/base/error.h"

#define TAP_INSN_MAX 15
/* Room that a relocated instruction can need. */
#define TAP_INSN_RELOCATED_MAX 64

/* Decoded form. Plain data, copied freely; the meaning of the operand fields
 * is arch/<cpu>/insn.c's own. */
struct tap_insn {
	uint64_t addr;
	uint8_t bytes[TAP_INSN_MAX];
	uint8_t size_bytes;
	uint8_t op;       /* enum of arch/<cpu>/insn.c; 0: none of the emulated */
	uint8_t width;    /* operand width in bytes */
	uint8_t reg;      /* register operands as DWARF numbers */
	uint8_t rm;
	uint8_t index;    /* memory operand: base in rm, index, scale */
	uint8_t scale;
	uint8_t flags;
	uint8_t condition;
	uint8_t rip_disp_offset; /* in bytes: of a displacement relative to rip; 0: none */
	int32_t disp;
	int64_t imm;
};

struct tap_insn_memory {
	void *context;
	bool (*read)(void *context, uint64_t addr, void *buf, size_t size_bytes);
	bool (*write)(void *context, uint64_t addr, const void *buf, size_t size_bytes);
};

enum tap_emulation {
	TAP_EMULATION_DONE,  /* registers and memory are as after the instruction, rip as well */
	TAP_EMULATION_NOT,   /* not one of the emulated: run it out of line */
	TAP_EMULATION_FAULT, /* a memory operand could not be reached; nothing was changed */
};

/* False where the bytes are no instruction, or more of them are needed.
 * What is decoded but not emulated still has its size and can be relocated. */
bool tap_insn_try_decode(
	const uint8_t *bytes, size_t size_bytes, uint64_t addr, struct tap_insn *ret);

/* Carries insn out on regs, whose rip is set to what follows. Flags are
 * written as the processor would, but for those it leaves undefined.
 * Emulated: push/pop, mov, lea, sub/add/cmp/and/or/xor/test with registers,
 * immediates and memory, endbr64, nop, jmp, jcc, call, ret, leave, movzx,
 * movsx, movsxd, cmov, setcc, inc, dec, neg, not, shl/shr/sar by an immediate;
 * nothing with a lock, repeat or address size prefix, and nothing that touches
 * vector registers. NOT as well where regs has the trap flag, and for a jump
 * out of the lower 128 TB; nothing was changed then. */
enum tap_emulation tap_insn_emulate(
	const struct tap_insn *insn, struct tap_regs *regs, const struct tap_insn_memory *memory);

/* Writes code that does the same at address `to`, and falls through to its
 * end where insn would fall through to the next: RIP-relative operands are
 * fixed (`to` has to lie within 2 GB of what they name), jumps widened to any
 * distance. A call, direct or indirect, pushes the return address of the
 * original and jumps, so that the stack is as the program made it: it comes
 * back behind the original, not behind the copy. The code is position
 * dependent and takes no register. `code` has TAP_INSN_RELOCATED_MAX bytes.
 * UNSUPPORTED with the reason where it cannot be done. */
struct tap_error *tap_insn_relocate(
	const struct tap_insn *insn, uint64_t to, uint8_t *code, size_t *size_ret);

/* A jump or call whose target is in the instruction; *call_ret is set for
 * calls of any kind, also where the target is not known and false comes back. */
bool tap_insn_try_branch(const struct tap_insn *insn, uint64_t *target_ret, bool *call_ret);

/* Are the bytes right before `bytes + size_bytes` a call instruction (direct
 * or indirect) that could have returned there? For scanning a stack. */
bool tap_insn_ends_with_call(const uint8_t *bytes, size_t size_bytes);

/* The one-byte breakpoint instruction. */
extern const uint8_t tap_insn_breakpoint;
/* As long as that, and does nothing. */
extern const uint8_t tap_insn_nop;

#endif
