/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SESSION_ENTRY_POINTS_H
#define HEAPTAP_SESSION_ENTRY_POINTS_H

/*
 * Where the calls of a program's allocator arrive: for each name of the
 * allocator's interface the definition that the dynamic linker binds, which
 * is the first one in the order of its link map (so that a preloaded
 * allocator wins), and those that were linked into a module without being
 * exported. Reads memory and symbols alone; the target may run.
 *
 * operator new and delete are listed where an allocator defines them for
 * itself (jemalloc, tcmalloc, mimalloc): those of libstdc++ and libc++, and a
 * program's own, reach malloc and free and are counted there. CPython's
 * tables (python/python.h) are not part of this list.
 */

#include <stddef.h>
#include <stdint.h>
#include "heaptap/base/error.h"
#include "heaptap/base/vector.h"
#include "heaptap/memory/memory.h"
#include "heaptap/symbol/symbols.h"

/* What a call means: its arguments, in order, and what it returns. */
enum tap_entry_kind {
	TAP_ENTRY_MALLOC,         /* (size); also operator new in all its forms */
	TAP_ENTRY_CALLOC,         /* (count, size) */
	TAP_ENTRY_REALLOC,        /* (block, size) */
	TAP_ENTRY_REALLOCARRAY,   /* (block, count, size) */
	TAP_ENTRY_ALIGNED_ALLOC,  /* (alignment, size) */
	TAP_ENTRY_MEMALIGN,       /* (alignment, size) */
	TAP_ENTRY_POSIX_MEMALIGN, /* (where the block's address is stored, alignment, size): int */
	TAP_ENTRY_VALLOC,         /* (size) */
	TAP_ENTRY_PVALLOC,        /* (size), rounded up to pages */
	TAP_ENTRY_FREE,           /* (block, ...); also cfree, free_sized, sdallocx, delete, ... */
	TAP_ENTRY_MMAP,           /* (addr, size, protection, flags, fd, offset) */
	TAP_ENTRY_MUNMAP,         /* (addr, size) */
	TAP_ENTRY_MREMAP,         /* (addr, old size, new size, flags, ...) */
	TAP_ENTRY_MALLOCX,        /* (size, flags) */
	TAP_ENTRY_RALLOCX,        /* (block, size, flags) */
	TAP_ENTRY_KINDS,
};

struct tap_entry {
	enum tap_entry_kind kind;
	struct tap_module *module;
	const char *symbol;  /* raw; belongs to the tap_symbols, or to the caller of _add() */
	uint64_t addr;       /* first instruction; no two entries of a list share one */
	const char *problem; /* why it cannot be seen (then addr is 0), else NULL; static text */
};

TAP_VECTOR_TYPE(tap_entry_list, struct tap_entry);

/* Adds what is found to *ret (zero-initialised for an empty list; free it
 * with tap_vector_free()). Called again after tap_symbols_update() it adds
 * what came with new modules. NOT_FOUND where no malloc is anywhere. */
struct tap_error *tap_entry_points_find(
	struct tap_symbols *symbols, struct tap_memory *memory, struct tap_entry_list *ret);

/* --symbol ENTRY=NAME: `name` in whichever modules define it is another
 * `entry` ("malloc", "free", ...). USAGE for an entry there is not, NOT_FOUND
 * where no module defines the name. name must outlive the list. */
struct tap_error *tap_entry_points_add(struct tap_symbols *symbols, const char *entry,
	const char *name, struct tap_entry_list *ret);

/* The modules that the dynamic linker searches, in its order; fills at most
 * capacity. Where there is no link map (a static program, one that has not
 * got as far as its linker): the executable, then the order of addresses. */
size_t tap_entry_points_scope(struct tap_symbols *symbols, struct tap_memory *memory,
	struct tap_module **modules, size_t capacity);

/* Whose allocator a module that defines malloc has: "glibc", "musl",
 * "jemalloc", "tcmalloc", "mimalloc", "sanitizer", "other". */
const char *tap_entry_points_allocator(struct tap_module *module);

#endif
