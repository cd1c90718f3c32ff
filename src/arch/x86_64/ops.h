/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ARCH_X86_64_OPS_H
#define HEAPTAP_ARCH_X86_64_OPS_H

/*
 * What decode.c writes into struct tap_insn and emulate.c reads from it. An
 * instruction has at most a register operand (reg), one that is a register or
 * memory (rm), and an immediate. `reg` is the destination with TAP_X86_LOAD,
 * else rm is; the source is the immediate with TAP_X86_IMMEDIATE, else the
 * operand that is not the destination.
 */

#include "heaptap/arch/insn.h"

enum tap_x86_op {
	TAP_X86_NONE, /* not emulated */
	TAP_X86_NOP,
	TAP_X86_MOV,
	TAP_X86_LEA,
	TAP_X86_MOVZX, /* source_width in `condition`, for the next as well */
	TAP_X86_MOVSX,
	TAP_X86_PUSH,
	TAP_X86_POP,
	TAP_X86_LEAVE,
	TAP_X86_ADD,
	TAP_X86_SUB,
	TAP_X86_CMP,
	TAP_X86_AND,
	TAP_X86_OR,
	TAP_X86_XOR,
	TAP_X86_TEST,
	TAP_X86_INC,
	TAP_X86_DEC,
	TAP_X86_NEG,
	TAP_X86_NOT,
	TAP_X86_SHL,
	TAP_X86_SHR,
	TAP_X86_SAR,
	TAP_X86_CMOV,
	TAP_X86_SETCC,
	TAP_X86_JMP, /* imm is the absolute target, for the next two as well */
	TAP_X86_JCC,
	TAP_X86_CALL,
	TAP_X86_RET, /* imm: bytes dropped behind the return address */
};

/* insn->flags */
#define TAP_X86_MEMORY 0x01    /* rm is memory: base rm, index, scale, disp */
#define TAP_X86_LOAD 0x02      /* the destination is reg */
#define TAP_X86_IMMEDIATE 0x04 /* the source is imm */
#define TAP_X86_FS 0x08
#define TAP_X86_GS 0x10
#define TAP_X86_REG_HIGH 0x20 /* reg is ah, ch, dh or bh */
#define TAP_X86_RM_HIGH 0x40  /* rm is one of those */

/* No base, no index. A base of TAP_DWARF_RIP is the next instruction. */
#define TAP_X86_NO_REGISTER 0xff

#define TAP_X86_CF 0x001
#define TAP_X86_PF 0x004
#define TAP_X86_AF 0x010
#define TAP_X86_ZF 0x040
#define TAP_X86_SF 0x080
#define TAP_X86_TF 0x100
#define TAP_X86_OF 0x800
#define TAP_X86_STATUS (TAP_X86_CF | TAP_X86_PF | TAP_X86_AF | TAP_X86_ZF | TAP_X86_SF | TAP_X86_OF)

/* What stands before the opcode. */
struct tap_x86_prefixes {
	uint8_t opcode;   /* its offset in the bytes */
	uint8_t rex;      /* 0: none */
	uint8_t segments; /* how many segment overrides, of which the last counts: */
	uint8_t segment;
	bool word;         /* 66, and no REX.W which would overrule it */
	bool address_size; /* 67 */
	bool repeat;       /* f2, f3 */
	bool lock;
	bool odd; /* a REX prefix that the processor ignores, not being the last */
};
void tap_x86_prefixes(const struct tap_insn *insn, struct tap_x86_prefixes *ret);

static inline uint64_t tap_x86_next(const struct tap_insn *insn)
{
	return insn->addr + insn->size_bytes;
}

/* Where a branch goes whose relative operand is its last 1 or 4 bytes. */
uint64_t tap_x86_target(const struct tap_insn *insn, size_t operand_bytes);

static inline uint64_t tap_x86_mask(unsigned width)
{
	return width >= 8 ? UINT64_MAX : (UINT64_C(1) << (width * 8)) - 1;
}

/* The result of an arithmetic operation on operands of `width` bytes, which
 * need not be masked. The status flags in *flags are replaced; those that the
 * manual leaves undefined may differ from what a processor would write. */
uint64_t tap_x86_arithmetic(
	enum tap_x86_op op, unsigned width, uint64_t a, uint64_t b, uint64_t *flags);

/* The condition of jcc, setcc and cmov: the low four bits of their opcodes. */
bool tap_x86_condition(unsigned condition, uint64_t flags);

#endif
