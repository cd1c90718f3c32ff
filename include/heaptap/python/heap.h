/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PYTHON_HEAP_H
#define HEAPTAP_PYTHON_HEAP_H

/*
 * CPython's objects in the blocks of the heap, from outside: which block holds
 * one, of which type, how large it is, what it refers to, and what a reference
 * is called. For a process that stands still, or a copy of one.
 *
 * A block is an object where, at its start or behind a head of the collector's or
 * of managed dictionaries (16 or 32 bytes; 16 more where PYTHONMALLOC=debug puts
 * something in front), lie a plausible reference count and the address of a
 * type. Types are known by their own type, `type` or a subclass of it. What is
 * read is untrusted; what does not hold together is no object.
 *
 * Facts of layouts: tools/cpython-offsets.tsv, made from the debug information
 * of each version. 3.8 to 3.15, default builds.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/base/error.h"
#include "heaptap/base/strings.h"
#include "heaptap/proc/maps.h"
#include "heaptap/python/python.h"

struct tap_python_heap;

/* What a type's objects are laid out as: of a built-in type or a subclass of it
 * that adds nothing in front. */
enum tap_python_kind {
	TAP_PYTHON_OTHER, /* every aligned word of it may be a reference */
	TAP_PYTHON_ATOM,  /* refers to nothing but the characters and other forms of a str: int, float,
	                   * str, bytes, complex, object() */
	TAP_PYTHON_LIST,
	TAP_PYTHON_TUPLE,
	TAP_PYTHON_DICT,
	TAP_PYTHON_SET, /* and frozenset */
	TAP_PYTHON_DEQUE,
	TAP_PYTHON_BYTEARRAY,
	TAP_PYTHON_MODULE,
	TAP_PYTHON_TYPE,
	TAP_PYTHON_FUNCTION,
	TAP_PYTHON_METHOD,
	TAP_PYTHON_CELL,
	TAP_PYTHON_FRAME,
	TAP_PYTHON_GENERATOR, /* and coroutines, asynchronous generators */
	TAP_PYTHON_CODE,
	TAP_PYTHON_WEAKREF,
	TAP_PYTHON_LRU_CACHE, /* functools._lru_cache_wrapper */
	TAP_PYTHON_TRACEBACK,
	TAP_PYTHON_EXCEPTION,
	TAP_PYTHON_NDARRAY, /* numpy.ndarray */
	TAP_PYTHON_INSTANCE, /* of a class written in Python: slots, attributes; also where it
	                      * derives from an atom */
};

struct tap_python_type {
	uint64_t addr;
	const char *name;   /* "module.Name" as a programmer knows it: tp_name for static types
	                     * ("dict", "collections.deque"), __module__ and __qualname__ of classes
	                     * ("__main__.Order"; builtins without a module); cleaned, valid as long
	                     * as the heap */
	enum tap_python_kind kind;
	bool is_heap_type;  /* itself a block of the heap */
	bool collected;     /* its objects have a head of the collector */
	uint64_t basic_bytes, item_bytes; /* tp_basicsize, tp_itemsize */
	uint64_t flags;     /* tp_flags */
};

struct tap_python_object {
	uint64_t addr;      /* of its reference count */
	uint32_t type;      /* for tap_python_heap_type() */
	uint32_t lead_bytes; /* from the block's start to addr: what its type's objects have in
	                      * front, and of a block that was asked for what is for debugging */
};

/* python, and the memory and symbols that it reads, must outlive it and stand
 * still; so must maps, new enough. Turn the memory's cache of pieces on.
 * UNSUPPORTED where the runtime has no layout, or its types are not found. */
struct tap_error *tap_python_heap_open(
	struct tap_python *python, const struct tap_maps *maps, struct tap_python_heap **ret);
void tap_python_heap_close(struct tap_python_heap *heap); /* takes NULL */

/* Types that were met so far, numbered from 0; what is returned stays. */
uint32_t tap_python_heap_types(const struct tap_python_heap *heap);
const struct tap_python_type *tap_python_heap_type(const struct tap_python_heap *heap, uint32_t type);

/* Does this block hold an object? bytes: the block's first size_bytes (the
 * whole, or its first 64 at least), already read; may be NULL. Objects on free
 * lists (reference count 0) are none. Where its type has a head of the
 * collector, that must be one. */
bool tap_python_heap_object(struct tap_python_heap *heap, uint64_t block_addr,
	const uint8_t *bytes, uint64_t size_bytes, struct tap_python_object *ret);
/* The object at an address that is known to be one, or may be: static ones too. */
bool tap_python_heap_object_at(
	struct tap_python_heap *heap, uint64_t addr, struct tap_python_object *ret);

/* Every object that the collector tracks, as gc.get_objects() gives them, of
 * every interpreter. Returns their number; *broken_ret: lists that did not close,
 * or were being worked on. False from fn: enough. */
typedef bool (*tap_python_tracked_fn)(void *context, uint64_t addr);
uint64_t tap_python_heap_tracked(struct tap_python_heap *heap, tap_python_tracked_fn fn,
	void *context, uint32_t *broken_ret);

/* sys.getsizeof() of it, the collector's head included; 0 where it cannot be told. */
uint64_t tap_python_heap_sizeof(struct tap_python_heap *heap, const struct tap_python_object *object);

/* Number of items of a container: len() of list, tuple, dict, set, deque, str,
 * bytes, currsize of an lru_cache, attributes of a module; -1 where it has none. */
int64_t tap_python_heap_length(struct tap_python_heap *heap, const struct tap_python_object *object);

/* The text of a str, cut at capacity; false where it is none. */
bool tap_python_heap_text(struct tap_python_heap *heap, uint64_t addr, char *buf, size_t capacity);

/* --- what objects refer to -------------------------------------------------- */

/* Every reference that the object owns, each address once or more often: other
 * objects and blocks of its own (the items of a list, the keys of a dict, values
 * inline or in a table, deque blocks, numpy data, other forms of a str). Not its
 * type, unless that is a heap type; not what it refers to weakly. For OTHER what
 * lies in front of it and its type alone, with false: every aligned word of the
 * block behind lead_bytes may be one. False from fn: enough. */
typedef bool (*tap_python_reference_fn)(void *context, uint64_t addr);
bool tap_python_heap_references(struct tap_python_heap *heap,
	const struct tap_python_object *object, tap_python_reference_fn fn, void *context);

/* How `from` refers to the object or block at `to`, as text to be put behind the
 * name of `from`: ".attribute", "['key']" (cut at 40 characters), "[3]", "[...]"
 * where the key has no short form, ".__defaults__", " local NAME" of a frame or
 * generator; "" where nothing has to be said (of a cell, its value).
 *
 * *is_part_ret (may be NULL): `to` is no value of its own but a part (its
 * __dict__, its table), and the text is empty. What the part refers to is named
 * by asking again for the same `from`: a module, class or instance for what is in
 * its __dict__, a threading.local for what each thread has in it (two parts), a
 * generator for its variables. A function can be asked for the cells in the tuple
 * of its __closure__, too: ".__closure__<cell NAME>", in the place of
 * ".__closure__" and "[0]".
 *
 * A dict asked by itself gives ".name" where what is in it shows that it is the
 * __dict__ of a module, a class or an instance whose keys are shared, else
 * "['name']". False where `from` does not refer to `to`. Looks through the whole
 * container. */
bool tap_python_heap_reference_name(struct tap_python_heap *heap,
	const struct tap_python_object *from, uint64_t to, char *buf, size_t capacity,
	bool *is_part_ret);

/* Of an lru_cache: the wrapped function's module and qualified name as
 * "module.name", its hits and misses, and maxsize (-1: None). */
struct tap_python_lru {
	char name[256];
	uint64_t hits, misses;
	int64_t maxsize;
	uint64_t size;
};
bool tap_python_heap_lru(struct tap_python_heap *heap, const struct tap_python_object *object,
	struct tap_python_lru *ret);

/* What a programmer calls an object by itself: a module, and its __dict__, the
 * module's name; a function, class, method or lru_cache "module.qualname"; a frame
 * "frame of FUNCTION (FILE:LINE)"; a generator "generator module.qualname", and so
 * "coroutine ..", "async_generator ..". Cleaned. False: nothing. */
bool tap_python_heap_own_name(struct tap_python_heap *heap,
	const struct tap_python_object *object, char *buf, size_t capacity);

/* --- roots ------------------------------------------------------------------ */

enum tap_python_root_kind {
	TAP_PYTHON_ROOT_MODULES, /* sys.modules of an interpreter */
	TAP_PYTHON_ROOT_FRAME,   /* a local variable, argument or operand of a running frame */
	TAP_PYTHON_ROOT_THREAD,  /* a thread state: its dict, its exceptions, its context */
	TAP_PYTHON_ROOT_STATIC,  /* of a static type: its __dict__, its cache */
	TAP_PYTHON_ROOT_RUNTIME, /* interned strings, codecs, builtins, all else of the interpreter */
};
struct tap_python_root {
	enum tap_python_root_kind kind;
	uint64_t addr;    /* of the object that is held */
	uint64_t frame;   /* FRAME: the frame's address, else 0 */
	uint64_t thread_state; /* FRAME, THREAD: whose it is, as tap_python_threads() gives them */
	const char *name; /* FRAME: "local NAME of FUNCTION (FILE:LINE)", "operand of ..", and of
	                   * what the frame itself has "FUNCTION (FILE:LINE)"; STATIC: the type's
	                   * name; valid during the call; may be NULL */
};
/* In this order: modules, threads with their frames, static types, of those that
 * were met so far: so after all blocks were asked for; the rest. Operands of a
 * frame that runs right now are the words of its stack: some may be old. */
typedef bool (*tap_python_root_fn)(void *context, const struct tap_python_root *root);
void tap_python_heap_roots(struct tap_python_heap *heap, tap_python_root_fn fn, void *context);

#endif
