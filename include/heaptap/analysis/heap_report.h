/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_ANALYSIS_HEAP_REPORT_H
#define HEAPTAP_ANALYSIS_HEAP_REPORT_H

/* The model of `heaptap report` and `heaptap types`: what the heap of a process holds at
 * one moment, and what holds it. Strings belong to the report's pool, and are
 * raw. Bytes of blocks are what the allocator takes for them; own bytes are
 * what the program asked for: sys.getsizeof() and the buffers of an object. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/analysis/stack_report.h"
#include "heaptap/analysis/verdict.h"
#include "heaptap/base/strings.h"
#include "heaptap/base/vector.h"
#include "heaptap/proc/process.h"

/* Resident bytes; the rows down to other add up to rss. UINT64_MAX: not known. */
struct tap_memory_table {
	uint64_t rss_bytes;
	uint64_t python_live_bytes, python_free_bytes;
	uint64_t c_live_bytes, c_free_bytes;
	uint64_t code_bytes, stack_bytes, other_bytes;
	uint64_t reserved_not_resident_bytes; /* live, and never touched */
	uint64_t swapped_bytes;
	uint64_t trimmable_bytes; /* of c_free_bytes: what malloc_trim() would give back */
};

struct tap_type_count {
	const char *type;
	uint64_t count;
};
TAP_VECTOR_TYPE(tap_type_count_list, struct tap_type_count);

TAP_VECTOR_TYPE(tap_name_list, const char *);

/* What retains a large share of the memory. */
struct tap_suspect {
	const char *name; /* what a programmer would type; never NULL */
	const char *kind; /* "list", "dict", "set", "deque", "lru_cache", "instance", "closure",
	                   * "module", "type", "array", "native" */
	const char *type; /* of the object; NULL where it is none */
	uint64_t address; /* 0: of many instances */
	struct tap_name_list path; /* from the root, a step each */
	uint64_t retained_bytes;   /* of blocks, that would be freed with it */
	uint64_t own_bytes;
	double share;     /* of all live bytes of blocks, 0 to 1 */
	int64_t items;    /* len(), or how many instances; -1: has none */
	struct tap_type_count_list item_types; /* largest first */
	const char *note; /* "maxsize None, 12 hits, 4,000 misses"; NULL: none */
};
TAP_VECTOR_TYPE(tap_suspect_list, struct tap_suspect);

/* Blocks of one size that nothing holds. */
struct tap_lost_group {
	uint64_t size_bytes;
	uint64_t count;
	uint64_t bytes;
	const char *preview; /* of one of them, cleaned; NULL: empty */
};
TAP_VECTOR_TYPE(tap_lost_group_list, struct tap_lost_group);

struct tap_unreachable {
	uint64_t c_blocks, c_bytes;
	uint64_t interior_blocks; /* of c_blocks: none; held by a pointer into their middle alone */
	struct tap_lost_group_list groups; /* largest first */
	uint64_t python_objects, python_bytes;
	struct tap_type_count_list python_types; /* most first */
};

struct tap_heap_type {
	const char *type;
	uint64_t count;
	uint64_t own_bytes;
	uint64_t retained_bytes; /* by all instances together */
	int64_t count_change, own_change; /* with --growth, else 0 */
};
TAP_VECTOR_TYPE(tap_heap_type_list, struct tap_heap_type);

struct tap_fd_group {
	const char *target;
	uint64_t count;
};
TAP_VECTOR_TYPE(tap_fd_group_list, struct tap_fd_group);

struct tap_fds {
	uint64_t count;
	uint64_t limit; /* UINT64_MAX: not known, or none */
	struct tap_fd_group_list groups; /* most first */
};

/* How much of the heap was read. */
struct tap_heap_walk_result {
	bool complete;
	uint64_t blocks, objects;
	double seconds;
	const char *stopped_by; /* NULL where it is complete */
};

struct tap_heap_report {
	struct tap_process process;
	double pause_s;
	bool in_place;       /* no copy was taken: the process stood still all the time */
	struct tap_verdict verdict;
	struct tap_memory_table memory;
	struct tap_suspect_list suspects; /* largest first */
	struct tap_unreachable unreachable;
	struct tap_heap_type_list types;  /* largest own bytes first */
	bool growth;         /* types have changes */
	struct tap_fds fds;
	struct tap_stack_report stacks;  /* of its threads, just before */
	struct tap_heap_walk_result walk;
	struct tap_name_list notes; /* sentences: what was not read, and why */
	struct tap_strings *strings;
};

void tap_heap_report_deinit(struct tap_heap_report *report);

#endif
