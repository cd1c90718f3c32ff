/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaving a frame that has no call frame information, or whose information
 * needs a register that is not known (a thread seen through its stack pointer
 * alone): by the trampoline of a signal handler, by the frame pointer, and
 * last by looking for a return address.
 */
#include <string.h>
#include "heaptap/arch/cpu.h"
#include "heaptap/arch/insn.h"
#include "cursor.h"
#include "object.h"

#define SCAN_WORDS 2048
/* The bytes in front of a return address that tell a call. */
#define CALL_BYTES 16

static bool read_code(struct tap_cursor *cursor, uint64_t addr, void *buf, size_t size_bytes)
{
	struct tap_module *module = tap_symbols_module_at(cursor->symbols, addr);
	const struct tap_image *image = module ? tap_loaded_of(module)->object->image : NULL;
	const uint8_t *bytes = NULL;

	if (image && !image->from_memory)
		bytes = tap_image_at(image, addr - module->bias, size_bytes);
	if (!bytes)
		return tap_memory_try_read(cursor->stack->memory, addr, buf, size_bytes);
	memcpy(buf, bytes, size_bytes);
	return true;
}

static bool is_return_address(struct tap_cursor *cursor, uint64_t addr)
{
	uint8_t before[CALL_BYTES];

	return tap_symbols_is_executable(cursor->symbols, addr - 1) &&
		read_code(cursor, addr - sizeof(before), before, sizeof(before)) &&
		tap_insn_ends_with_call(before, sizeof(before));
}

/* Does the call in front of addr lead straight to the start of a function? */
static bool calls_function(struct tap_cursor *cursor, uint64_t addr, uint64_t start)
{
	uint8_t call[5];
	int32_t distance;

	if (!start || !read_code(cursor, addr - sizeof(call), call, sizeof(call)) ||
		call[0] != 0xe8)
		return false;
	memcpy(&distance, call + 1, sizeof(distance));
	return addr + (uint64_t)(int64_t)distance == start;
}

/* Only rip and rsp are known afterwards, and rbp where it was saved. */
static enum tap_leave leave_to(struct tap_cursor *cursor, uint64_t rip, uint64_t cfa)
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

	if (!read_code(cursor, cursor->regs.rip, code, sizeof(code)) ||
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
		!is_return_address(cursor, ra))
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
		!tap_stack_try_u64(cursor->stack, rbp + 8, &ra) || !is_return_address(cursor, ra))
		return TAP_LEAVE_LOST;
	leave_to(cursor, ra, rbp + 16);
	tap_cursor_set(cursor, TAP_DWARF_RBP, saved);
	return TAP_LEAVE_DONE;
}

/* Where a return address was found, best kind first. */
struct candidates {
	uint64_t certain; /* behind a call of this very function */
	uint64_t pair;    /* behind a frame pointer that leads further up */
	uint64_t any;
};

static void scan(struct tap_cursor *cursor, struct candidates *found)
{
	uint64_t pc = tap_cursor_pc(cursor), base = cursor->regs.rsp & ~UINT64_C(7);
	uint64_t start = 0, end, word, before = 0;

	tap_symbols_try_extent(cursor->symbols, pc, &start, &end);
	for (uint64_t i = 0; i < SCAN_WORDS && !found->certain; i++, before = word) {
		uint64_t at = base + i * 8;

		if (!tap_stack_try_u64(cursor->stack, at, &word))
			return;
		if (!is_return_address(cursor, word))
			continue;
		if (calls_function(cursor, word, start))
			found->certain = at;
		if (!found->pair && i && before > at && before - at < SCAN_WORDS * 64 &&
			before % 8 == 0)
			found->pair = at;
		if (!found->any)
			found->any = at;
	}
}

static enum tap_leave leave_by_scan(struct tap_cursor *cursor, const struct tap_row *row)
{
	struct candidates found = {0};
	uint64_t at, ra, rbp;

	scan(cursor, &found);
	at = found.certain ? found.certain : found.pair ? found.pair : found.any;
	if (!at || !tap_stack_try_u64(cursor->stack, at, &ra))
		return TAP_LEAVE_END;
	/* The row still knows what lies where, once the CFA is there. */
	if (row && !row->full)
		return tap_leave_with_cfa(cursor, row, at + 8);
	leave_to(cursor, ra, at + 8);
	if (at == found.pair && tap_stack_try_u64(cursor->stack, at - 8, &rbp))
		tap_cursor_set(cursor, TAP_DWARF_RBP, rbp);
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
	*trust_ret = TAP_FRAME_POINTER;
	if (!row && leave_by_pointer(cursor) == TAP_LEAVE_DONE)
		return TAP_LEAVE_DONE;
	*trust_ret = TAP_FRAME_GUESSED;
	if (leave_bad_jump(cursor) == TAP_LEAVE_DONE)
		return TAP_LEAVE_DONE;
	return leave_by_scan(cursor, row);
}
