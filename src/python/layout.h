/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PYTHON_LAYOUT_H
#define HEAPTAP_PYTHON_LAYOUT_H

/*
 * Where the fields of CPython's structures lie, by minor version (default
 * builds). The tables in layouts.c are made by tools/cpython-layouts.py; each
 * member is the offset in bytes of the field it is named after, or ABSENT
 * where the version has none. What is read through a layout is checked before
 * the layout is believed (runtime.c).
 */

#include <stddef.h>
#include <stdint.h>

#define TAP_PYTHON_ABSENT (-1)
#define TAP_PYTHON_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* How a code object tells lines. */
enum tap_python_lines {
	TAP_PYTHON_LINES_LNOTAB,    /* 3.8, 3.9: Objects/lnotab_notes.txt */
	TAP_PYTHON_LINES_RANGES,    /* 3.10: PEP 626 */
	TAP_PYTHON_LINES_LOCATIONS, /* 3.11 on: Objects/locations.md, PEP 657 */
};

/* An entry of _Py_DebugOffsets (its offset there; 8 bytes) and the member of
 * the layout whose place its value takes. */
struct tap_python_override {
	uint16_t entry;
	uint16_t member;
};

struct tap_python_layout {
	int minor;
	enum tap_python_lines lines;

	struct {
		int32_t interpreters_head;
		int32_t current_thread; /* to 3.11: the thread state that holds the GIL */
		int32_t allocator_raw, allocator_mem, allocator_obj; /* from 3.12 */
	} runtime;
	struct {
		int32_t next, id, threads_head;
		int32_t gil; /* pointer to the GIL, from 3.12 */
	} interpreter;
	struct {
		int32_t last_holder, locked;
	} gil;
	struct {
		int32_t prev, next, interp;
		int32_t frame;         /* to 3.10: PyFrameObject */
		int32_t cframe;        /* 3.10 to 3.12: on the native stack */
		int32_t current_frame; /* from 3.13 */
		int32_t thread_id;
		int32_t native_thread_id; /* from 3.11 */
		int32_t holds_gil;        /* from 3.13 */
		int32_t holds_gil_mask;   /* of the 32-bit word there */
	} thread;
	struct {
		int32_t current_frame; /* 3.11, 3.12 */
	} cframe;
	struct {
		int32_t back, code, lasti; /* to 3.10 */
	} frame_object;
	struct {
		int32_t code; /* from 3.14 a tagged reference */
		int32_t previous;
		int32_t instruction; /* 3.11, 3.12 the last that ran; then the one that runs */
		int32_t is_entry;    /* 3.11 */
		int32_t owner;
	} frame;
	struct {
		int32_t firstlineno;
		int32_t code; /* to 3.10: bytes object */
		int32_t filename, name;
		int32_t qualname; /* from 3.11 */
		int32_t linetable;
		int32_t instructions; /* from 3.11: number of code units */
		int32_t firsttraceable;
		int32_t adaptive; /* from 3.11: the code units themselves */
	} code;
	struct {
		int32_t type;
	} object;
	struct {
		int32_t name;
	} type;
	struct {
		int32_t length, data;
	} bytes;
	struct {
		int32_t length, state;
		int32_t ascii_size, compact_size; /* where the characters begin */
		int32_t data;                     /* pointer to them where not compact */
	} unicode;
	struct {
		int32_t header_size, count, free_block, class_index, next_offset, max_next_offset;
		int32_t size; /* and alignment of a pool */
	} pool;

	int32_t debug_offsets_size; /* from 3.13 */
	const struct tap_python_override *overrides;
	size_t override_count;
};

extern const struct tap_python_layout tap_python_layouts[];
extern const size_t tap_python_layout_count;

#endif
