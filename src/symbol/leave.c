/* SPDX-License-Identifier: Apache-2.0 */
/* Leaving one frame by its row of call frame information. */
#include "cursor.h"

/* System V: what a callee keeps. All else is lost behind a call. */
#define KEPT_MASK                                                                                  \
	(1u << TAP_DWARF_RBX | 1u << TAP_DWARF_RBP | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 15)
#define NULL_PAGE 4096

bool tap_cursor_knows(const struct tap_cursor *cursor, unsigned number)
{
	return number < TAP_DWARF_REGS && (cursor->known & (1u << number));
}

void tap_cursor_set(struct tap_cursor *cursor, unsigned number, uint64_t value)
{
	*tap_regs_dwarf(&cursor->regs, number) = value;
	cursor->known |= 1u << number;
}

void tap_cursor_lose(struct tap_cursor *cursor, unsigned number)
{
	cursor->known &= ~(1u << number);
}

uint64_t tap_cursor_pc(const struct tap_cursor *cursor)
{
	return cursor->regs.rip - !(cursor->known & TAP_UNWIND_EXACT_PC);
}

static void apply_rule(
	struct tap_cursor *cursor, unsigned number, const struct tap_rule *rule, uint64_t cfa)
{
	uint64_t value;

	if (rule->kind == TAP_RULE_SAME)
		return;
	if (rule->kind == TAP_RULE_SAVED &&
		tap_stack_try_u64(cursor->stack, cfa + (uint64_t)(int64_t)rule->offset, &value))
		tap_cursor_set(cursor, number, value);
	else
		tap_cursor_lose(cursor, number);
}

enum tap_leave tap_leave_with_cfa(
	struct tap_cursor *cursor, const struct tap_row *row, uint64_t cfa)
{
	const struct tap_rule *ra = &row->rules[TAP_ROW_RULES - 1];
	uint64_t value;

	cursor->cfa = cfa;
	if (ra->kind != TAP_RULE_SAVED)
		return TAP_LEAVE_END;
	if (!tap_stack_try_u64(cursor->stack, cfa + (uint64_t)(int64_t)ra->offset, &value))
		return TAP_LEAVE_LOST;
	if (value < NULL_PAGE)
		return TAP_LEAVE_END;
	cursor->known &= KEPT_MASK;
	for (int i = 0; i < TAP_ROW_RULES - 1; i++)
		apply_rule(cursor, tap_row_registers[i], &row->rules[i], cfa);
	tap_cursor_set(cursor, TAP_DWARF_RIP, value);
	tap_cursor_set(cursor, TAP_DWARF_RSP, cfa);
	return TAP_LEAVE_DONE;
}

static enum tap_leave leave_compact(struct tap_cursor *cursor, const struct tap_row *row)
{
	uint64_t cfa;

	if (!tap_cursor_knows(cursor, row->cfa_register))
		return TAP_LEAVE_LOST;
	cfa = *tap_regs_dwarf(&cursor->regs, row->cfa_register) +
		(uint64_t)(int64_t)row->cfa_offset;
	/* A caller's frame lies above; else it would go round for ever. */
	if (tap_cursor_knows(cursor, TAP_DWARF_RSP) && cfa <= cursor->regs.rsp)
		return TAP_LEAVE_LOST;
	return tap_leave_with_cfa(cursor, row, cfa);
}

/* One register of the caller, into next. */
static void leave_register(struct tap_cursor *cursor, const struct tap_expression *expression,
	unsigned number, uint64_t cfa, struct tap_cursor *next)
{
	bool is_value;
	uint64_t value;

	if (!expression->count && expression->same) {
		if (tap_cursor_knows(cursor, number))
			return;
	} else if (expression->count &&
		tap_expression_run(
			cursor, expression->ops, expression->count, cfa, &value, &is_value) &&
		(is_value || tap_stack_try_u64(cursor->stack, value, &value))) {
		tap_cursor_set(next, number, value);
		return;
	}
	tap_cursor_lose(next, number);
}

static enum tap_leave leave_full(struct tap_cursor *cursor, const struct tap_row *row)
{
	const struct tap_row_full *full = row->full;
	struct tap_cursor next = *cursor;
	bool is_value;
	uint64_t cfa;

	if (!tap_expression_run(cursor, full->cfa, full->cfa_count, 0, &cfa, &is_value))
		return TAP_LEAVE_LOST;
	/* A handler may run on a stack of its own. */
	if (!row->signal && cfa <= cursor->regs.rsp)
		return TAP_LEAVE_LOST;
	cursor->cfa = next.cfa = cfa;
	if (!full->registers[TAP_DWARF_RIP].count)
		return TAP_LEAVE_END;
	tap_cursor_set(&next, TAP_DWARF_RSP, cfa);
	for (unsigned i = 0; i < TAP_DWARF_REGS; i++)
		if (i != TAP_DWARF_RSP || full->registers[i].count)
			leave_register(cursor, &full->registers[i], i, cfa, &next);
	if (!tap_cursor_knows(&next, TAP_DWARF_RIP))
		return TAP_LEAVE_LOST;
	if (next.regs.rip < NULL_PAGE && !row->signal)
		return TAP_LEAVE_END;
	next.known &= ~TAP_UNWIND_EXACT_PC;
	if (row->signal)
		next.known |= TAP_UNWIND_EXACT_PC;
	*cursor = next;
	return TAP_LEAVE_DONE;
}

enum tap_leave tap_leave_by_row(struct tap_cursor *cursor, const struct tap_row *row)
{
	return row->full ? leave_full(cursor, row) : leave_compact(cursor, row);
}
