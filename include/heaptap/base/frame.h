/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_BASE_FRAME_H
#define HEAPTAP_BASE_FRAME_H

/*
 * One resolved frame of a stack, as it is shown: the common word of the
 * layers that make frames (symbol, python) and those that show them.
 */

#include <stdbool.h>
#include <stdint.h>

enum tap_language {
	TAP_LANGUAGE_UNKNOWN,
	TAP_LANGUAGE_PYTHON,
	TAP_LANGUAGE_C,
	TAP_LANGUAGE_CXX,
	TAP_LANGUAGE_RUST,
};

/* How sure the place of a frame is. */
enum tap_frame_trust {
	TAP_FRAME_EXACT,   /* call frame information, or the interpreter's own frame */
	TAP_FRAME_POINTER, /* found by the frame pointer: no call frame information there */
	TAP_FRAME_GUESSED, /* found by scanning the stack for a return address */
};

/* Strings belong to a tap_strings pool of whoever made the frame; they are
 * raw, whoever shows them cleans them. */
struct tap_frame {
	const char *function; /* demangled; NULL where no symbol is known */
	const char *file;     /* source file as the debug information or co_filename names it, or NULL */
	const char *module;   /* path of the ELF file; for Python frames NULL */
	int line;             /* 1-based, 0 where unknown */
	enum tap_language language;
	bool inlined;         /* inlined into the frame that follows */
	enum tap_frame_trust trust;
	uint64_t pc;          /* native: address of the instruction after the call, or at which the
	                       * thread stands; Python: 0 */
	uint64_t offset;      /* native: pc as an offset in its ELF file's address space; Python: 0 */
};

/* "python", "c", "c++", "rust", "unknown" */
const char *tap_language_name(enum tap_language language);

#endif
