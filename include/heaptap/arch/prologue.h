/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ARCH_PROLOGUE_H
#define HEAPTAP_ARCH_PROLOGUE_H

/*
 * A function's first instructions, which a jump to a probe displaces, made to
 * run somewhere else. A pure function over the function's bytes.
 */

#include <stddef.h>
#include <stdint.h>
#include "heaptap/base/error.h"

/* Bytes that a jump to a probe takes. */
#define TAP_PROLOGUE_JUMP_BYTES 5u
#define TAP_PROLOGUE_CODE_MAX 512u
/* More of a function is not looked at. */
#define TAP_PROLOGUE_FUNCTION_MAX 65536u

struct tap_prologue {
	size_t displaced_bytes; /* whole instructions, at least the jump's bytes */
	uint8_t code[TAP_PROLOGUE_CODE_MAX]; /* the same, and a jump to what follows them */
	size_t code_bytes;
};

/* For the function at addr, whose code, or as much of it as is known, is
 * given; `at` is where the moved code will lie, within 2 GiB. UNSUPPORTED with
 * the reason where no jump can be put there:
 * - the jump would lie across the end of a page: it is written in one piece;
 * - the function is shorter than the jump;
 * - it begins with a call (the return address would be ours), a return, or a
 *   breakpoint that somebody has put there;
 * - its own code jumps back into the displaced bytes;
 * - an instruction that cannot be moved, or is not known. */
struct tap_error *tap_prologue_move(uint64_t addr, const uint8_t *function, size_t size_bytes,
	uint64_t at, struct tap_prologue *ret);

#endif
