/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdbool.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>
#include "heaptap/base/alloc.h"
#include "heaptap/proc/pagemap.h"
#include "heaptap/proc/root.h"

#define PAGE UINT64_C(4096)
#define ENTRIES 4096
/* Documentation/admin-guide/mm/pagemap.rst: present, swapped */
#define EXISTS (UINT64_C(3) << 62)

struct tap_pagemap {
	int fd;         /* -1: not readable */
	uint64_t first; /* page number */
	size_t count;
	uint64_t entries[ENTRIES];
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

static bool fill(struct tap_pagemap *pagemap, uint64_t page, uint64_t end)
{
	size_t wanted = end - page < ENTRIES ? (size_t)(end - page) : ENTRIES;
	ssize_t n = pread(pagemap->fd, pagemap->entries, wanted * 8, (off_t)(page * 8));

	pagemap->first = page;
	pagemap->count = n > 0 ? (size_t)n / 8 : 0;
	return pagemap->count > 0;
}

uint64_t tap_pagemap_next(struct tap_pagemap *pagemap, uint64_t addr, uint64_t end)
{
	uint64_t page = addr / PAGE, last = end / PAGE;

	if (pagemap->fd < 0)
		return addr < end ? addr : end;
	for (; page < last; page++) {
		if ((page < pagemap->first || page - pagemap->first >= pagemap->count) &&
			!fill(pagemap, page, last))
			return page * PAGE;
		if (pagemap->entries[page - pagemap->first] & EXISTS)
			return page * PAGE;
	}
	return end;
}
