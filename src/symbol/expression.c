/* SPDX-License-Identifier: Apache-2.0 */
/* DWARF expressions (DWARF 5, section 2.5), as far as call frame information
 * uses them. */
#include <dwarf.h>
#include "cursor.h"

#define DEPTH 64
#define STEPS 1000

struct machine {
	struct tap_cursor *cursor;
	uint64_t cfa;
	uint64_t stack[DEPTH];
	size_t depth;
};

static bool push(struct machine *m, uint64_t value)
{
	if (m->depth == DEPTH)
		return false;
	m->stack[m->depth++] = value;
	return true;
}

static bool push_register(struct machine *m, uint64_t number, uint64_t offset)
{
	if (number >= TAP_DWARF_REGS || !tap_cursor_knows(m->cursor, (unsigned)number))
		return false;
	return push(m, *tap_regs_dwarf(&m->cursor->regs, (unsigned)number) + offset);
}

/* There is something on the stack. */
static bool deref(struct machine *m, uint64_t size_bytes)
{
	uint64_t *top = &m->stack[m->depth - 1], value;

	if (!size_bytes || size_bytes > 8 ||
		!tap_stack_try_u64(m->cursor->stack, *top, &value))
		return false;
	*top = size_bytes == 8 ? value : value & ((UINT64_C(1) << size_bytes * 8) - 1);
	return true;
}

static bool unary(struct machine *m, const Dwarf_Op *op)
{
	uint64_t *top;

	if (!m->depth)
		return false;
	top = &m->stack[m->depth - 1];
	switch (op->atom) {
	case DW_OP_abs:
		*top = (int64_t)*top < 0 ? 0 - *top : *top;
		return true;
	case DW_OP_neg:
		*top = 0 - *top;
		return true;
	case DW_OP_not:
		*top = ~*top;
		return true;
	case DW_OP_plus_uconst:
		*top += op->number;
		return true;
	case DW_OP_deref:
		return deref(m, 8);
	case DW_OP_deref_size:
		return deref(m, op->number);
	default:
		return false;
	}
}

static bool divide(int64_t a, int64_t b, uint64_t *ret)
{
	if (!b || (a == INT64_MIN && b == -1))
		return false;
	*ret = (uint64_t)(a / b);
	return true;
}

/* a is the second of the stack, b its top. */
static bool combine(uint8_t atom, uint64_t a, uint64_t b, uint64_t *ret)
{
	const int64_t x = (int64_t)a, y = (int64_t)b;

	switch (atom) {
	case DW_OP_and:
		*ret = a & b;
		return true;
	case DW_OP_or:
		*ret = a | b;
		return true;
	case DW_OP_xor:
		*ret = a ^ b;
		return true;
	case DW_OP_plus:
		*ret = a + b;
		return true;
	case DW_OP_minus:
		*ret = a - b;
		return true;
	case DW_OP_mul:
		*ret = a * b;
		return true;
	case DW_OP_div:
		return divide(x, y, ret);
	case DW_OP_mod:
		*ret = b ? a % b : 0;
		return b != 0;
	case DW_OP_shl:
		*ret = b < 64 ? a << b : 0;
		return true;
	case DW_OP_shr:
		*ret = b < 64 ? a >> b : 0;
		return true;
	case DW_OP_shra:
		*ret = (uint64_t)(x >> (b < 64 ? b : 63));
		return true;
	case DW_OP_eq:
		*ret = a == b;
		return true;
	case DW_OP_ne:
		*ret = a != b;
		return true;
	case DW_OP_lt:
		*ret = x < y;
		return true;
	case DW_OP_le:
		*ret = x <= y;
		return true;
	case DW_OP_gt:
		*ret = x > y;
		return true;
	case DW_OP_ge:
		*ret = x >= y;
		return true;
	default:
		return false;
	}
}

static bool binary(struct machine *m, uint8_t atom)
{
	if (m->depth < 2)
		return false;
	m->depth--;
	return combine(
		atom, m->stack[m->depth - 1], m->stack[m->depth], &m->stack[m->depth - 1]);
}

static bool shuffle(struct machine *m, const Dwarf_Op *op)
{
	uint64_t *top = m->stack + m->depth, held;
	size_t pick = op->atom == DW_OP_pick ? op->number : op->atom == DW_OP_over;

	switch (op->atom) {
	case DW_OP_dup:
	case DW_OP_over:
	case DW_OP_pick:
		return pick < m->depth && push(m, m->stack[m->depth - 1 - pick]);
	case DW_OP_drop:
		return m->depth && m->depth--;
	case DW_OP_swap:
		if (m->depth < 2)
			return false;
		held = top[-1];
		top[-1] = top[-2];
		top[-2] = held;
		return true;
	case DW_OP_rot:
		if (m->depth < 3)
			return false;
		held = top[-1];
		top[-1] = top[-2];
		top[-2] = top[-3];
		top[-3] = held;
		return true;
	default:
		return false;
	}
}

static bool constant(struct machine *m, const Dwarf_Op *op)
{
	if (op->atom >= DW_OP_lit0 && op->atom <= DW_OP_lit31)
		return push(m, op->atom - DW_OP_lit0);
	if (op->atom >= DW_OP_breg0 && op->atom <= DW_OP_breg31)
		return push_register(m, op->atom - DW_OP_breg0, op->number);
	switch (op->atom) {
	case DW_OP_bregx:
		return push_register(m, op->number, op->number2);
	case DW_OP_call_frame_cfa:
		return push(m, m->cfa);
	case DW_OP_const1u:
	case DW_OP_const1s:
	case DW_OP_const2u:
	case DW_OP_const2s:
	case DW_OP_const4u:
	case DW_OP_const4s:
	case DW_OP_const8u:
	case DW_OP_const8s:
	case DW_OP_constu:
	case DW_OP_consts:
		return push(m, op->number);
	default:
		return false;
	}
}

/* The operation that a jump from ops[at] leads to; count for the end. */
static size_t jump(const Dwarf_Op *ops, size_t count, size_t at)
{
	uint64_t target = ops[at].offset + 3 + (uint64_t)(int64_t)(int16_t)ops[at].number;

	for (size_t i = 0; i < count; i++)
		if (ops[i].offset == target)
			return i;
	return count;
}

/* A register as a location: its value is the result. */
static bool is_register(const Dwarf_Op *op, uint64_t *number_ret)
{
	if (op->atom >= DW_OP_reg0 && op->atom <= DW_OP_reg31) {
		*number_ret = op->atom - DW_OP_reg0;
		return true;
	}
	*number_ret = op->number;
	return op->atom == DW_OP_regx;
}

bool tap_expression_run(struct tap_cursor *cursor, const Dwarf_Op *ops, size_t count,
	uint64_t cfa, uint64_t *ret, bool *is_value_ret)
{
	struct machine m = {.cursor = cursor, .cfa = cfa};
	size_t at = 0;
	uint64_t number;

	*is_value_ret = false;
	for (int step = 0; at < count; step++) {
		const Dwarf_Op *op = &ops[at++];

		if (step == STEPS)
			return false;
		if (is_register(op, &number)) {
			*is_value_ret = true;
			if (!push_register(&m, number, 0))
				return false;
		} else if (op->atom == DW_OP_stack_value) {
			*is_value_ret = true;
		} else if (op->atom == DW_OP_skip) {
			at = jump(ops, count, at - 1);
		} else if (op->atom == DW_OP_bra) {
			if (!m.depth)
				return false;
			if (m.stack[--m.depth])
				at = jump(ops, count, at - 1);
		} else if (op->atom != DW_OP_nop && !constant(&m, op) && !shuffle(&m, op) &&
			!unary(&m, op) && !binary(&m, op->atom)) {
			return false;
		}
	}
	if (!m.depth)
		return false;
	*ret = m.stack[m.depth - 1];
	return true;
}
