/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TAP_PROC_PAGE_SCAN_H
#define TAP_PROC_PAGE_SCAN_H

/*
 * Runs of pages by the PAGEMAP_SCAN request (Linux 6.7 and later), which passes
 * over what was never touched and tells the page of zeros, also a huge one.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "heaptap/proc/pagemap.h"

#define TAP_PAGE_SCAN_REGIONS 512

/* struct page_region of <linux/fs.h>. */
struct tap_page_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

/* Zero-initialised it has seen nothing. */
struct tap_page_scan {
	bool refused;        /* this kernel has no such request */
	uint64_t guard;      /* the category of guard pages, from 6.15 on */
	uint64_t start, end; /* what was looked at */
	struct tap_page_region regions[TAP_PAGE_SCAN_REGIONS];
	size_t count;
	size_t at; /* where the last call found its answer */
};

/* As tap_pagemap_run(), its result in *found_ret. False: not by this way. */
bool tap_page_scan_next(struct tap_page_scan *scan, int fd, uint64_t addr, uint64_t end,
	struct tap_page_run *ret, bool *found_ret);

#endif
