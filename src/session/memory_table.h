/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAP_SESSION_MEMORY_TABLE_H
#define TAP_SESSION_MEMORY_TABLE_H

/*
 * What the resident memory of a process is: every page that is in memory is
 * counted once, so that the rows add up to RSS as /proc/PID/smaps sums it. A
 * page that allocators share is parted in proportion to what each has on it.
 *
 * First everything that the walks of the heaps see is told, in any order; runs
 * that ascend take no room. 24 bytes are kept for each page that blocks begin or
 * end on, and for each stretch of whole pages of one block. Then it is counted,
 * once.
 *
 * Pages of devices, of huge page file systems and of the kernel's [vvar] are
 * not counted, as in smaps.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "heaptap/base/error.h"
#include "heaptap/proc/maps.h"
#include "heaptap/proc/pagemap.h"

enum memory_owner {
	MEMORY_PYTHON,
	MEMORY_C,
	MEMORY_OWNERS,
};

/* Of each owner first what is live, then what is free. */
enum memory_row {
	MEMORY_PYTHON_LIVE,
	MEMORY_PYTHON_FREE,
	MEMORY_C_LIVE,
	MEMORY_C_FREE,
	MEMORY_CODE,  /* mapped files, and the process's copies of their pages */
	MEMORY_STACK, /* of the kernel's main stack, and what was told to be one */
	MEMORY_OTHER,
	MEMORY_ROWS,
};

/* All in bytes. */
struct memory_table {
	uint64_t rows[MEMORY_ROWS]; /* in memory */
	uint64_t rss;               /* their sum */
	uint64_t swapped;
	uint64_t reserved_not_resident; /* of live blocks: neither in memory nor in swap */
	uint64_t trimmable;             /* in memory */
};

struct memory_shares;

struct memory_shares *memory_shares_create(void);
void memory_shares_destroy(struct memory_shares *shares); /* takes NULL */

/* All ends are exclusive. The owner understands this stretch: what of it is not
 * told to be live is free. */
void memory_shares_add_region(
	struct memory_shares *shares, enum memory_owner owner, uint64_t start, uint64_t end);
/* A block, its header included; within a region. What is told twice counts once. */
void memory_shares_add_live(
	struct memory_shares *shares, enum memory_owner owner, uint64_t start, uint64_t end);
/* Whole pages that malloc_trim() would give back. */
void memory_shares_add_trimmable(struct memory_shares *shares, uint64_t start, uint64_t end);
void memory_shares_add_stack(struct memory_shares *shares, uint64_t start, uint64_t end);

/* Runs of pages as tap_pagemap_run() gives them. */
typedef bool (*memory_run_fn)(void *context, uint64_t addr, uint64_t end, struct tap_page_run *ret);

/* Over pages that next tells of. */
void memory_shares_count(struct memory_shares *shares, const struct tap_maps *maps,
	memory_run_fn next, void *context, struct memory_table *ret);
/* Over those of a process, whose maps these are. PERMISSION where its pages
 * cannot be told. */
struct tap_error *memory_shares_count_process(struct memory_shares *shares, pid_t pid,
	const struct tap_maps *maps, struct memory_table *ret);

#endif
