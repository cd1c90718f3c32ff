/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking for the return address of a frame whose size is not known. The
 * stack is full of return addresses of calls that are over; what tells the
 * living one is that the stack can be unwound from it to the thread's end,
 * and that the calls on the way lead where the frames say.
 */
#include "cursor.h"
#include "object.h"

#define SCAN_WORDS 2048
#define CANDIDATES_MAX 64
#define CHAIN_MAX 64
/* A frame pointer that is saved leads to a frame this close. */
#define PAIR_BYTES (1u << 20)

#define SCORE_FOUND 1
#define SCORE_PAIR 1   /* behind a frame pointer that leads further up */
#define SCORE_CALLED 3 /* behind a call of this function */
#define SCORE_CHAIN 6  /* the rest is exact to the end, and each call fits */
#define SCORE_CERTAIN (SCORE_FOUND + SCORE_CALLED + SCORE_CHAIN)

struct candidate {
	struct tap_cursor cursor; /* as after leaving the frame by it */
	int score;
};

static bool is_outermost(const struct tap_row *row)
{
	if (row->full)
		return !row->full->registers[TAP_DWARF_RIP].count;
	return row->rules[TAP_ROW_RULES - 1].kind == TAP_RULE_UNDEFINED;
}

/* Can the stack be unwound from here to its end? */
static bool leads_to_end(struct tap_cursor cursor)
{
	for (int i = 0; i < CHAIN_MAX; i++) {
		uint64_t pc = tap_cursor_pc(&cursor);
		const struct tap_row *row = tap_rows_at(cursor.rows, cursor.symbols, pc);

		if (!row)
			return false;
		if (is_outermost(row))
			return true;
		if (tap_leave_by_row(&cursor, row) != TAP_LEAVE_DONE)
			return false;
		if (cursor.known & TAP_UNWIND_EXACT_PC)
			continue;
		/* A handler returns to its trampoline without having been called. */
		row = tap_rows_at(cursor.rows, cursor.symbols, tap_cursor_pc(&cursor));
		if (row && row->signal)
			continue;
		if (!tap_cursor_is_return(&cursor, cursor.regs.rip) ||
			tap_cursor_call(&cursor, cursor.regs.rip, pc) == TAP_CALL_OTHER)
			return false;
	}
	return true;
}

/* row, where there is one, still knows what lies where once the CFA is told. */
static bool leave_at(struct tap_cursor *cursor, const struct tap_row *row, uint64_t at,
	uint64_t ra, uint64_t before, bool is_pair)
{
	if (row && !row->full)
		return tap_leave_with_cfa(cursor, row, at + 8) == TAP_LEAVE_DONE;
	tap_leave_to(cursor, ra, at + 8);
	if (is_pair)
		tap_cursor_set(cursor, TAP_DWARF_RBP, before);
	return true;
}

static void try_at(const struct tap_cursor *cursor, const struct tap_row *row, uint64_t at,
	uint64_t ra, uint64_t before, struct candidate *best)
{
	struct candidate it = {.cursor = *cursor, .score = SCORE_FOUND};
	bool is_pair = before > at && before - at < PAIR_BYTES && before % 8 == 0;
	enum tap_call call;

	if (!leave_at(&it.cursor, row, at, ra, before, is_pair))
		return;
	call = tap_cursor_call(&it.cursor, ra, tap_cursor_pc(cursor));
	if (is_pair)
		it.score += SCORE_PAIR;
	if (call == TAP_CALL_THIS)
		it.score += SCORE_CALLED;
	if (call != TAP_CALL_OTHER && leads_to_end(it.cursor))
		it.score += SCORE_CHAIN;
	if (it.score > best->score)
		*best = it;
}

enum tap_leave tap_leave_by_scan(struct tap_cursor *cursor, const struct tap_row *row)
{
	uint64_t base = cursor->regs.rsp & ~UINT64_C(7), word, before = 0;
	const struct tap_row copy = row ? *row : (struct tap_row){0};
	struct candidate best = {.score = 0};
	int candidates = 0;

	/* Rows move when others are made. */
	row = row ? &copy : NULL;
	for (uint64_t i = 0; i < SCAN_WORDS && candidates < CANDIDATES_MAX; i++, before = word) {
		uint64_t at = base + i * 8;

		if (!tap_stack_try_u64(cursor->stack, at, &word))
			break;
		if (!tap_cursor_is_return(cursor, word))
			continue;
		candidates++;
		try_at(cursor, row, at, word, before, &best);
		if (best.score >= SCORE_CERTAIN)
			break;
	}
	if (!best.score)
		return TAP_LEAVE_END;
	*cursor = best.cursor;
	return TAP_LEAVE_DONE;
}
