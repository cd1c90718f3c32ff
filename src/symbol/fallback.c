/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaving a frame that has no call frame information, or whose information
 * needs a register that is not known (a thread seen through its stack pointer
 * alone): by the trampoline of a signal handler, by the frame pointer, and
 * last by looking for a return address (scan.c).
 */
#include <string.h>
#include "heaptap/arch/cpu.h"
#include "cursor.h"
#include "object.h"

enum tap_leave tap_leave_to(struct tap_cursor *cursor, uint64_t rip, uint64_t cfa)
{
	cursor->cfa = cfa;
	cursor->known = 0;
	tap_cursor_set(cursor, TAP_DWARF_RIP, rip);
	tap_cursor_set(cursor, TAP_DWARF_RSP, cfa);
	return TAP_LEAVE_DONE;
}

/* Order of the general registers in struct sigcontext (Linux,
 * arch/x86/include/uapi/asm/sigcontext.h), as DWARF numbers. */
static const uint8_t sigcontext[] = {8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16};
#define SIGCONTEXT_OFFSET 40 /* in struct ucontext, which rsp points to */

/* A C library without call frame information there (musl). */
static enum tap_leave leave_trampoline(struct tap_cursor *cursor)
{
	uint64_t at = cursor->regs.rsp + SIGCONTEXT_OFFSET, value;
	uint8_t code[sizeof(tap_cpu_sigreturn)];
	struct tap_cursor next = *cursor;

	if (!tap_cursor_read_code(cursor, cursor->regs.rip, code, sizeof(code)) ||
		memcmp(code, tap_cpu_sigreturn, sizeof(code)))
		return TAP_LEAVE_LOST;
	next.cfa = at;
	for (size_t i = 0; i < sizeof(sigcontext); i++) {
		if (!tap_stack_try_u64(cursor->stack, at + i * 8, &value))
			return TAP_LEAVE_LOST;
		tap_cursor_set(&next, sigcontext[i], value);
	}
	next.known |= TAP_UNWIND_EXACT_PC;
	*cursor = next;
	return TAP_LEAVE_DONE;
}

/* The thread jumped to where no code is: the call's return address is still
 * on top of the stack. */
static enum tap_leave leave_bad_jump(struct tap_cursor *cursor)
{
	uint64_t ra;

	if (!(cursor->known & TAP_UNWIND_EXACT_PC) ||
		tap_symbols_is_executable(cursor->symbols, cursor->regs.rip) ||
		!tap_stack_try_u64(cursor->stack, cursor->regs.rsp, &ra) ||
		!tap_cursor_is_return(cursor, ra))
		return TAP_LEAVE_LOST;
	cursor->cfa = cursor->regs.rsp + 8;
	cursor->known &= ~TAP_UNWIND_EXACT_PC;
	tap_cursor_set(cursor, TAP_DWARF_RIP, ra);
	tap_cursor_set(cursor, TAP_DWARF_RSP, cursor->cfa);
	return TAP_LEAVE_DONE;
}

static enum tap_leave leave_by_pointer(struct tap_cursor *cursor)
{
	uint64_t rbp = cursor->regs.rbp, saved, ra;

	if (!tap_cursor_knows(cursor, TAP_DWARF_RBP) || rbp < cursor->regs.rsp || rbp % 8 ||
		!tap_stack_try_u64(cursor->stack, rbp, &saved) ||
		!tap_stack_try_u64(cursor->stack, rbp + 8, &ra) || !tap_cursor_is_return(cursor, ra))
		return TAP_LEAVE_LOST;
	tap_leave_to(cursor, ra, rbp + 16);
	tap_cursor_set(cursor, TAP_DWARF_RBP, saved);
	return TAP_LEAVE_DONE;
}

enum tap_leave tap_leave_by_guess(
	struct tap_cursor *cursor, const struct tap_row *row, enum tap_frame_trust *trust_ret)
{
	*trust_ret = TAP_FRAME_EXACT;
	if (!tap_cursor_knows(cursor, TAP_DWARF_RSP))
		return TAP_LEAVE_END;
	if (!row && leave_trampoline(cursor) == TAP_LEAVE_DONE)
		return TAP_LEAVE_DONE;
	*trust_ret = TAP_FRAME_GUESSED;
	if (leave_bad_jump(cursor) == TAP_LEAVE_DONE)
		return TAP_LEAVE_DONE;
	*trust_ret = TAP_FRAME_POINTER;
	if (!row && leave_by_pointer(cursor) == TAP_LEAVE_DONE)
		return TAP_LEAVE_DONE;
	*trust_ret = TAP_FRAME_GUESSED;
	return tap_leave_by_scan(cursor, row);
}
