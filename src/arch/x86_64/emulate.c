/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"

/* Everything happens on a copy of the registers; an instruction stores to
 * memory once at most, and that is done last. So a fault changes nothing. */
struct machine {
	const struct tap_insn *insn;
	const struct tap_insn_memory *memory;
	struct tap_regs regs;
	uint64_t store_addr;
	uint64_t store_value;
	unsigned store_width; /* 0: nothing to store */
};

/* What the paging of four levels gives a program. Jumps elsewhere fault one
 * way or the other, which the processor shall say itself. */
#define USER_END (UINT64_C(1) << 47)

static uint64_t operand_address(struct machine *m)
{
	const struct tap_insn *insn = m->insn;
	uint64_t addr = (uint64_t)(int64_t)insn->disp;

	if (insn->rm == TAP_DWARF_RIP)
		addr += tap_x86_next(insn);
	else if (insn->rm != TAP_X86_NO_REGISTER)
		addr += *tap_regs_dwarf(&m->regs, insn->rm);
	if (insn->index != TAP_X86_NO_REGISTER)
		addr += *tap_regs_dwarf(&m->regs, insn->index) * insn->scale;
	if (insn->op == TAP_X86_LEA)
		return addr;
	if (insn->flags & TAP_X86_FS)
		addr += m->regs.fs_base;
	if (insn->flags & TAP_X86_GS)
		addr += m->regs.gs_base;
	return addr;
}

static uint64_t get_register(struct machine *m, uint8_t number, bool high, unsigned width)
{
	uint64_t value = *tap_regs_dwarf(&m->regs, number);

	return (high ? value >> 8 : value) & tap_x86_mask(width);
}

static void set_register(
	struct machine *m, uint8_t number, bool high, unsigned width, uint64_t value)
{
	uint64_t *reg = tap_regs_dwarf(&m->regs, number);
	unsigned shift = high ? 8 : 0;
	uint64_t mask = tap_x86_mask(width) << shift;

	/* A result of 32 bits clears the upper half, a smaller one does not. */
	if (width >= 4)
		*reg = value & mask;
	else
		*reg = (*reg & ~mask) | ((value << shift) & mask);
}

static bool load(struct machine *m, uint64_t addr, unsigned width, uint64_t *value_ret)
{
	*value_ret = 0;
	return m->memory->read(m->memory->context, addr, value_ret, width);
}

static void store(struct machine *m, uint64_t addr, unsigned width, uint64_t value)
{
	m->store_addr = addr;
	m->store_value = value;
	m->store_width = width;
}

static bool get_rm(struct machine *m, unsigned width, uint64_t *value_ret)
{
	if (m->insn->flags & TAP_X86_MEMORY)
		return load(m, operand_address(m), width, value_ret);
	*value_ret = get_register(m, m->insn->rm, m->insn->flags & TAP_X86_RM_HIGH, width);
	return true;
}

static void set_rm(struct machine *m, uint64_t value)
{
	if (m->insn->flags & TAP_X86_MEMORY)
		store(m, operand_address(m), m->insn->width, value);
	else
		set_register(
			m, m->insn->rm, m->insn->flags & TAP_X86_RM_HIGH, m->insn->width, value);
}

static uint64_t get_reg(struct machine *m)
{
	return get_register(m, m->insn->reg, m->insn->flags & TAP_X86_REG_HIGH, m->insn->width);
}

/* The operand that is read only, `width` bytes of it. */
static bool get_source(struct machine *m, unsigned width, uint64_t *value_ret)
{
	if (m->insn->flags & TAP_X86_IMMEDIATE)
		*value_ret = (uint64_t)m->insn->imm;
	else if (m->insn->flags & TAP_X86_LOAD)
		return get_rm(m, width, value_ret);
	else
		*value_ret =
			get_register(m, m->insn->reg, m->insn->flags & TAP_X86_REG_HIGH, width);
	return true;
}

static bool get_destination(struct machine *m, uint64_t *value_ret)
{
	if (!(m->insn->flags & TAP_X86_LOAD))
		return get_rm(m, m->insn->width, value_ret);
	*value_ret = get_reg(m);
	return true;
}

static void set_destination(struct machine *m, uint64_t value)
{
	if (m->insn->flags & TAP_X86_LOAD)
		set_register(
			m, m->insn->reg, m->insn->flags & TAP_X86_REG_HIGH, m->insn->width, value);
	else
		set_rm(m, value);
}

static enum tap_emulation move(struct machine *m)
{
	uint64_t value;

	if (!get_source(m, m->insn->width, &value))
		return TAP_EMULATION_FAULT;
	set_destination(m, value);
	return TAP_EMULATION_DONE;
}

/* movzx and movsx: the source is narrower, its width in `condition`. */
static enum tap_emulation extend(struct machine *m)
{
	unsigned width = m->insn->condition;
	uint64_t value;

	if (!get_source(m, width, &value))
		return TAP_EMULATION_FAULT;
	if (m->insn->op == TAP_X86_MOVSX) {
		uint64_t sign = UINT64_C(1) << (width * 8 - 1);

		value = (value ^ sign) - sign;
	}
	set_destination(m, value);
	return TAP_EMULATION_DONE;
}

/* Reads its source, and writes 32-bit destinations, whatever the condition. */
static enum tap_emulation conditional_move(struct machine *m)
{
	uint64_t from, to;

	if (!get_source(m, m->insn->width, &from) || !get_destination(m, &to))
		return TAP_EMULATION_FAULT;
	set_destination(m, tap_x86_condition(m->insn->condition, m->regs.eflags) ? from : to);
	return TAP_EMULATION_DONE;
}

static enum tap_emulation arithmetic(struct machine *m)
{
	enum tap_x86_op op = m->insn->op;
	uint64_t a, b = 0, result;

	if (!get_destination(m, &a))
		return TAP_EMULATION_FAULT;
	if (op != TAP_X86_INC && op != TAP_X86_DEC && op != TAP_X86_NEG &&
		!get_source(m, m->insn->width, &b))
		return TAP_EMULATION_FAULT;
	result = tap_x86_arithmetic(op, m->insn->width, a, b, &m->regs.eflags);
	if (op != TAP_X86_CMP && op != TAP_X86_TEST)
		set_destination(m, result);
	return TAP_EMULATION_DONE;
}

static enum tap_emulation complement(struct machine *m)
{
	uint64_t value;

	if (!get_rm(m, m->insn->width, &value))
		return TAP_EMULATION_FAULT;
	set_rm(m, ~value);
	return TAP_EMULATION_DONE;
}

static enum tap_emulation push(struct machine *m)
{
	uint64_t value = (uint64_t)m->insn->imm;

	if (!(m->insn->flags & TAP_X86_IMMEDIATE) && !get_rm(m, m->insn->width, &value))
		return TAP_EMULATION_FAULT;
	m->regs.rsp -= m->insn->width;
	store(m, m->regs.rsp, m->insn->width, value);
	return TAP_EMULATION_DONE;
}

/* rsp is raised before the destination is written or its address taken. */
static enum tap_emulation pop(struct machine *m)
{
	uint64_t value;

	if (!load(m, m->regs.rsp, m->insn->width, &value))
		return TAP_EMULATION_FAULT;
	m->regs.rsp += m->insn->width;
	set_rm(m, value);
	return TAP_EMULATION_DONE;
}

static enum tap_emulation leave(struct machine *m)
{
	m->regs.rsp = m->regs.rbp + 8;
	if (!load(m, m->regs.rbp, 8, &m->regs.rbp))
		return TAP_EMULATION_FAULT;
	return TAP_EMULATION_DONE;
}

static enum tap_emulation go(struct machine *m, uint64_t target)
{
	if (target >= USER_END)
		return TAP_EMULATION_NOT;
	m->regs.rip = target;
	return TAP_EMULATION_DONE;
}

static enum tap_emulation jump(struct machine *m)
{
	uint64_t target = (uint64_t)m->insn->imm;

	if (!(m->insn->flags & TAP_X86_IMMEDIATE) && !get_rm(m, 8, &target))
		return TAP_EMULATION_FAULT;
	return go(m, target);
}

static enum tap_emulation call(struct machine *m)
{
	uint64_t back = m->regs.rip;
	enum tap_emulation result = jump(m);

	m->regs.rsp -= 8;
	store(m, m->regs.rsp, 8, back);
	return result;
}

static enum tap_emulation ret(struct machine *m)
{
	uint64_t target;

	if (!load(m, m->regs.rsp, 8, &target))
		return TAP_EMULATION_FAULT;
	m->regs.rsp += 8 + (uint64_t)m->insn->imm;
	return go(m, target);
}

static enum tap_emulation carry_out(struct machine *m)
{
	switch ((enum tap_x86_op)m->insn->op) {
	case TAP_X86_NOP:
		return TAP_EMULATION_DONE;
	case TAP_X86_MOV:
		return move(m);
	case TAP_X86_LEA:
		set_destination(m, operand_address(m));
		return TAP_EMULATION_DONE;
	case TAP_X86_MOVZX:
	case TAP_X86_MOVSX:
		return extend(m);
	case TAP_X86_PUSH:
		return push(m);
	case TAP_X86_POP:
		return pop(m);
	case TAP_X86_LEAVE:
		return leave(m);
	case TAP_X86_ADD:
	case TAP_X86_SUB:
	case TAP_X86_CMP:
	case TAP_X86_AND:
	case TAP_X86_OR:
	case TAP_X86_XOR:
	case TAP_X86_TEST:
	case TAP_X86_INC:
	case TAP_X86_DEC:
	case TAP_X86_NEG:
	case TAP_X86_SHL:
	case TAP_X86_SHR:
	case TAP_X86_SAR:
		return arithmetic(m);
	case TAP_X86_NOT:
		return complement(m);
	case TAP_X86_CMOV:
		return conditional_move(m);
	case TAP_X86_SETCC:
		set_rm(m, tap_x86_condition(m->insn->condition, m->regs.eflags));
		return TAP_EMULATION_DONE;
	case TAP_X86_JMP:
		return jump(m);
	case TAP_X86_JCC:
		return tap_x86_condition(m->insn->condition, m->regs.eflags) ? jump(m)
									     : TAP_EMULATION_DONE;
	case TAP_X86_CALL:
		return call(m);
	case TAP_X86_RET:
		return ret(m);
	case TAP_X86_NONE:
		break;
	}
	return TAP_EMULATION_NOT;
}

enum tap_emulation tap_insn_emulate(
	const struct tap_insn *insn, struct tap_regs *regs, const struct tap_insn_memory *memory)
{
	struct machine m = {.insn = insn, .memory = memory, .regs = *regs};
	enum tap_emulation result;

	/* Who steps through its own code wants the trap after each instruction. */
	if (regs->eflags & TAP_X86_TF)
		return TAP_EMULATION_NOT;
	m.regs.rip = tap_x86_next(insn);
	result = carry_out(&m);
	if (result != TAP_EMULATION_DONE)
		return result;
	if (m.store_width &&
		!memory->write(memory->context, m.store_addr, &m.store_value, m.store_width))
		return TAP_EMULATION_FAULT;
	*regs = m.regs;
	return TAP_EMULATION_DONE;
}
