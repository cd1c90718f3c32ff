/* SPDX-License-Identifier: Apache-2.0 */
#ifndef HEAPTAP_PROC_PAGEMAP_H
#define HEAPTAP_PROC_PAGEMAP_H

/* Which pages of a process exist, from /proc/PID/pagemap: reading one that
 * was never touched finds zeros and costs the process page tables. */

#include <stdint.h>
#include <sys/types.h>

struct tap_pagemap;

/* Never fails: where the file cannot be read, every page is taken to exist. */
struct tap_pagemap *tap_pagemap_open(pid_t pid);
void tap_pagemap_close(struct tap_pagemap *pagemap); /* takes NULL */

/* The first page from addr (a page's address) on, before end, that is in
 * memory or in swap; end where there is none. What was once looked at is not
 * read anew while the calls go upward. */
uint64_t tap_pagemap_next(struct tap_pagemap *pagemap, uint64_t addr, uint64_t end);

#endif
