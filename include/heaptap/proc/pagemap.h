/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PROC_PAGEMAP_H
#define HEAPTAP_PROC_PAGEMAP_H

/* Which pages of a process exist, from /proc/PID/pagemap: reading one that
 * was never touched finds zeros and costs the process page tables. Facts:
 * Documentation/admin-guide/mm/pagemap.rst; PAGEMAP_SCAN from Linux 6.7 on. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct tap_pagemap;

/* Never fails: where the file cannot be read, every page is taken to exist. */
struct tap_pagemap *tap_pagemap_open(pid_t pid);
void tap_pagemap_close(struct tap_pagemap *pagemap); /* takes NULL */
bool tap_pagemap_is_readable(const struct tap_pagemap *pagemap);

/* The first page from addr (a page's address) on, before end, that is in
 * memory or in swap; end where there is none. What was once looked at is not
 * read anew while the calls go upward. */
uint64_t tap_pagemap_next(struct tap_pagemap *pagemap, uint64_t addr, uint64_t end);

enum tap_page_kind {
	TAP_PAGE_PRIVATE, /* in memory: anonymous, or the process's copy of a file's page */
	TAP_PAGE_FILE,    /* in memory: of a file, or of shared memory */
	TAP_PAGE_ZERO,    /* the system's page of zeros, for what was only read: not resident */
	TAP_PAGE_SWAPPED,
};

/* Pages of one kind that follow each other. */
struct tap_page_run {
	uint64_t start; /* inclusive, a page's address */
	uint64_t end;   /* exclusive */
	enum tap_page_kind kind;
};

/* The first run from addr (a page's address) on, cut at end; false where there
 * is none. One may be cut into several. Reads ahead, in pieces of a bounded size,
 * as long as the calls go upward with the same end. Before Linux 6.7 pages of
 * zeros are told by root alone, and count as private to others. */
bool tap_pagemap_run(
	struct tap_pagemap *pagemap, uint64_t addr, uint64_t end, struct tap_page_run *ret);

#endif
