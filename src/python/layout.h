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
		int32_t gc; /* the collector: 3.8; then each interpreter has one */
	} runtime;
	struct {
		int32_t next, id, threads_head;
		int32_t gil; /* pointer to the GIL, from 3.12 */
		int32_t gc;  /* the collector itself, from 3.9 */
		int32_t modules, modules_by_index, importlib, import_func;
		int32_t sysdict, builtins, dict;
		int32_t codec_search_path, codec_search_cache, codec_error_registry;
		int32_t interned; /* from 3.12 */
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
		int32_t exc_info;  /* pointer to the innermost */
		int32_t current_exception;
		int32_t current_exception_type, current_exception_traceback; /* to 3.11 */
		int32_t dict, context, async_exc;
		int32_t async_gen_firstiter, async_gen_finalizer;
		int32_t profile, trace;
		int32_t delete_later;
	} thread_values; /* objects that it holds */
	struct {
		int32_t type, traceback; /* to 3.10 */
		int32_t value, previous;
	} exc_item;
	struct {
		int32_t current_frame; /* 3.11, 3.12 */
	} cframe;
	struct {
		int32_t back, code, lasti; /* to 3.10 */
	} frame_object;
	struct {
		int32_t back, trace;
		int32_t code, builtins, globals, locals; /* to 3.10 */
		int32_t value_stack; /* to 3.10: pointer to where the operands begin */
		int32_t stack_top;   /* to 3.9: pointer behind the last operand, or 0 */
		int32_t stack_depth; /* 3.10: 32-bit number of operands, or -1 */
		int32_t localsplus;  /* to 3.10 */
		int32_t frame;       /* from 3.11: pointer to the frame */
		int32_t frame_data;  /* from 3.11: the frame itself, once it has left the stack */
		int32_t extra_locals, locals_cache; /* from 3.13 */
		int32_t overwritten_locals;         /* from 3.14 */
		int32_t size;
	} frame_object_values;
	struct {
		int32_t code; /* from 3.14 a tagged reference */
		int32_t previous;
		int32_t instruction; /* 3.11, 3.12 the last that ran; then the one that runs */
		int32_t is_entry;    /* 3.11 */
		int32_t owner;
	} frame;
	struct {
		int32_t function, globals, locals;
		int32_t frame_object;
		int32_t stack_top;     /* to 3.13: 32-bit number of localsplus in use, or -1 */
		int32_t stack_pointer; /* from 3.14: pointer behind the last in use, or 0 */
		int32_t localsplus;
	} frame_values;
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
		int32_t nlocals, stacksize; /* 32 bits each */
		int32_t nlocalsplus;        /* from 3.11, 32 bits */
		int32_t consts, names;
		int32_t varnames, freevars, cellvars; /* to 3.10 */
		int32_t localsplusnames, localspluskinds, exceptiontable; /* from 3.11 */
		int32_t cached;   /* from 3.11: 3.11 a bytes object, then a block of four objects */
		int32_t cell2arg; /* to 3.10 */
		int32_t extra;
		int32_t opcache_map, opcache, opcache_size, zombie_frame; /* to 3.10 */
	} code_values;
	struct {
		int32_t type, items;
		int32_t head_size; /* without items */
	} object;
	struct {
		int32_t name, basic_size, item_size, flags;
		int32_t base, bases, mro, dict, subclasses, cache;
		int32_t dict_offset, weaklist_offset;
		int32_t weaklist;
		int32_t size;
		int32_t doc, members;
	} type;
	struct {
		int32_t name, qualname, slots, cached_keys;
		int32_t module;        /* from 3.9 */
		int32_t type_name;     /* from 3.11: a copy of the name, owned */
		int32_t size;
	} heap_type;
	struct {
		int32_t items, allocated;
	} list;
	struct {
		int32_t items;
	} tuple;
	struct {
		int32_t used, keys, values, size;
	} dict;
	struct {
		int32_t refcount;
		int32_t slots;             /* to 3.10: places of the index */
		int32_t log2_slots;        /* from 3.11: 8 bits */
		int32_t log2_index_bytes;  /* from 3.11: 8 bits */
		int32_t kind;              /* from 3.11: 8 bits: 0 any key, 1 str, 2 shared */
		int32_t usable, entries;
		int32_t indices;
		int32_t entry_size, entry_key, entry_value;
		int32_t unicode_entry_size, unicode_entry_key, unicode_entry_value; /* from 3.11 */
	} keys;
	struct {
		int32_t values; /* from 3.11; before, the block is nothing else */
		int32_t capacity, size, embedded, valid; /* from 3.13: 8 bits each */
	} values;
	struct {
		int32_t first, fast_nodes, fast_nodes_size;
	} odict;
	struct {
		int32_t used, mask, table, small_table;
		int32_t entry_size, entry_key;
	} set;
	struct {
		int32_t left_block, left_index;
		int32_t free_blocks, free_block_count; /* from 3.11 */
		int32_t block_size, block_data, block_right;
	} deque;
	struct {
		int32_t allocated, bytes;
		int32_t bytes_object; /* from 3.15 */
	} bytearray;
	struct {
		int32_t dict, name, state;
	} module;
	struct {
		int32_t code, globals, builtins, defaults, kwdefaults, closure, doc, name, qualname;
		int32_t dict, module, annotations;
		int32_t annotate;   /* from 3.14 */
		int32_t typeparams; /* from 3.12 */
	} function;
	struct {
		int32_t function, self;
	} method;
	struct {
		int32_t value;
	} cell;
	struct {
		int32_t frame; /* to 3.10: frame object */
		int32_t code;  /* to 3.11 */
		int32_t name, qualname, exc_state;
		int32_t origin_or_finalizer; /* from 3.11 */
		int32_t coroutine_origin;    /* to 3.10: of coroutines alone */
		int32_t frame_state, iframe; /* from 3.11: 8 bits; the frame itself */
	} generator;
	struct {
		int32_t callback, next;
	} weakref;
	struct {
		int32_t root_next;
		int32_t cache, hits, function, maxsize, misses, cache_info_type, dict;
		int32_t mark, element_type; /* from 3.10 */
		int32_t element_next, element_key, element_result;
	} lru;
	struct {
		int32_t next, frame;
	} traceback;
	struct {
		int32_t dict, args, traceback, context, cause;
		int32_t notes; /* from 3.11 */
		int32_t size;
	} exception;
	struct {
		int32_t tag; /* from 3.12: the sign in bits 0 and 1, the number of digits from bit 3 */
		int32_t digits;
	} integer;
	struct {
		int32_t generations; /* three heads of lists, generation_size apart */
		int32_t collecting;  /* 32 bits */
		int32_t garbage, callbacks;
		int32_t generation_size, head_size;
	} gc;
	struct {
		int32_t length, data;
	} bytes;
	struct {
		int32_t length, state;
		int32_t ascii_size, compact_size; /* where the characters begin */
		int32_t data;                     /* pointer to them where not compact */
		int32_t utf8, utf8_length;        /* not where ASCII and compact */
		int32_t wide, wide_length;        /* to 3.11; length not where ASCII and compact */
		int32_t full_size;
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
