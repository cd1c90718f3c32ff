/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAP_SESSION_ROOT_AREAS_H
#define TAP_SESSION_ROOT_AREAS_H

/*
 * Memory from which pointers may lead into the heap: what can be read and is in
 * no region that a walk of a heap understands. Whatever is doubtful is a root, so
 * that what nothing holds is never said in error.
 *
 * Not roots are: of a stack what lies below the red zone of its stack pointer
 * (psABI 3.2.2), and the stacks that glibc keeps of threads that have ended, but
 * for their control blocks, which hold what a thread returned.
 *
 * Where a stack begins and ends its control block says: struct pthread has
 * {stackblock, stackblock_size}, a pair of words that surrounds the stack pointer
 * and the block itself (nptl/descr.h; its place differs by version, and is
 * searched). Its thread id, at 720 in all versions, is 0 when the thread has ended,
 * -1 when it was joined.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/arch/regs.h"
#include "heaptap/base/vector.h"
#include "heaptap/memory/memory.h"
#include "heaptap/proc/maps.h"
#include "heaptap/proc/pagemap.h"
#include "heaptap/symbol/symbols.h"
#include "session/page_set.h"

enum root_area_kind {
	ROOT_MODULE, /* data of a module: its symbols may name an address in it */
	ROOT_STACK,  /* with the thread-local storage that lies in it */
	ROOT_OTHER,  /* other allocators, shared memory, thread-local storage */
};

struct root_area {
	uint64_t start; /* inclusive */
	uint64_t end;   /* exclusive */
	enum root_area_kind kind;
	bool copies_only; /* not writable: only where pages are the process's own copies */
	pid_t tid;        /* STACK: whose; else 0 */
	const char *name; /* the mapping's, "" for none; the maps' */
};
TAP_VECTOR_TYPE(root_areas, struct root_area);

/* regs: rsp; fs_base is 0 where it is not known. */
struct root_thread {
	pid_t tid;
	struct tap_regs regs;
};

struct root_place {
	const struct tap_maps *maps;
	struct tap_memory *memory;
	struct tap_pagemap *pagemap;
	struct tap_symbols *symbols; /* NULL: module data is told by its file alone */
};

/* Ascending, without overlap; free with tap_vector_free(). understood: settled.
 * The process stands still, or is a copy. */
void root_areas_find(const struct root_place *place, const struct root_thread *threads,
	size_t count, const struct page_set *understood, struct root_areas *ret);

/* Aligned words from addr on. False: enough. */
typedef bool (*root_words_fn)(void *context, const struct root_area *area, uint64_t addr,
	const uint64_t *words, size_t count);

/* Calls fn for what of the area is in memory, and in swap where swapped is set,
 * in pieces of 256 KiB at most. Returns how many bytes were in swap and left out. */
uint64_t root_area_scan(const struct root_place *place, const struct root_area *area, bool swapped,
	root_words_fn fn, void *context);

#endif
