/* SPDX-License-Identifier: Apache-2.0 */
/* The one file that knows capstone: its detail becomes struct tap_insn. What
 * it gets wrong or leaves open (64-bit form of movsxd, order of prefixes) is
 * settled here, mostly by not emulating. */
#include <assert.h>
#include <capstone/capstone.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/alloc.h"
#include "ops.h"

/* A capstone handle is not to be shared between threads: each has its own,
 * freed when the thread ends. */
struct decoder {
	csh handle;
	cs_insn *insn;
};

static pthread_key_t decoder_key;
static pthread_once_t decoder_once = PTHREAD_ONCE_INIT;

static void decoder_destroy(void *ptr)
{
	struct decoder *decoder = ptr;

	cs_free(decoder->insn, 1);
	cs_close(&decoder->handle);
	free(decoder);
}

static void make_key(void)
{
	if (pthread_key_create(&decoder_key, decoder_destroy)) {
		fputs("heaptap: no thread key is left\n", stderr);
		abort();
	}
}

static struct decoder *decoder_get(void)
{
	struct decoder *decoder;

	pthread_once(&decoder_once, make_key);
	decoder = pthread_getspecific(decoder_key);
	if (decoder)
		return decoder;
	decoder = tap_alloc(sizeof(*decoder));
	if (cs_open(CS_ARCH_X86, CS_MODE_64, &decoder->handle) != CS_ERR_OK ||
		cs_option(decoder->handle, CS_OPT_DETAIL, CS_OPT_ON) != CS_ERR_OK ||
		!(decoder->insn = cs_malloc(decoder->handle)) ||
		pthread_setspecific(decoder_key, decoder)) {
		fputs("heaptap: capstone has no x86-64 decoder, or memory is out\n", stderr);
		abort();
	}
	return decoder;
}

struct name {
	uint8_t number; /* DWARF number + 1; 0: no general register */
	uint8_t high;
};

#define FAMILY(number, r64, r32, r16, r8)                                         \
	[X86_REG_##r64] = {(number) + 1, 0}, [X86_REG_##r32] = {(number) + 1, 0}, \
	[X86_REG_##r16] = {(number) + 1, 0}, [X86_REG_##r8] = {(number) + 1, 0}
#define NUMBERED(n) FAMILY(n, R##n, R##n##D, R##n##W, R##n##B)

static const struct name names[X86_REG_ENDING] = {
	FAMILY(0, RAX, EAX, AX, AL),
	FAMILY(1, RDX, EDX, DX, DL),
	FAMILY(2, RCX, ECX, CX, CL),
	FAMILY(3, RBX, EBX, BX, BL),
	FAMILY(4, RSI, ESI, SI, SIL),
	FAMILY(5, RDI, EDI, DI, DIL),
	FAMILY(6, RBP, EBP, BP, BPL),
	FAMILY(7, RSP, ESP, SP, SPL),
	NUMBERED(8),
	NUMBERED(9),
	NUMBERED(10),
	NUMBERED(11),
	NUMBERED(12),
	NUMBERED(13),
	NUMBERED(14),
	NUMBERED(15),
	[X86_REG_RIP] = {TAP_DWARF_RIP + 1, 0},
	[X86_REG_AH] = {0 + 1, 1},
	[X86_REG_DH] = {1 + 1, 1},
	[X86_REG_CH] = {2 + 1, 1},
	[X86_REG_BH] = {3 + 1, 1},
};

static bool general_register(const cs_x86_op *operand, uint8_t *number_ret, bool *high_ret)
{
	const struct name *name;

	if (operand->type != X86_OP_REG || operand->reg >= X86_REG_ENDING)
		return false;
	name = &names[operand->reg];
	if (!name->number || name->number == TAP_DWARF_RIP + 1)
		return false;
	*number_ret = (uint8_t)(name->number - 1);
	*high_ret = name->high;
	return true;
}

static bool set_reg(struct tap_insn *insn, const cs_x86_op *operand)
{
	bool high;

	if (!general_register(operand, &insn->reg, &high))
		return false;
	if (high)
		insn->flags |= TAP_X86_REG_HIGH;
	return true;
}

static bool address_register(unsigned reg, uint8_t *number_ret)
{
	*number_ret = TAP_X86_NO_REGISTER;
	if (reg == X86_REG_INVALID || reg == X86_REG_RIZ)
		return true;
	if (reg >= X86_REG_ENDING || !names[reg].number)
		return false;
	*number_ret = (uint8_t)(names[reg].number - 1);
	return true;
}

static bool set_memory(struct tap_insn *insn, const x86_op_mem *memory)
{
	if (memory->disp != (int32_t)memory->disp)
		return false;
	if (!address_register(memory->base, &insn->rm) ||
		!address_register(memory->index, &insn->index))
		return false;
	insn->scale = (uint8_t)memory->scale;
	insn->disp = (int32_t)memory->disp;
	insn->flags |= TAP_X86_MEMORY;
	return true;
}

static bool set_rm(struct tap_insn *insn, const cs_x86_op *operand)
{
	bool high;

	if (operand->type == X86_OP_MEM)
		return set_memory(insn, &operand->mem);
	if (!general_register(operand, &insn->rm, &high))
		return false;
	if (high)
		insn->flags |= TAP_X86_RM_HIGH;
	return true;
}

static void set_immediate(struct tap_insn *insn, const cs_x86_op *operand)
{
	insn->imm = operand->imm;
	insn->flags |= TAP_X86_IMMEDIATE;
}

static enum tap_x86_op op_of_id(unsigned id)
{
	switch (id) {
	case X86_INS_NOP:
		return TAP_X86_NOP;
	case X86_INS_MOV:
	case X86_INS_MOVABS:
		return TAP_X86_MOV;
	case X86_INS_LEA:
		return TAP_X86_LEA;
	case X86_INS_MOVZX:
		return TAP_X86_MOVZX;
	case X86_INS_MOVSX:
	case X86_INS_MOVSXD:
		return TAP_X86_MOVSX;
	case X86_INS_PUSH:
		return TAP_X86_PUSH;
	case X86_INS_POP:
		return TAP_X86_POP;
	case X86_INS_LEAVE:
		return TAP_X86_LEAVE;
	case X86_INS_ADD:
		return TAP_X86_ADD;
	case X86_INS_SUB:
		return TAP_X86_SUB;
	case X86_INS_CMP:
		return TAP_X86_CMP;
	case X86_INS_AND:
		return TAP_X86_AND;
	case X86_INS_OR:
		return TAP_X86_OR;
	case X86_INS_XOR:
		return TAP_X86_XOR;
	case X86_INS_TEST:
		return TAP_X86_TEST;
	case X86_INS_INC:
		return TAP_X86_INC;
	case X86_INS_DEC:
		return TAP_X86_DEC;
	case X86_INS_NEG:
		return TAP_X86_NEG;
	case X86_INS_NOT:
		return TAP_X86_NOT;
	case X86_INS_SHL:
	case X86_INS_SAL:
		return TAP_X86_SHL;
	case X86_INS_SHR:
		return TAP_X86_SHR;
	case X86_INS_SAR:
		return TAP_X86_SAR;
	case X86_INS_JMP:
		return TAP_X86_JMP;
	case X86_INS_CALL:
		return TAP_X86_CALL;
	case X86_INS_RET:
		return TAP_X86_RET;
	default:
		return TAP_X86_NONE;
	}
}

/* jcc, cmov and setcc have an id for each condition; their opcodes are three
 * plain ranges. */
static enum tap_x86_op op_of_opcode(const uint8_t *opcode)
{
	if ((opcode[0] & 0xf0) == 0x70)
		return TAP_X86_JCC;
	if (opcode[0] != 0x0f)
		return TAP_X86_NONE;
	switch (opcode[1] & 0xf0) {
	case 0x40:
		return TAP_X86_CMOV;
	case 0x80:
		return TAP_X86_JCC;
	case 0x90:
		return TAP_X86_SETCC;
	default:
		return TAP_X86_NONE;
	}
}

static bool two_operands(struct tap_insn *insn, const cs_x86 *x86)
{
	const cs_x86_op *to = &x86->operands[0], *from = &x86->operands[1];

	if (x86->op_count != 2)
		return false;
	insn->width = to->size;
	if (from->type == X86_OP_IMM) {
		set_immediate(insn, from);
		return set_rm(insn, to);
	}
	if (from->type == X86_OP_MEM) {
		insn->flags |= TAP_X86_LOAD;
		return set_reg(insn, to) && set_rm(insn, from);
	}
	return set_rm(insn, to) && set_reg(insn, from);
}

static bool same_width(struct tap_insn *insn, const cs_x86 *x86)
{
	return two_operands(insn, x86) &&
	       ((insn->flags & TAP_X86_IMMEDIATE) || x86->operands[1].size == insn->width);
}

static bool extension(struct tap_insn *insn, const cs_x86 *x86)
{
	if (!two_operands(insn, x86) || (insn->flags & TAP_X86_IMMEDIATE))
		return false;
	insn->condition = x86->operands[1].size;
	return insn->condition < insn->width;
}

static bool one_operand(struct tap_insn *insn, const cs_x86 *x86)
{
	insn->width = x86->operands[0].size;
	return x86->op_count == 1 && set_rm(insn, &x86->operands[0]);
}

static bool shift(struct tap_insn *insn, const cs_x86 *x86)
{
	if (x86->op_count != 2 || x86->operands[1].type != X86_OP_IMM)
		return false;
	return two_operands(insn, x86);
}

/* push and pop: 8 bytes, or 2 under an operand size prefix that REX.W does not
 * overrule. capstone has it wrong for some forms. */
static bool stack(struct tap_insn *insn, const cs_x86 *x86, const struct tap_x86_prefixes *prefixes)
{
	if (x86->op_count != 1)
		return false;
	insn->width = prefixes->word ? 2 : 8;
	if (x86->operands[0].type != X86_OP_IMM)
		return set_rm(insn, &x86->operands[0]);
	set_immediate(insn, &x86->operands[0]);
	return true;
}

/* An operand size prefix means 16 bits to one maker's processors and nothing
 * to the other's. capstone believes in it even where REX.W overrules it, so
 * the target is taken from the bytes. */
static bool branch(
	struct tap_insn *insn, const cs_x86 *x86, const struct tap_x86_prefixes *prefixes)
{
	const cs_x86_op *target = &x86->operands[0];

	if (x86->op_count != 1 || prefixes->word)
		return false;
	insn->width = 8;
	if (target->type == X86_OP_IMM) {
		uint8_t opcode = insn->bytes[prefixes->opcode];
		bool is_short = (opcode & 0xf0) == 0x70 || opcode == 0xeb;

		insn->imm = (int64_t)tap_x86_target(insn, is_short ? 1 : 4);
		insn->flags |= TAP_X86_IMMEDIATE;
		return true;
	}
	return target->size == 8 && set_rm(insn, target);
}

static bool ret(struct tap_insn *insn, const cs_x86 *x86, const struct tap_x86_prefixes *prefixes)
{
	if (x86->op_count == 1)
		insn->imm = (uint16_t)x86->operands[0].imm;
	insn->width = 8;
	return !prefixes->word;
}

static bool operands(
	struct tap_insn *insn, const cs_x86 *x86, const struct tap_x86_prefixes *prefixes)
{
	switch ((enum tap_x86_op)insn->op) {
	case TAP_X86_NOP:
		return true;
	case TAP_X86_LEA:
		return two_operands(insn, x86) && (insn->flags & TAP_X86_MEMORY);
	case TAP_X86_MOV:
	case TAP_X86_ADD:
	case TAP_X86_SUB:
	case TAP_X86_CMP:
	case TAP_X86_AND:
	case TAP_X86_OR:
	case TAP_X86_XOR:
	case TAP_X86_TEST:
	case TAP_X86_CMOV:
		return same_width(insn, x86);
	case TAP_X86_MOVZX:
	case TAP_X86_MOVSX:
		return extension(insn, x86);
	case TAP_X86_SHL:
	case TAP_X86_SHR:
	case TAP_X86_SAR:
		return shift(insn, x86);
	case TAP_X86_PUSH:
	case TAP_X86_POP:
		return stack(insn, x86, prefixes);
	case TAP_X86_INC:
	case TAP_X86_DEC:
	case TAP_X86_NEG:
	case TAP_X86_NOT:
	case TAP_X86_SETCC:
		return one_operand(insn, x86);
	case TAP_X86_LEAVE:
		insn->width = 8;
		return !prefixes->word;
	case TAP_X86_JMP:
	case TAP_X86_JCC:
	case TAP_X86_CALL:
		return branch(insn, x86, prefixes);
	case TAP_X86_RET:
		return ret(insn, x86, prefixes);
	case TAP_X86_NONE:
		break;
	}
	return false;
}

/* Fills in the operands; false where the instruction is not one that can be
 * emulated with certainty. */
static bool fill(struct tap_insn *insn, const cs_insn *from)
{
	const cs_x86 *x86 = &from->detail->x86;
	struct tap_x86_prefixes prefixes;
	const uint8_t *opcode;

	if (from->id == X86_INS_ENDBR64) {
		insn->op = TAP_X86_NOP;
		return true;
	}
	tap_x86_prefixes(insn, &prefixes);
	if (prefixes.lock || prefixes.repeat || prefixes.address_size || prefixes.odd ||
		prefixes.segments > 1 || prefixes.opcode >= insn->size_bytes)
		return false;
	opcode = insn->bytes + prefixes.opcode;
	insn->op = op_of_id(from->id);
	if (!insn->op) {
		insn->op = op_of_opcode(opcode);
		insn->condition = opcode[opcode[0] == 0x0f] & 0x0f;
	}
	/* Without REX.W the destination has 32 bits, where capstone says 64. */
	if (from->id == X86_INS_MOVSXD && !(prefixes.rex & 0x08))
		return false;
	if (prefixes.segment == 0x64)
		insn->flags |= TAP_X86_FS;
	if (prefixes.segment == 0x65)
		insn->flags |= TAP_X86_GS;
	if (!operands(insn, x86, &prefixes))
		return false;
	return insn->op == TAP_X86_NOP || insn->width == 1 || insn->width == 2 ||
	       insn->width == 4 || insn->width == 8;
}

/* By the operands, and by the ModRM byte (mod 0, rm 5) where those leave
 * something out. */
static bool is_rip_relative(const cs_x86 *x86)
{
	if (x86->encoding.modrm_offset && (x86->modrm & 0xc7) == 0x05)
		return true;
	for (unsigned i = 0; i < x86->op_count && i < 8; i++) {
		if (x86->operands[i].type == X86_OP_MEM &&
			(x86->operands[i].mem.base == X86_REG_RIP ||
				x86->operands[i].mem.base == X86_REG_EIP))
			return true;
	}
	return false;
}

/* Offset of the displacement of a RIP-relative operand, checked against the
 * ModRM byte before it; TAP_INSN_MAX where it is not where it should be. */
static uint8_t displacement_offset(const struct tap_insn *insn, const cs_x86 *x86)
{
	unsigned offset = x86->encoding.disp_offset;
	int32_t disp;

	if (!is_rip_relative(x86))
		return 0;
	if (offset < 2 || offset + sizeof(disp) > insn->size_bytes)
		return TAP_INSN_MAX;
	memcpy(&disp, insn->bytes + offset, sizeof(disp));
	if (disp != x86->disp || (insn->bytes[offset - 1] & 0xc7) != 0x05)
		return TAP_INSN_MAX;
	return (uint8_t)offset;
}

bool tap_insn_try_decode(
	const uint8_t *bytes, size_t size_bytes, uint64_t addr, struct tap_insn *insn)
{
	struct decoder *decoder = decoder_get();
	size_t left = size_bytes < TAP_INSN_MAX ? size_bytes : TAP_INSN_MAX;
	const uint8_t *at = bytes;
	uint64_t next = addr;

	if (!cs_disasm_iter(decoder->handle, &at, &left, &next, decoder->insn))
		return false;
	if (!decoder->insn->size || decoder->insn->size > TAP_INSN_MAX)
		return false;
	memset(insn, 0, sizeof(*insn));
	insn->addr = addr;
	insn->size_bytes = (uint8_t)decoder->insn->size;
	memcpy(insn->bytes, bytes, insn->size_bytes);
	insn->rip_disp_offset = displacement_offset(insn, &decoder->insn->detail->x86);
	if (!fill(insn, decoder->insn))
		insn->op = TAP_X86_NONE;
	return true;
}
