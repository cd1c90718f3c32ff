/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include "heaptap/base/map.h"
#include "cursor.h"
#include "object.h"

/* Thirty frames of most programs; a step out of one needs less. */
#define UNWIND_BYTES 16384
#define STEP_BYTES 1024

struct tap_unwinder *tap_unwinder_create(struct tap_symbols *symbols)
{
	struct tap_unwinder *unwinder = tap_alloc(sizeof(*unwinder));

	unwinder->symbols = symbols;
	return unwinder;
}

void tap_unwinder_add_code(struct tap_unwinder *unwinder, const struct tap_unwind_code *code)
{
	/* In the order of tap_row_registers. */
	const int32_t offsets[TAP_ROW_RULES] = {code->rbx_offset, code->rbp_offset, code->r12_offset,
		code->r13_offset, code->r14_offset, code->r15_offset, code->ra_offset};
	struct tap_row row = {.found = true, .hidden = true,
		.cfa_register = (uint8_t)code->cfa_register, .cfa_offset = code->cfa_offset};

	for (int i = 0; i < TAP_ROW_RULES; i++)
		row.rules[i] = (struct tap_rule){offsets[i], TAP_RULE_SAVED};
	unwinder->rows.code_start = code->start;
	unwinder->rows.code_end = code->end;
	unwinder->rows.code = row;
}

void tap_unwinder_forget(struct tap_unwinder *unwinder)
{
	tap_rows_clear(&unwinder->rows);
}

void tap_unwinder_destroy(struct tap_unwinder *unwinder)
{
	if (!unwinder)
		return;
	tap_rows_deinit(&unwinder->rows);
	free(unwinder);
}

static struct tap_cursor start(struct tap_unwinder *unwinder, const struct tap_regs *regs,
	uint32_t known)
{
	return (struct tap_cursor){
		.symbols = unwinder->symbols,
		.rows = &unwinder->rows,
		.stack = &unwinder->stack,
		.regs = *regs,
		.known = known,
	};
}

/* What is no code called nobody: the stack is cut there. Signals interrupt
 * even what jumped into nowhere. */
static bool is_plausible(const struct tap_cursor *cursor)
{
	return (cursor->known & TAP_UNWIND_EXACT_PC) ||
		tap_symbols_is_executable(cursor->symbols, cursor->regs.rip - 1);
}

static enum tap_leave leave(
	struct tap_cursor *cursor, const struct tap_row *row, enum tap_frame_trust *trust_ret)
{
	enum tap_leave result = TAP_LEAVE_LOST;

	*trust_ret = TAP_FRAME_EXACT;
	if (row)
		result = tap_leave_by_row(cursor, row);
	if (result == TAP_LEAVE_LOST)
		result = tap_leave_by_guess(cursor, row, trust_ret);
	return result == TAP_LEAVE_DONE && !is_plausible(cursor) ? TAP_LEAVE_END : result;
}

static struct tap_reach *reach_of(struct tap_unwinder *unwinder, uint64_t fs_base)
{
	struct tap_reach *reach = &unwinder->reaches[tap_hash_u64(fs_base) % TAP_REACHES];

	if (reach->thread != fs_base)
		*reach = (struct tap_reach){.thread = fs_base};
	return reach;
}

size_t tap_unwind(struct tap_unwinder *unwinder, struct tap_memory *memory,
	const struct tap_regs *regs, uint32_t known, struct tap_native_frame *frames,
	size_t capacity)
{
	struct tap_reach *reach = reach_of(unwinder, regs->fs_base);
	struct tap_cursor cursor = start(unwinder, regs, known | TAP_UNWIND_EXACT_PC);
	enum tap_frame_trust trust = TAP_FRAME_EXACT;
	enum tap_leave result = TAP_LEAVE_DONE;
	size_t count = 0;

	tap_stack_start(&unwinder->stack, memory, regs->rsp, UNWIND_BYTES, reach->end);
	while (result == TAP_LEAVE_DONE && count < capacity) {
		const struct tap_row *row =
			tap_rows_at(&unwinder->rows, unwinder->symbols, tap_cursor_pc(&cursor));
		struct tap_native_frame *frame = &frames[count];

		frame->pc = cursor.regs.rip;
		/* A signal's trampoline was never called: its own pc is meant. */
		frame->is_call = !(cursor.known & TAP_UNWIND_EXACT_PC) && !(row && row->signal);
		frame->trust = trust;
		cursor.cfa = 0;
		count += !(row && row->hidden);
		result = leave(&cursor, row, &trust);
		frame->cfa = cursor.cfa;
	}
	if (count < capacity)
		reach->end = unwinder->stack.reached;
	return count;
}

const void *tap_unwind_copied(
	const struct tap_unwinder *unwinder, uint64_t *addr_ret, size_t *size_ret)
{
	*addr_ret = unwinder->stack.addr;
	*size_ret = unwinder->stack.size_bytes;
	return unwinder->stack.bytes;
}

bool tap_unwind_step(struct tap_unwinder *unwinder, struct tap_memory *memory,
	struct tap_regs *regs, uint32_t *known, enum tap_frame_trust *trust_ret)
{
	struct tap_cursor cursor = start(unwinder, regs, *known);
	const struct tap_row *row =
		tap_rows_at(&unwinder->rows, unwinder->symbols, tap_cursor_pc(&cursor));

	tap_stack_start(&unwinder->stack, memory, regs->rsp, STEP_BYTES, 0);
	if (leave(&cursor, row, trust_ret) != TAP_LEAVE_DONE)
		return false;
	*regs = cursor.regs;
	*known = cursor.known;
	return true;
}
