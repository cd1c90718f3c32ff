/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/ioctl.h>
#include "page_scan.h"

/* From <linux/fs.h>, which older systems have without it. */
#define IS_FILE (UINT64_C(1) << 2)
#define IS_PRESENT (UINT64_C(1) << 3)
#define IS_SWAPPED (UINT64_C(1) << 4)
#define IS_ZERO (UINT64_C(1) << 5)
#define IS_GUARD (UINT64_C(1) << 8)

struct scan_request {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end; /* told: where it ended */
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

#define SCAN _IOWR('f', 16, struct scan_request)

static int request(struct tap_page_scan *scan, int fd, uint64_t addr, uint64_t end)
{
	struct scan_request request = {
		.size = sizeof(request),
		.start = addr,
		.end = end,
		.vec = (uintptr_t)scan->regions,
		.vec_len = TAP_PAGE_SCAN_REGIONS,
		.category_anyof_mask = IS_PRESENT | IS_SWAPPED,
		.return_mask = IS_FILE | IS_PRESENT | IS_SWAPPED | IS_ZERO | scan->guard,
	};
	int count = ioctl(fd, SCAN, &request);

	if (count < 0)
		return -1;
	scan->start = addr;
	scan->end = request.walk_end > addr && request.walk_end < end ? request.walk_end : end;
	scan->count = count < TAP_PAGE_SCAN_REGIONS ? (size_t)count : TAP_PAGE_SCAN_REGIONS;
	scan->at = 0;
	return 0;
}

/* The first request tells whether guard pages are known. */
static bool fill(struct tap_page_scan *scan, int fd, uint64_t addr, uint64_t end)
{
	bool first = !scan->end;

	if (first)
		scan->guard = IS_GUARD;
	if (!request(scan, fd, addr, end))
		return true;
	scan->guard = first ? 0 : scan->guard;
	if (first && errno == EINVAL && !request(scan, fd, addr, end))
		return true;
	scan->refused = errno == ENOTTY || errno == EINVAL;
	return false;
}

static enum tap_page_kind kind_of(uint64_t categories)
{
	if (categories & IS_SWAPPED)
		return TAP_PAGE_SWAPPED;
	if (categories & IS_ZERO)
		return TAP_PAGE_ZERO;
	return categories & IS_FILE ? TAP_PAGE_FILE : TAP_PAGE_PRIVATE;
}

/* Among what was looked at. */
static bool find(struct tap_page_scan *scan, uint64_t addr, uint64_t end, struct tap_page_run *ret)
{
	for (; scan->at < scan->count; scan->at++) {
		const struct tap_page_region *region = &scan->regions[scan->at];

		if (region->end <= addr || (region->categories & IS_GUARD))
			continue;
		if (region->start >= end)
			return false;
		ret->start = region->start > addr ? region->start : addr;
		ret->end = region->end < end ? region->end : end;
		ret->kind = kind_of(region->categories);
		return true;
	}
	return false;
}

bool tap_page_scan_next(struct tap_page_scan *scan, int fd, uint64_t addr, uint64_t end,
	struct tap_page_run *ret, bool *found_ret)
{
	*found_ret = false;
	while (!scan->refused && addr < end && !*found_ret) {
		if (addr < scan->start || addr >= scan->end) {
			if (!fill(scan, fd, addr, end))
				return !scan->refused;
		} else if (scan->at && scan->regions[scan->at - 1].end > addr) {
			scan->at = 0; /* the calls went back */
		}
		*found_ret = find(scan, addr, scan->end < end ? scan->end : end, ret);
		addr = scan->end;
	}
	return !scan->refused;
}
