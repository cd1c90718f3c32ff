/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SYMBOL_UNWIND_H
#define HEAPTAP_SYMBOL_UNWIND_H

/*
 * Native stacks of a thread that stands still. Call frame information comes
 * from libdw, is evaluated once per PC and kept as a row (where the CFA, the
 * return address and the saved registers are), so that a frame seen before
 * costs a hash look-up. The top of the stack is copied in one read, as much of
 * it as was needed of that thread the last time. Frames without call frame
 * information fall back to the frame pointer, then to a scan for a return
 * address, and are marked.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/arch/regs.h"
#include "heaptap/base/error.h"
#include "heaptap/base/frame.h"
#include "heaptap/memory/memory.h"
#include "heaptap/symbol/symbols.h"

struct tap_unwinder;

struct tap_native_frame {
	uint64_t pc;  /* return address, or where the thread stands in the first frame */
	uint64_t cfa; /* canonical frame address; 0 where unknown */
	bool is_call; /* pc is a return address: the instruction before it is meant */
	enum tap_frame_trust trust;
};

/* symbols must outlive it. Rows of modules that are retired are dropped by
 * tap_unwinder_forget(), to be called when tap_symbols_update() changed. */
struct tap_unwinder *tap_unwinder_create(struct tap_symbols *symbols);
void tap_unwinder_forget(struct tap_unwinder *unwinder);
void tap_unwinder_destroy(struct tap_unwinder *unwinder); /* takes NULL */

/* Code that no file describes, from start (inclusive) to end, all of it in one
 * frame: how that is left. The frame itself is in no stack. It holds until the
 * unwinder is destroyed; the last one that was told counts. */
struct tap_unwind_code {
	uint64_t start, end;
	unsigned cfa_register; /* DWARF number */
	int32_t cfa_offset;
	int32_t ra_offset; /* from the CFA */
	int32_t rbx_offset, rbp_offset, r12_offset, r13_offset, r14_offset, r15_offset;
};
void tap_unwinder_add_code(struct tap_unwinder *unwinder, const struct tap_unwind_code *code);

/* Registers by DWARF number as a bit mask: which of regs are known. */
#define TAP_UNWIND_ALL UINT32_MAX
/* rip is where the thread stands (or was interrupted), not a return address
 * behind a call. tap_unwind() takes it for granted in the first frame. */
#define TAP_UNWIND_EXACT_PC (1u << 31)
#define TAP_UNWIND_SP_PC ((1u << TAP_DWARF_RSP) | (1u << TAP_DWARF_RIP))

/* Innermost first; returns their number, at most capacity. The first frame's
 * pc is regs->rip. known: with TAP_UNWIND_SP_PC a thread blocked in a system
 * call is unwound without having been stopped. */
size_t tap_unwind(struct tap_unwinder *unwinder, struct tap_memory *memory,
	const struct tap_regs *regs, uint32_t known, struct tap_native_frame *frames,
	size_t capacity);

/* The part of the stack that the last tap_unwind() has copied, and its address;
 * holds until the next call of this unwinder. */
const void *tap_unwind_copied(
	const struct tap_unwinder *unwinder, uint64_t *addr_ret, size_t *size_ret);

/* One step out of the frame that regs stand in: regs become the caller's
 * (rip is the return address, rsp the CFA), and known what is known of them.
 * known must have TAP_UNWIND_EXACT_PC where rip is no return address (it is in
 * TAP_UNWIND_ALL); further steps take what the last one left. False at the
 * outermost frame: regs and known stay as they were. */
bool tap_unwind_step(struct tap_unwinder *unwinder, struct tap_memory *memory,
	struct tap_regs *regs, uint32_t *known, enum tap_frame_trust *trust_ret);

#endif
