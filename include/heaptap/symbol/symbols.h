/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_SYMBOL_SYMBOLS_H
#define HEAPTAP_SYMBOL_SYMBOLS_H

/*
 * The ELF modules of one address space and what is known of their addresses:
 * build ids, symbols, source lines with inlined frames, demangled names.
 *
 * Modules are opened through /proc/PID/map_files (the mapped file itself,
 * also where it was deleted or upgraded, and in any mount namespace); where
 * that is not permitted, by name below /proc/PID/root if device and inode
 * agree; else their ELF headers and .eh_frame are read from memory. The load
 * bias comes from the program headers (the PT_LOAD whose p_offset the mapping
 * shows), never from the lowest mapping alone.
 *
 * Separate debug files: by build id and .gnu_debuglink, below --debug-dir and
 * /usr/lib/debug, looked up only when lines or names are resolved. Nothing is
 * ever fetched.
 *
 * A tap_symbols and what it hands out belong to one thread at a time.
 *
 * Lookups by name and by address are cheap once a module was looked at;
 * resolving lines is not, and is never done while the target waits.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/base/error.h"
#include "heaptap/base/frame.h"
#include "heaptap/base/strings.h"
#include "heaptap/memory/memory.h"
#include "heaptap/proc/maps.h"

struct tap_symbols;

enum tap_debug_kind {
	TAP_DEBUG_NONE,
	TAP_DEBUG_DYNSYM,
	TAP_DEBUG_SYMTAB,
	TAP_DEBUG_FULL,
};

/* A loaded ELF file. Lives as long as its tap_symbols, also after it was
 * unmapped (retired): stacks taken earlier are resolved with it. */
struct tap_module {
	const char *path;     /* as in maps, from heaptap's view; "[vdso]" */
	const char *name;     /* last component of path */
	const char *build_id; /* lower-case hex, NULL where there is none */
	uint64_t start;       /* lowest address mapped, inclusive */
	uint64_t end;         /* highest, exclusive */
	uint64_t bias;        /* address = bias + p_vaddr */
	bool deleted;         /* its file has no name any more */
	bool from_memory;     /* the file could not be opened: read from memory */
	bool retired;         /* no longer mapped */
	bool executable;      /* the process's own executable */
	bool interpreter;     /* the dynamic linker */
};

struct tap_symbol {
	const char *name; /* raw; belongs to the tap_symbols */
	uint64_t addr;    /* biased; of an IFUNC: its resolver */
	uint64_t size_bytes;
	bool ifunc;
	bool dynamic;     /* from .dynsym (exported), else from .symtab */
	bool function;
};

/* debug_dir may be NULL. memory and debug_dir are kept and must outlive it. */
struct tap_error *tap_symbols_open(pid_t pid, struct tap_memory *memory, const struct tap_maps *maps,
	const char *debug_dir, struct tap_symbols **ret);
void tap_symbols_close(struct tap_symbols *symbols); /* takes NULL */

/* Takes in what is mapped now: new modules are added at the end, those that
 * went are retired. *changed_ret (may be NULL): anything new or gone. */
struct tap_error *tap_symbols_update(
	struct tap_symbols *symbols, const struct tap_maps *maps, bool *changed_ret);

size_t tap_symbols_count(const struct tap_symbols *symbols);
struct tap_module *tap_symbols_at_index(const struct tap_symbols *symbols, size_t index);
/* The module whose mapping holds addr (not retired ones, unless no other
 * does); NULL for none. */
struct tap_module *tap_symbols_module_at(const struct tap_symbols *symbols, uint64_t addr);

enum tap_debug_kind tap_module_debug(struct tap_module *module);

/* A defined symbol by its raw name; exported ones are preferred. */
bool tap_module_try_symbol(struct tap_module *module, const char *name, struct tap_symbol *ret);
/* Only what the dynamic linker could bind to (.dynsym, default version). */
bool tap_module_try_export(struct tap_module *module, const char *name, struct tap_symbol *ret);
/* Every defined symbol until fn returns false. */
void tap_module_each_symbol(struct tap_module *module,
	bool (*fn)(void *context, const struct tap_symbol *symbol), void *context);
/* Address (biased) and size of a section by name. */
bool tap_module_try_section(
	struct tap_module *module, const char *name, uint64_t *addr_ret, uint64_t *size_ret);
/* The bytes that the mapped file has at this address: what memory must hold
 * before anything is planted. UNSUPPORTED for modules read from memory,
 * NOT_FOUND outside of its file. */
struct tap_error *tap_module_file_bytes(
	struct tap_module *module, uint64_t addr, void *buf, size_t size_bytes);

/* The symbol that covers pc (raw name); false where there is none. */
bool tap_symbols_try_name(struct tap_symbols *symbols, uint64_t pc, struct tap_symbol *ret);
/* The extent of the function at pc, by its FDE, so that split functions
 * (hot/cold) have several; false where no FDE covers it. */
bool tap_symbols_try_extent(
	struct tap_symbols *symbols, uint64_t pc, uint64_t *start_ret, uint64_t *end_ret);

/* Frames at pc, innermost (most inlined) first, at least one, at most
 * capacity. is_call: pc is a return address, so the call before it is meant.
 * Names are demangled (C++, Rust). Strings go to the pool. */
size_t tap_symbols_resolve(struct tap_symbols *symbols, uint64_t pc, bool is_call,
	struct tap_strings *strings, struct tap_frame *frames, size_t capacity);

static inline void tap_symbols_cleanup(struct tap_symbols **symbols)
{
	tap_symbols_close(*symbols);
}
#define _cleanup_symbols_ __attribute__((cleanup(tap_symbols_cleanup)))

#endif
