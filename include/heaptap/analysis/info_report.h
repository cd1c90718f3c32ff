/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ANALYSIS_INFO_REPORT_H
#define HEAPTAP_ANALYSIS_INFO_REPORT_H

/* The model of `heaptap info`: what heaptap can see of a process, and what to
 * do about what is missing. Strings belong to the report's pool. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/base/strings.h"
#include "heaptap/base/vector.h"
#include "heaptap/proc/cgroup.h"
#include "heaptap/proc/process.h"

enum tap_runtime_kind {
	TAP_RUNTIME_UNKNOWN, /* memory could not be read */
	TAP_RUNTIME_NATIVE,
	TAP_RUNTIME_CPYTHON,
	TAP_RUNTIME_GO,
	TAP_RUNTIME_JVM,
	TAP_RUNTIME_NODE,
	TAP_RUNTIME_PYPY,
};

struct tap_info_allocator {
	const char *module;
	const char *kind; /* "glibc", "musl", "jemalloc", "tcmalloc", "mimalloc", "pymalloc", ... */
	TAP_VECTOR(const char *) symbols;
};

/* How calls of an entry point are seen. */
enum tap_entry_how {
	TAP_ENTRY_NONE, /* not seen; the reason says why */
	TAP_ENTRY_JUMP,
	TAP_ENTRY_TABLE,
	TAP_ENTRY_BREAKPOINT,
};

struct tap_entry_point {
	const char *module;
	const char *symbol;
	enum tap_entry_how how;
	const char *reason; /* NULL where there is nothing to say */
	uint64_t addr;
	uint64_t calls;     /* seen in a trace; 0 in info */
};

TAP_VECTOR_TYPE(tap_entry_point_list, struct tap_entry_point);

struct tap_info_symbols {
	const char *module;
	const char *build_id; /* NULL where there is none */
	const char *debug;    /* "full", "symtab", "dynsym", "none" */
};

struct tap_info_report {
	struct tap_process process;
	struct {
		bool allowed;
		const char *reason; /* NULL where allowed */
		const char *advice;
	} attach;
	struct {
		enum tap_runtime_kind kind;
		const char *version; /* NULL where unknown */
		bool supported;      /* its own memory and frames are read, not its native part alone */
		const char *reason;  /* NULL where supported */
	} runtime;
	TAP_VECTOR(struct tap_info_allocator) allocators;
	struct tap_entry_point_list entry_points;
	TAP_VECTOR(struct tap_info_symbols) symbols;
	struct tap_cgroup cgroup;
	const char *left_behind; /* what a heaptap that was killed left in the process, or NULL */
	struct tap_strings *strings;
};

/* "cpython", "native", ... */
const char *tap_runtime_kind_name(enum tap_runtime_kind kind);
/* "jump", "table", "breakpoint"; NULL for none */
const char *tap_entry_how_name(enum tap_entry_how how);

void tap_info_report_deinit(struct tap_info_report *report);

#endif
