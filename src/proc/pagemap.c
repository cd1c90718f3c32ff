/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/base/cleanup.h"
#include "heaptap/proc/pagemap.h"
#include "heaptap/proc/root.h"
#include "page_scan.h"

#define PAGE UINT64_C(4096)
#define ENTRIES 4096
/* Documentation/admin-guide/mm/pagemap.rst: present, swapped, of a file, guard
 * (which looks swapped), number of the page frame. */
#define PRESENT (UINT64_C(1) << 63)
#define SWAPPED (UINT64_C(1) << 62)
#define OF_FILE (UINT64_C(1) << 61)
#define GUARD (UINT64_C(1) << 58)
#define FRAME ((UINT64_C(1) << 55) - 1)
#define EXISTS (PRESENT | SWAPPED)

struct tap_pagemap {
	int fd;         /* -1: not readable */
	uint64_t first; /* page number */
	size_t count;
	uint64_t entries[ENTRIES];
	struct tap_page_scan scan;
	uint64_t zero_frame; /* 0: not looked for, or not told; see zero_known */
	bool zero_known;
};

struct tap_pagemap *tap_pagemap_open(pid_t pid)
{
	struct tap_pagemap *pagemap = tap_alloc(sizeof(*pagemap));
	char path[PATH_MAX];

	pagemap->fd = open(tap_proc_path(path, sizeof(path), pid, "pagemap"), O_RDONLY | O_CLOEXEC);
	return pagemap;
}

void tap_pagemap_close(struct tap_pagemap *pagemap)
{
	if (!pagemap)
		return;
	if (pagemap->fd >= 0)
		close(pagemap->fd);
	free(pagemap);
}

bool tap_pagemap_is_readable(const struct tap_pagemap *pagemap)
{
	return pagemap->fd >= 0;
}

static bool fill(struct tap_pagemap *pagemap, uint64_t page, uint64_t end)
{
	size_t wanted = end - page < ENTRIES ? (size_t)(end - page) : ENTRIES;
	ssize_t n = pread(pagemap->fd, pagemap->entries, wanted * 8, (off_t)(page * 8));

	pagemap->first = page;
	pagemap->count = n > 0 ? (size_t)n / 8 : 0;
	return pagemap->count > 0;
}

static inline bool is_filled(const struct tap_pagemap *pagemap, uint64_t page)
{
	return page >= pagemap->first && page - pagemap->first < pagemap->count;
}

uint64_t tap_pagemap_next(struct tap_pagemap *pagemap, uint64_t addr, uint64_t end)
{
	uint64_t page = addr / PAGE, last = end / PAGE;

	if (pagemap->fd < 0)
		return addr < end ? addr : end;
	for (; page < last; page++) {
		if (!is_filled(pagemap, page) && !fill(pagemap, page, last))
			return page * PAGE;
		if (pagemap->entries[page - pagemap->first] & EXISTS)
			return page * PAGE;
	}
	return end;
}

/* The frame of the page of zeros, which a page of ours that was only read shows. */
static uint64_t find_zero_frame(void)
{
	_cleanup_close_ int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	volatile char *page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t entry = 0;

	if (page == MAP_FAILED)
		return 0;
	(void)page[0];
	if (fd < 0 || pread(fd, &entry, sizeof(entry), (off_t)((uintptr_t)page / PAGE * 8)) !=
			      (ssize_t)sizeof(entry))
		entry = 0;
	munmap((void *)page, PAGE);
	return entry & FRAME;
}

static bool kind_of(const struct tap_pagemap *pagemap, uint64_t entry, enum tap_page_kind *kind_ret)
{
	if (!(entry & EXISTS) || ((entry & SWAPPED) && (entry & GUARD)))
		return false;
	if (entry & SWAPPED)
		*kind_ret = TAP_PAGE_SWAPPED;
	else if (entry & OF_FILE)
		*kind_ret = TAP_PAGE_FILE;
	else if (pagemap->zero_frame && (entry & FRAME) == pagemap->zero_frame)
		*kind_ret = TAP_PAGE_ZERO;
	else
		*kind_ret = TAP_PAGE_PRIVATE;
	return true;
}

/* Entry by entry: a run ends with what was read at once. */
static bool next_run(
	struct tap_pagemap *pagemap, uint64_t page, uint64_t last, struct tap_page_run *ret)
{
	enum tap_page_kind kind;

	if (!pagemap->zero_known)
		pagemap->zero_frame = find_zero_frame();
	pagemap->zero_known = true;
	for (;; page++) {
		if (page >= last || (!is_filled(pagemap, page) && !fill(pagemap, page, last)))
			return false;
		if (kind_of(pagemap, pagemap->entries[page - pagemap->first], &ret->kind))
			break;
	}
	ret->start = page * PAGE;
	do
		page++;
	while (page < last && is_filled(pagemap, page) &&
		kind_of(pagemap, pagemap->entries[page - pagemap->first], &kind) &&
		kind == ret->kind);
	ret->end = page * PAGE;
	return true;
}

bool tap_pagemap_run(
	struct tap_pagemap *pagemap, uint64_t addr, uint64_t end, struct tap_page_run *ret)
{
	bool found;

	if (addr >= end)
		return false;
	if (pagemap->fd < 0) {
		*ret = (struct tap_page_run){addr, end, TAP_PAGE_PRIVATE};
		return true;
	}
	if (tap_page_scan_next(&pagemap->scan, pagemap->fd, addr, end, ret, &found))
		return found;
	return next_run(pagemap, addr / PAGE, end / PAGE, ret);
}
