/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PYTHON_HEAP_INTERNAL_H
#define HEAPTAP_PYTHON_HEAP_INTERNAL_H

/* What the modules behind heap.h share. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/base/map.h"
#include "heaptap/base/strings.h"
#include "heaptap/base/vector.h"
#include "heaptap/python/heap.h"
#include "python/layout.h"
#include "python/runtime.h"

/* Include/object.h: the same in every version that has them. */
#define TAP_PYTHON_INLINE_VALUES (UINT64_C(1) << 2)   /* 3.13 on */
#define TAP_PYTHON_MANAGED_WEAKREF (UINT64_C(1) << 3) /* 3.12 on */
#define TAP_PYTHON_MANAGED_DICT (UINT64_C(1) << 4)    /* 3.11 on */
#define TAP_PYTHON_HEAP_TYPE (UINT64_C(1) << 9)
#define TAP_PYTHON_READY (UINT64_C(1) << 12)
#define TAP_PYTHON_HAVE_GC (UINT64_C(1) << 14)
#define TAP_PYTHON_INT_SUBCLASS (UINT64_C(1) << 24)
#define TAP_PYTHON_LIST_SUBCLASS (UINT64_C(1) << 25)
#define TAP_PYTHON_TUPLE_SUBCLASS (UINT64_C(1) << 26)
#define TAP_PYTHON_BYTES_SUBCLASS (UINT64_C(1) << 27)
#define TAP_PYTHON_STR_SUBCLASS (UINT64_C(1) << 28)
#define TAP_PYTHON_DICT_SUBCLASS (UINT64_C(1) << 29)
#define TAP_PYTHON_EXCEPTION_SUBCLASS (UINT64_C(1) << 30)
#define TAP_PYTHON_TYPE_SUBCLASS (UINT64_C(1) << 31)

/* How sys.getsizeof() finds what it says. */
enum tap_python_sizer {
	TAP_PYTHON_SIZE_NONE,
	TAP_PYTHON_SIZE_UNKNOWN, /* a __sizeof__ of its own that is not known */
	TAP_PYTHON_SIZE_GENERIC, /* object.__sizeof__ */
	TAP_PYTHON_SIZE_LIST,
	TAP_PYTHON_SIZE_DICT,
	TAP_PYTHON_SIZE_ODICT,
	TAP_PYTHON_SIZE_SET,
	TAP_PYTHON_SIZE_DEQUE,
	TAP_PYTHON_SIZE_BYTEARRAY,
	TAP_PYTHON_SIZE_STR,
	TAP_PYTHON_SIZE_INT,
	TAP_PYTHON_SIZE_TYPE,
	TAP_PYTHON_SIZE_FRAME,
	TAP_PYTHON_SIZE_GENERATOR,
	TAP_PYTHON_SIZE_CODE,
};

struct tap_python_heap_type {
	struct tap_python_type shown;
	uint32_t number;
	uint64_t base;        /* tp_base, 0: none */
	int64_t dict_offset;  /* tp_dictoffset: 0 none; less than 0 from the end, or managed */
	int64_t weaklist_offset;
	uint64_t cached_keys; /* ht_cached_keys of a heap type */
	/* The nearest type that was not made by a class statement, itself or one
	 * of its bases: what lies behind its basic size are slots and dictionaries
	 * of Python classes. */
	uint64_t builtin;
	uint64_t builtin_bytes; /* its basic size */
	const char *builtin_name;
	bool is_class;        /* made by a class statement, or a call of type() */
	uint32_t lead_bytes;  /* in front of each object: 0, 16, 32 */
	uint64_t least_bytes; /* that an object takes: of a str less than its basic size */
	enum tap_python_sizer sizer; /* heap_sizes.c: NONE until it is asked for */
};

struct tap_python_heap {
	struct tap_python *python;
	struct tap_memory *memory; /* python's */
	const struct tap_python_layout *layout;
	const struct tap_maps *maps;
	struct tap_strings *strings;
	TAP_VECTOR(struct tap_python_heap_type *) types;
	struct tap_map types_at; /* address -> number */
	struct tap_map no_types; /* addresses that are known to be none; bounded */
	struct tap_map pools;    /* where a pool might begin -> 1: one does, and no type is in it */
	uint64_t type_type;      /* PyType_Type */
};

/* --- types (heap_types.c) ---------------------------------------------------- */

/* The type at an address, met now or before; NULL where there is none. */
const struct tap_python_heap_type *tap_python_heap_type_at(
	struct tap_python_heap *heap, uint64_t addr);
/* The same, where it was met before: a single look-up. */
const struct tap_python_heap_type *tap_python_heap_type_known(
	const struct tap_python_heap *heap, uint64_t addr);
/* The type of an object that was found. */
static inline const struct tap_python_heap_type *tap_python_heap_type_of(
	const struct tap_python_heap *heap, const struct tap_python_object *object)
{
	return heap->types.items[object->type];
}

/* heap_type_names.c: the name as struct tap_python_type has it, interned; NULL where
 * there is none. *is_class_ret: a class statement or a call of type() made it. */
const char *tap_python_heap_type_name(
	struct tap_python_heap *heap, uint64_t addr, uint64_t flags, bool *is_class_ret);

/* --- dictionaries (heap_dicts.c) --------------------------------------------- */

/* PyDictKeysObject. Counts hold together; nothing says that all is mapped. */
struct tap_python_keys {
	uint64_t addr;
	int64_t refcount;       /* below 0: of the empty keys, which are static */
	uint64_t slots;         /* places in the index: a power of two */
	uint64_t usable;        /* entries that may still be added */
	uint64_t count;         /* entries, those that were deleted included */
	uint64_t entries;       /* address of the first */
	uint64_t block_bytes;   /* of the whole, as _PyDict_KeysSize() has it */
	uint32_t entry_bytes;
	uint32_t key_offset, value_offset; /* in an entry */
};
bool tap_python_keys_read(
	struct tap_python_heap *heap, uint64_t addr, struct tap_python_keys *ret);

struct tap_python_dict {
	struct tap_python_keys keys;
	uint64_t used;
	uint64_t values;        /* ma_values, 0: they are in the entries */
	uint64_t values_array;  /* of keys.count pointers, some of them 0; 0: in the entries */
};
/* addr: of a dict or an instance of a subclass; nothing checks that it is one
 * but that its parts hold together. */
bool tap_python_dict_read(
	struct tap_python_heap *heap, uint64_t addr, struct tap_python_dict *ret);

/* Every item that is there, in the order of the entries. False from fn: enough.
 * values_array: of keys.count values, 0: those of the entries. False where part
 * of it was not mapped. */
typedef bool (*tap_python_item_fn)(void *context, uint64_t key, uint64_t value);
bool tap_python_keys_each(struct tap_python_heap *heap, const struct tap_python_keys *keys,
	uint64_t values_array, tap_python_item_fn fn, void *context);
static inline bool tap_python_dict_each(struct tap_python_heap *heap,
	const struct tap_python_dict *dict, tap_python_item_fn fn, void *context)
{
	return tap_python_keys_each(heap, &dict->keys, dict->values_array, fn, context);
}

/* The value of a key that is the text of a str; dictionaries of over 65536
 * entries are not looked through. */
bool tap_python_dict_get(
	struct tap_python_heap *heap, uint64_t addr, const char *key, uint64_t *value_ret);

/* --- reading ----------------------------------------------------------------- */

/* tap_python_try_field() of the heap. */
static inline bool tap_python_heap_field(
	struct tap_python_heap *heap, uint64_t addr, int32_t offset, uint64_t *ret)
{
	return tap_python_try_field(heap->python, addr, offset, ret);
}

/* 32 bits of a field. */
static inline bool tap_python_heap_field32(
	struct tap_python_heap *heap, uint64_t addr, int32_t offset, uint32_t *ret)
{
	return addr && offset >= 0 &&
	       tap_memory_try_u32(heap->memory, addr + (uint64_t)offset, ret);
}

/* Interpreters (heap_collector.c): fn with the address of each; false: enough. */
typedef bool (*tap_python_interpreter_fn)(void *context, uint64_t interpreter);
void tap_python_heap_interpreters(
	struct tap_python_heap *heap, tap_python_interpreter_fn fn, void *context);

#endif
