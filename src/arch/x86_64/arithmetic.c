/* SPDX-License-Identifier: Apache-2.0 */
/* Results and status flags, as volume 1, section 3.4.3.1 of the processor
 * manual and the instructions' own pages have them. */
#include "ops.h"

static uint64_t sign_bit(unsigned width)
{
	return UINT64_C(1) << (width * 8 - 1);
}

static int64_t sign_extended(uint64_t value, unsigned width)
{
	uint64_t sign = sign_bit(width);

	value &= tap_x86_mask(width);
	return (int64_t)((value ^ sign) - sign);
}

/* SF, ZF and PF, which follow from the result alone. */
static uint64_t result_flags(uint64_t result, unsigned width)
{
	uint64_t flags = 0;

	if (!result)
		flags |= TAP_X86_ZF;
	if (result & sign_bit(width))
		flags |= TAP_X86_SF;
	if (!__builtin_parity((unsigned)(result & 0xff)))
		flags |= TAP_X86_PF;
	return flags;
}

static uint64_t add(unsigned width, uint64_t a, uint64_t b, uint64_t *status)
{
	uint64_t result = (a + b) & tap_x86_mask(width);

	*status = result_flags(result, width) | ((a ^ b ^ result) & TAP_X86_AF);
	if (result < a)
		*status |= TAP_X86_CF;
	if (~(a ^ b) & (a ^ result) & sign_bit(width))
		*status |= TAP_X86_OF;
	return result;
}

static uint64_t subtract(unsigned width, uint64_t a, uint64_t b, uint64_t *status)
{
	uint64_t result = (a - b) & tap_x86_mask(width);

	*status = result_flags(result, width) | ((a ^ b ^ result) & TAP_X86_AF);
	if (a < b)
		*status |= TAP_X86_CF;
	if ((a ^ b) & (a ^ result) & sign_bit(width))
		*status |= TAP_X86_OF;
	return result;
}

/* The last bit shifted out is CF; OF is defined for a count of 1 only. The
 * count is below 64, and may exceed the width of 8 and 16-bit operands. */
static uint64_t shift(
	enum tap_x86_op op, unsigned width, uint64_t a, unsigned count, uint64_t *status)
{
	uint64_t sign = sign_bit(width), result, out;
	int64_t extended = sign_extended(a, width);

	if (op == TAP_X86_SHL) {
		result = (a << count) & tap_x86_mask(width);
		out = count <= width * 8 ? (a >> (width * 8 - count)) & 1 : 0;
	} else if (op == TAP_X86_SHR) {
		result = a >> count;
		out = (a >> (count - 1)) & 1;
	} else {
		result = (uint64_t)(extended >> count) & tap_x86_mask(width);
		out = (uint64_t)(extended >> (count - 1)) & 1;
	}
	*status = result_flags(result, width) | (out ? TAP_X86_CF : 0);
	if ((op == TAP_X86_SHL && !!(result & sign) != out) || (op == TAP_X86_SHR && (a & sign)))
		*status |= TAP_X86_OF;
	return result;
}

static uint64_t logic(enum tap_x86_op op, uint64_t a, uint64_t b)
{
	switch (op) {
	case TAP_X86_OR:
		return a | b;
	case TAP_X86_XOR:
		return a ^ b;
	default:
		return a & b;
	}
}

uint64_t tap_x86_arithmetic(
	enum tap_x86_op op, unsigned width, uint64_t a, uint64_t b, uint64_t *flags)
{
	uint64_t mask = tap_x86_mask(width), result, status;
	unsigned count = (unsigned)b & (width == 8 ? 63 : 31);

	a &= mask;
	b &= mask;
	switch (op) {
	case TAP_X86_ADD:
		result = add(width, a, b, &status);
		break;
	case TAP_X86_SUB:
	case TAP_X86_CMP:
		result = subtract(width, a, b, &status);
		break;
	case TAP_X86_NEG:
		result = subtract(width, 0, a, &status);
		break;
	case TAP_X86_INC:
		result = add(width, a, 1, &status);
		status = (status & ~(uint64_t)TAP_X86_CF) | (*flags & TAP_X86_CF);
		break;
	case TAP_X86_DEC:
		result = subtract(width, a, 1, &status);
		status = (status & ~(uint64_t)TAP_X86_CF) | (*flags & TAP_X86_CF);
		break;
	case TAP_X86_SHL:
	case TAP_X86_SHR:
	case TAP_X86_SAR:
		if (!count)
			return a;
		result = shift(op, width, a, count, &status);
		break;
	default:
		result = logic(op, a, b);
		status = result_flags(result, width);
		break;
	}
	*flags = (*flags & ~(uint64_t)TAP_X86_STATUS) | status;
	return result;
}

bool tap_x86_condition(unsigned condition, uint64_t flags)
{
	bool less = !(flags & TAP_X86_SF) != !(flags & TAP_X86_OF);
	bool holds = false;

	switch (condition >> 1) {
	case 0:
		holds = flags & TAP_X86_OF;
		break;
	case 1:
		holds = flags & TAP_X86_CF;
		break;
	case 2:
		holds = flags & TAP_X86_ZF;
		break;
	case 3:
		holds = flags & (TAP_X86_CF | TAP_X86_ZF);
		break;
	case 4:
		holds = flags & TAP_X86_SF;
		break;
	case 5:
		holds = flags & TAP_X86_PF;
		break;
	case 6:
		holds = less;
		break;
	case 7:
		holds = less || (flags & TAP_X86_ZF);
		break;
	}
	return holds != (condition & 1);
}
