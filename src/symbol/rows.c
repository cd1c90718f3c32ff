/* SPDX-License-Identifier: Apache-2.0 */
#include <dwarf.h>
#include <stdlib.h>
#include "object.h"
#include "rows.h"

/* Some 20 MiB; more different return addresses than a program has. */
#define ROWS_MAX 200000

const uint8_t tap_row_registers[TAP_ROW_RULES] = {
	TAP_DWARF_RBX, TAP_DWARF_RBP, 12, 13, 14, 15, TAP_DWARF_RIP};

/* "register + offset", the form of nearly every CFA. */
static bool is_simple_cfa(const Dwarf_Op *ops, size_t count, struct tap_row *row)
{
	uint64_t number;
	int64_t offset;

	if (count != 1)
		return false;
	if (ops[0].atom >= DW_OP_breg0 && ops[0].atom <= DW_OP_breg31) {
		number = ops[0].atom - DW_OP_breg0;
		offset = (int64_t)ops[0].number;
	} else if (ops[0].atom == DW_OP_bregx) {
		number = ops[0].number;
		offset = (int64_t)ops[0].number2;
	} else {
		return false;
	}
	row->cfa_register = (uint8_t)number;
	row->cfa_offset = (int32_t)offset;
	return number < TAP_DWARF_RIP && offset == row->cfa_offset;
}

static bool is_simple_rule(const struct tap_expression *expression, struct tap_rule *rule)
{
	const Dwarf_Op *ops = expression->ops;
	int64_t offset = 0;

	if (!expression->count) {
		rule->kind = expression->same ? TAP_RULE_SAME : TAP_RULE_UNDEFINED;
		return true;
	}
	if (ops[0].atom != DW_OP_call_frame_cfa || expression->count > 2)
		return false;
	if (expression->count == 2) {
		if (ops[1].atom != DW_OP_plus_uconst)
			return false;
		offset = (int64_t)ops[1].number;
	}
	rule->kind = TAP_RULE_SAVED;
	rule->offset = (int32_t)offset;
	return offset == rule->offset;
}

static bool read_register(Dwarf_Frame *frame, int number, struct tap_expression *ret)
{
	if (dwarf_frame_register(frame, number, ret->room, &ret->ops, &ret->count))
		return false;
	ret->same = !ret->count && !ret->ops;
	return true;
}

static bool make_full(Dwarf_Frame *frame, struct tap_row *row)
{
	struct tap_row_full *full = tap_alloc(sizeof(*full));

	row->full = full;
	full->frame = frame;
	if (dwarf_frame_cfa(frame, &full->cfa, &full->cfa_count) || !full->cfa_count)
		return false;
	for (int i = 0; i < TAP_DWARF_REGS; i++)
		if (!read_register(frame, i, &full->registers[i]))
			return false;
	return true;
}

static bool make_compact(Dwarf_Frame *frame, struct tap_row *row)
{
	Dwarf_Op *ops;
	size_t count;

	if (dwarf_frame_cfa(frame, &ops, &count) || !is_simple_cfa(ops, count, row))
		return false;
	for (int i = 0; i < TAP_ROW_RULES; i++) {
		struct tap_expression expression;

		if (!read_register(frame, tap_row_registers[i], &expression) ||
			!is_simple_rule(&expression, &row->rules[i]))
			return false;
	}
	return true;
}

static void free_full(struct tap_row *row)
{
	if (!row->full)
		return;
	free(row->full->frame);
	free(row->full);
	row->full = NULL;
}

/* Takes over frame. */
static void fill(Dwarf_Frame *frame, struct tap_row *row)
{
	if (dwarf_frame_info(frame, NULL, NULL, &row->signal) != TAP_DWARF_RIP) {
		free(frame);
		return;
	}
	if (!row->signal && make_compact(frame, row)) {
		row->found = true;
		free(frame);
		return;
	}
	row->found = make_full(frame, row);
	if (!row->found)
		free_full(row);
}

static void look_up(const struct tap_symbols *symbols, uint64_t pc, struct tap_row *row)
{
	struct tap_module *module = tap_symbols_module_at(symbols, pc);
	struct tap_object *object;
	Dwarf_Frame *frame = NULL;

	if (!module)
		return;
	object = tap_loaded_of(module)->object;
	tap_object_load_cfi(object);
	if (!(object->eh_frame &&
		    !dwarf_cfi_addrframe(object->eh_frame, pc - module->bias, &frame)) &&
		!(object->debug_frame &&
			!dwarf_cfi_addrframe(object->debug_frame, pc - module->bias, &frame)))
		return;
	if (frame)
		fill(frame, row);
}

const struct tap_row *tap_rows_at(
	struct tap_rows *rows, const struct tap_symbols *symbols, uint64_t pc)
{
	struct tap_row *row;
	uint64_t *slot;
	bool added;

	if (pc >= rows->code_start && pc < rows->code_end)
		return &rows->code;
	if (rows->rows.count >= ROWS_MAX)
		tap_rows_clear(rows);
	slot = tap_map_put(&rows->by_pc, pc, &added);
	if (added) {
		row = tap_vector_add(&rows->rows);
		*slot = rows->rows.count;
		look_up(symbols, pc, row);
	}
	row = &rows->rows.items[*slot - 1];
	return row->found ? row : NULL;
}

void tap_rows_clear(struct tap_rows *rows)
{
	for (size_t i = 0; i < rows->rows.count; i++)
		free_full(&rows->rows.items[i]);
	rows->rows.count = 0;
	tap_map_clear(&rows->by_pc);
}

void tap_rows_deinit(struct tap_rows *rows)
{
	tap_rows_clear(rows);
	tap_vector_free(&rows->rows);
	tap_map_deinit(&rows->by_pc);
}
