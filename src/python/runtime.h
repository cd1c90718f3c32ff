/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PYTHON_RUNTIME_H
#define HEAPTAP_PYTHON_RUNTIME_H

/* What the modules of this layer share of a runtime that was found. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "heaptap/base/map.h"
#include "heaptap/python/python.h"
#include "python/layout.h"

struct tap_python_codes;

/* No structure that is copied as a whole has a field further in than this;
 * entries of _Py_DebugOffsets are checked against it. */
#define TAP_PYTHON_STRUCT 1024

struct tap_python_range {
	uint64_t start; /* inclusive */
	uint64_t end;   /* exclusive */
};
#define TAP_PYTHON_EVAL_RANGES 16

/* Where the outermost frame lay in the innermost chunk of a thread's data
 * stack, last time; 0: not known. */
struct tap_python_stack {
	uint64_t thread_state;
	uint64_t outermost;
};
#define TAP_PYTHON_STACKS 64u
/* A chunk (Python/pystate.c, DATA_STACK_CHUNK_SIZE), unless a frame needs more. */
#define TAP_PYTHON_CHUNK 16384

struct tap_python {
	struct tap_symbols *symbols;
	struct tap_memory *memory;
	struct tap_module *module;
	struct tap_python_info info;
	struct tap_python_layout layout; /* what _Py_DebugOffsets says is in it */
	size_t thread_bytes;             /* how much of each structure has to be copied */
	size_t frame_bytes;
	size_t code_bytes;
	size_t gil_bytes;
	uint64_t code_type; /* PyCode_Type, 0 until the first code object was seen */
	struct tap_python_codes *codes;
	struct tap_map threads; /* pthread -> thread state, as it was last found */
	struct tap_python_stack stacks[TAP_PYTHON_STACKS];
	uint8_t stack_copy[TAP_PYTHON_CHUNK];
	struct {
		uint64_t interp, addr;
	} gil; /* 3.12 on: of the interpreter that was last asked for it */
	struct tap_python_range eval[TAP_PYTHON_EVAL_RANGES];
	size_t eval_count;
};

/* A field of a structure that was copied; 0 where the version has none. */
static inline uint64_t tap_python_u64(const uint8_t *bytes, int32_t offset)
{
	uint64_t value;

	if (offset < 0 || offset > TAP_PYTHON_STRUCT - 8)
		return 0;
	memcpy(&value, bytes + offset, sizeof(value));
	return value;
}

static inline uint32_t tap_python_u32(const uint8_t *bytes, int32_t offset)
{
	uint32_t value;

	if (offset < 0 || offset > TAP_PYTHON_STRUCT - 8)
		return 0;
	memcpy(&value, bytes + offset, sizeof(value));
	return value;
}

/* An address plus a field's offset, read as a pointer; false also where the
 * version does not have the field. */
bool tap_python_try_field(
	const struct tap_python *python, uint64_t addr, int32_t offset, uint64_t *ret);

/* The layout of a minor version of CPython 3, or NULL. */
const struct tap_python_layout *tap_python_layout_find(int minor);

/* Takes over what _Py_DebugOffsets at addr says; false where an entry cannot
 * be right. */
bool tap_python_layout_override(
	struct tap_python_layout *layout, struct tap_memory *memory, uint64_t addr);

/* Fills thread_bytes, frame_bytes, code_bytes and gil_bytes from the layout. */
void tap_python_layout_measure(struct tap_python *python);

/* Takes a layout into use after its structures were checked in memory; false
 * with info.reason set. Open to tests with images, which have no modules. */
bool tap_python_believe(struct tap_python *python);

/* Sets version, hex and free_threaded of info; false where nothing tells. */
bool tap_python_version_read(struct tap_python *python);

/* "3.12.1", "3.15.0b2" from PY_VERSION_HEX */
void tap_python_version_text(uint32_t hex, char *buf, size_t capacity);
/* Parses "3.8.18", "3.15.0a5+" at text; the characters it took, 0 for none. */
size_t tap_python_version_parse(const char *text, size_t size_bytes, uint32_t *hex_ret);
/* Finds the string that Py_GetVersion() has built, in writable data. */
bool tap_python_version_scan(const uint8_t *bytes, size_t size_bytes, uint32_t *hex_ret);

/* Where the runtime lies. runtime_addr is 0 for versions before _PyRuntime. */
struct tap_python_site {
	struct tap_module *module;
	uint64_t runtime_addr;
};
bool tap_python_find(struct tap_symbols *symbols, struct tap_python_site *ret);

/* A section's memory, copied: NULL where there is none or it is over 64 MiB. */
uint8_t *tap_python_copy_section(struct tap_module *module, struct tap_memory *memory,
	const char *name, uint64_t *addr_ret, size_t *size_ret);

/* The text of a str object as UTF-8, at most capacity - 1 bytes, cut at a
 * whole character. False where it is no str. */
bool tap_python_unicode(const struct tap_python *python, uint64_t addr, char *buf, size_t capacity);

/* A code object: its number is its identity, not its address. */
struct tap_python_code {
	uint32_t number;
	bool is_function;
};
/* False where there is none at addr. */
bool tap_python_code_at(struct tap_python *python, uint64_t addr, struct tap_python_code *ret);
struct tap_python_codes *tap_python_codes_create(void);
void tap_python_codes_destroy(struct tap_python_codes *codes); /* takes NULL */

/* Position in the code in units of two bytes, as keys hold it. */
#define TAP_PYTHON_UNIT_BITS 24
#define TAP_PYTHON_UNIT_NONE ((UINT32_C(1) << TAP_PYTHON_UNIT_BITS) - 1)

/* The line of an instruction (byte offset in the code; -1: not begun); 0 where
 * the table has none. */
int tap_python_line(enum tap_python_lines format, const uint8_t *table, size_t size_bytes,
	int firstlineno, int64_t instruction);

/* tap_python_frames() of a thread state whose first thread_bytes were copied. */
size_t tap_python_frames_of_copy(struct tap_python *python, uint64_t thread_state,
	const uint8_t *copy, struct tap_python_frame *frames, size_t capacity);

/* The frame at an address, whoever has it; false where no Python function's is. */
bool tap_python_frame_at(
	struct tap_python *python, uint64_t addr, struct tap_python_frame *ret);

/* Where the innermost evaluation of a thread state lies on the native stack;
 * 0 where it does not tell. state: its first thread_bytes. */
uint64_t tap_python_stack_position(
	struct tap_python *python, uint64_t thread_state, const uint8_t *state);

/* The size class of the pool whose header this is; 0 where it is none. */
uint32_t tap_python_pool_class_bytes(
	const struct tap_python_layout *layout, const uint8_t *header);

/* Finds the text of the evaluation function. */
void tap_python_eval_find(struct tap_python *python);

/* The addresses of the tables in a module without symbols for them (to 3.11);
 * false where not all three are certain. */
bool tap_python_tables_scan(struct tap_python *python, uint64_t addrs[TAP_PYTHON_DOMAINS]);

#endif
