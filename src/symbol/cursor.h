/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAP_SYMBOL_CURSOR_H
#define TAP_SYMBOL_CURSOR_H

/*
 * Inside of the unwinder: where it stands, and the part of the stack that it
 * has copied.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/symbol/unwind.h"
#include "rows.h"

#define TAP_STACK_MAX 65536

/* A copy of the stack around what was read last. */
struct tap_stack {
	struct tap_memory *memory;
	uint64_t addr;
	size_t size_bytes;  /* of what is in bytes */
	size_t next_bytes;  /* how much to copy at once when it runs out */
	uint64_t top;       /* the first copy begins here, where that makes sense... */
	uint64_t expected;  /* ... and ends there; 0: not known */
	uint64_t reached;   /* the end of what was asked for so far */
	uint8_t bytes[TAP_STACK_MAX];
};

struct tap_cursor {
	struct tap_symbols *symbols;
	struct tap_rows *rows;
	struct tap_stack *stack;
	struct tap_regs regs;
	uint32_t known;
	uint64_t cfa; /* of the frame that was left last */
};

/* Where a thread's stack was last unwound to. */
struct tap_reach {
	uint64_t thread; /* its fs base */
	uint64_t end;
};
#define TAP_REACHES 64u

struct tap_unwinder {
	struct tap_symbols *symbols;
	struct tap_reach reaches[TAP_REACHES]; /* by hash; another thread's costs a read */
	struct tap_rows rows;
	struct tap_stack stack;
};

void tap_stack_start(struct tap_stack *stack, struct tap_memory *memory, uint64_t top,
	size_t first_bytes, uint64_t expected_end);
bool tap_stack_try_u64(struct tap_stack *stack, uint64_t addr, uint64_t *ret);

bool tap_cursor_knows(const struct tap_cursor *cursor, unsigned number);
/* Sets the register, or forgets it. */
void tap_cursor_set(struct tap_cursor *cursor, unsigned number, uint64_t value);
void tap_cursor_lose(struct tap_cursor *cursor, unsigned number);
/* The address that the row is for: of the call, where rip is behind one. */
uint64_t tap_cursor_pc(const struct tap_cursor *cursor);

/* What came of leaving a frame. */
enum tap_leave {
	TAP_LEAVE_DONE,
	TAP_LEAVE_END,  /* it was the outermost */
	TAP_LEAVE_LOST, /* what the row needs is not known */
};

enum tap_leave tap_leave_by_row(struct tap_cursor *cursor, const struct tap_row *row);
/* The same with a CFA that was found otherwise; row is compact. */
enum tap_leave tap_leave_with_cfa(
	struct tap_cursor *cursor, const struct tap_row *row, uint64_t cfa);
/* fallback.c: without call frame information that helps. row may be NULL. */
enum tap_leave tap_leave_by_guess(
	struct tap_cursor *cursor, const struct tap_row *row, enum tap_frame_trust *trust_ret);

/* scan.c: by whatever on the stack looks most like the return address. */
enum tap_leave tap_leave_by_scan(struct tap_cursor *cursor, const struct tap_row *row);
/* To a return address at a CFA: only rip and rsp are known afterwards. */
enum tap_leave tap_leave_to(struct tap_cursor *cursor, uint64_t rip, uint64_t cfa);

/* calls.c: code, from the file where there is one. */
bool tap_cursor_read_code(
	struct tap_cursor *cursor, uint64_t addr, void *buf, size_t size_bytes);
/* Is addr in code, right behind a call? */
bool tap_cursor_is_return(struct tap_cursor *cursor, uint64_t addr);
/* What the call in front of a return address says of the code at pc. */
enum tap_call {
	TAP_CALL_THIS,    /* it leads to that function: directly, through an entry of the
	                   * procedure linkage table, through a pointer in the module's
	                   * data, or by way of a function that jumps there */
	TAP_CALL_OTHER,   /* it leads elsewhere */
	TAP_CALL_UNKNOWN, /* through a register or a table */
};
enum tap_call tap_cursor_call(struct tap_cursor *cursor, uint64_t ra, uint64_t pc);

/* expression.c: runs a DWARF expression on the cursor's registers. cfa: what
 * DW_OP_call_frame_cfa pushes. *is_value_ret: the result is the value, not
 * the address that holds it. False where it cannot be told. */
bool tap_expression_run(struct tap_cursor *cursor, const Dwarf_Op *ops, size_t count,
	uint64_t cfa, uint64_t *ret, bool *is_value_ret);

#endif
